"""The command line of the analysis: one module for each group of commands, put together in `_app`."""
