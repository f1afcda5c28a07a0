"""Clocks, memory, machine and paired measurements: no pydantic, for old environments."""
