"""Tests of the suite that measures."""
