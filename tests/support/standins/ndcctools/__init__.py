"""Stand-in for the package of TaskVine, which conda has and pip has not."""
