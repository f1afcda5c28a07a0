"""coffea through time: its releases, an exact environment for each, and the cost of workloads in them."""
