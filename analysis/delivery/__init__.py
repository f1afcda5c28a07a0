"""Delivery of input files by ServiceX: queries, a safe `deliver`, and an endpoint of its own."""
