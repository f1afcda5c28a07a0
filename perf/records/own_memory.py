"""Which peak memory is that of what was measured, and not of others in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from perf.records.from_asv import ASV

if TYPE_CHECKING:
    from perf.records.record_file import Record

FRESH: Final = ("history-", "scale-", "claim-")
"""Prefixes of what has a process of its own, and memory of its own, if it is no kernel."""


def own_memory(record: Record) -> int | None:
    """Peak memory, if it was measured in a process of its own."""
    what = record.what
    own = what.name.startswith(FRESH) and what.kind in {"import", "processor"}
    return record.peak_memory if own or what.name.startswith(ASV) else None
