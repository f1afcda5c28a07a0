"""Throughput by executor, number of workers and chunk size, and the laws fitted to it."""
