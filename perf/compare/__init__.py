"""Comparison of two versions, measured side by side until it can be decided."""
