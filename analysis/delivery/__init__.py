"""Delivery of input files by ServiceX: queries, and a client that checks what it gets."""
