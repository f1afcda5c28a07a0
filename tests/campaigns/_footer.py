"""The end of a campaign's report: how to run it again, and what ran it."""

from __future__ import annotations

import sys

from perf.records import provenance
from perf.records.table import made_with


def footer(campaign: str, *packages: str) -> str:
    """Command line, versions (of these packages as well) and machine, a line each."""
    command = " ".join(["python", "-m", f"tests.campaigns.{campaign}", *sys.argv[1:]])
    return f"{command}\n{made_with(provenance.versions(*packages), provenance.machine())}"
