"""coffea through time: its releases, an exact environment for each, and what acts cost in them."""
