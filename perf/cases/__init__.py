"""The catalogue: every case that is measured, by subject."""
