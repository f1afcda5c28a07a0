"""Input files and results: file sets, looking at files before work, and writing whole or not at all."""
