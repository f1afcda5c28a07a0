"""File servers on loopback, and a proxy that adds latency."""
