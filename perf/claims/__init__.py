"""Claims: ratios measured side by side in one run, each of which can be refuted."""
