"""Campaigns: many trials at random, seeded, whose table goes to reports/. `make` runs them."""
