"""Reports of comparisons as records."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from perf.records.compressed import decompressed
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

_FOLDERS: Final = re.compile(r"(?<![\w.])/(\S*/)?")
"""Folders of an absolute path."""

_SLUG: Final = re.compile(r"[^\w.+-]+")


def report(path: Path) -> dict[str, Any]:
    """A report of ``python -m perf compare --json``, with the time at which it ended."""
    with understood(path, "report of `python -m perf compare --json`"):
        content, _ = decompressed(path)
        made: dict[str, Any] = json.loads(content)
        # Older reports do not say when they were made.
        made.setdefault("ended", datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat())
        # Where a checkout is concerns this machine alone.
        for side in made["sides"].values():
            side["name"] = _FOLDERS.sub("", side["name"])
            for name, value in side["variables"].items():
                side["variables"][name] = _FOLDERS.sub("", value)
        records(made)
    return made


def identity(made: dict[str, Any]) -> str:
    """Name and digest of what a report compares, and where: two of one identity are repetitions."""
    sides, machine = [made["sides"][side] for side in "AB"], made["machine"]
    compared = [(side["name"], side["variables"]) for side in sides]
    digest = result_digest(repr([compared, machine["cpu"], sorted(made["benchmarks"])]))
    names = [side["name"].removeprefix("v") for side in sides]
    return _SLUG.sub("_", "-".join(["compare", *names, machine["name"], digest[:6]]))


def records(made: dict[str, Any]) -> list[Record]:
    """A report as records of times and instructions.

    Only releases are part of the history: not a checkout, nor a side with variables of its own.
    """
    machine = Machine.model_validate(made["machine"])
    found = []
    for name, measured in made["benchmarks"].items():
        what = _compared_what(name)
        for side, columns in (("A", (0, 1)), ("B", (2,))):
            about = made["sides"][side]
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
            found.append(
                Record(
                    run=f"{identity(made)} {made['ended']}",
                    timestamp=datetime.fromisoformat(made["ended"]),
                    what=what,
                    input=Input(digest=result_digest(name), events=what.size, source="compare"),
                    versions={"python": machine.python.split(" ")[-1], **about["installed"]},
                    machine=machine,
                    load_before=made["load"],
                    load_after=made["load"],
                    iterations=measured["loops"] or 1,
                    cpu_seconds=cpu,
                    wall_seconds=wall,
                    counts={"instructions": tuple(map(float, counts))} if counts else {},
                    check=None,
                )
            )
    return found


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
