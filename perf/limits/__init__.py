"""The limit of the machine, and processors beside it: in fresh processes, in random order."""
