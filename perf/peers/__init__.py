"""The same queries in other tools, each as a good user of it writes them, beside ours.

A peer is a module with two functions: ``run(path, query)`` gives the counts of the histograms of a
`query.Query`, and ``versions()`` the versions of its packages. `worker` calls them in a process of
the peer's own environment, on one thread; `processes` starts that process and lists the peers.
"""
