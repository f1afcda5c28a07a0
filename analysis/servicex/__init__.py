"""A local ServiceX endpoint: the protocol of the real one, on this machine."""
