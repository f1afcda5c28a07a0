"""The command line of the suite: one module for each group of commands, put together in `_app`."""
