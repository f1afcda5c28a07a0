"""Real hosts on one machine, of Linux's namespaces, and what executors take on them."""
