"""Made-up records of the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perf.limits.rounds import Cell
from perf.limits.sides import Side, processor
from perf.records.record_file import Input
from tests.support.factories import record

if TYPE_CHECKING:
    from perf.records.limits import Part
    from perf.records.record_file import Record

IDENTITY = Input(digest="d" * 64, events=1_000, source="made up")


def of_part(part: Part, *seconds: float, **changes: Any) -> Record:
    """A part of a limit in each of some processes, of 1,000 events."""
    return of_side(Side(task=part), *seconds, **changes)


def of_side(side: Side, *seconds: float, codec: str = "zstd", **changes: Any) -> Record:
    what = Cell({}, IDENTITY, (), codec=codec).what(side)
    return record(**dict(what), cpu_seconds=seconds, wall_seconds=seconds, **changes)


def a_run(times: int = 1, **changes: Any) -> list[Record]:
    """Three processes, so many times: the limit is 4, 5 and 6 us an event, 1 more with whole baskets."""

    def part(name: Part, *seconds: float) -> Record:
        return of_part(name, *times * seconds, **changes)

    def run(side: Side, *seconds: float) -> Record:
        return of_side(side, *times * seconds, **changes)

    return [
        part("read", 1e-3, 1e-3, 2e-3),
        part("data", 2e-3, 3e-3, 3e-3),
        part("whole", 3e-3, 4e-3, 4e-3),
        part("compute", 1e-3, 1e-3, 1e-3),
        run(processor("compiled"), 8e-3, 10e-3, 12e-3),
        run(processor("compiled", 50_000), 16e-3, 20e-3, 24e-3),
        run(processor("columnar"), 12e-3, 20e-3, 12e-3),
    ]
