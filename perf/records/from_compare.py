"""Reports of comparisons as records."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from perf.records.digest import result_digest
from perf.records.record_file import Input, Machine, Record, What
from perf.records.releases import is_release
from perf.records.unreadable import understood

if TYPE_CHECKING:
    from pathlib import Path

_KERNEL: Final = re.compile(
    r"(?P<subject>\w+)(-(?P<size>[\de]+))?-(?P<implementation>reference|columnar|compiled)"
)
"""Names of kernels in a comparison."""


def compared(path: Path) -> list[Record]:
    """A report of ``python -m perf compare --json`` as records of times and instructions.

    Only releases are part of the history: not a checkout, nor a side with variables of its own.
    """
    with understood(path, "report of `python -m perf compare --json`"):
        report = json.loads(path.read_text())
        machine = Machine.model_validate(report["machine"])
        ended = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        records = []
        for name, measured in report["benchmarks"].items():
            what = _compared_what(name)
            for side, columns in (("A", (0, 1)), ("B", (2,))):
                about = report["sides"][side]
                if about["variables"] or not is_release(about["name"].removeprefix("v")):
                    continue
                # One number for each counted call, or text that says why there are none.
                counted = (measured.get("instructions") or {}).get(side)
                counts = counted if isinstance(counted, list) else []
                cpu, wall = (
                    tuple(math.exp(block[column]) for block in measured[key] for column in columns)
                    for key in ("log_cpu_seconds", "log_wall_seconds")
                )
                if not (cpu or counts):
                    continue
                records.append(
                    Record(
                        run=f"compare {path.stem}",
                        timestamp=ended,
                        what=what,
                        input=Input(
                            digest=result_digest(name), events=what.size, source="compare"
                        ),
                        versions={
                            "python": machine.python.split(" ")[-1],
                            **about["installed"],
                        },
                        machine=machine,
                        load_before=report["load"],
                        load_after=report["load"],
                        iterations=measured["loops"] or 1,
                        cpu_seconds=cpu,
                        wall_seconds=wall,
                        counts={"instructions": tuple(map(float, counts))} if counts else {},
                        check=None,
                    )
                )
    return records


def _compared_what(name: str) -> What:
    matched = _KERNEL.fullmatch(name)
    if matched is None:
        return What(
            name=f"compare-{name}", group=f"compare {name}", kind="events", subject=name, size=0
        )
    return What(
        name=f"compare-{name}",
        group=f"compare {matched['subject']}",
        kind="kernel",
        subject=matched["subject"],
        implementation=matched["implementation"],
        size=int(float(matched["size"] or 0)),
    )
