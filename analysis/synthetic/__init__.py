"""Deterministic synthetic CMS NanoAOD: events with realistic physics, and a writer of files."""

from __future__ import annotations

from analysis.synthetic.columns import digest
from analysis.synthetic.events import GENERATOR_VERSION, SLIM_BRANCHES, generate
from analysis.synthetic.writer import COMPRESSION_LEVELS, FORMATS, write_fileset

__all__ = [
    "COMPRESSION_LEVELS",
    "FORMATS",
    "GENERATOR_VERSION",
    "SLIM_BRANCHES",
    "digest",
    "generate",
    "write_fileset",
]
