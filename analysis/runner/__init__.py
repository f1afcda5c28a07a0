"""From a file set to histograms: the job, coffea's Runner, and what counts and merges chunks."""
