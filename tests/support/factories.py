"""Made-up records and reports, for tests."""

from __future__ import annotations

import math
from typing import Any

from perf.records.record_file import Input, Machine, Record, What


def record(**changes: Any) -> Record:
    """A record of 1000 events in 2 ms wall and 1 ms CPU time; `changes` to it or to its What."""
    what: dict[str, Any] = {
        "name": "ht-1e3-columnar",
        "group": "ht",
        "kind": "kernel",
        "subject": "ht",
        "implementation": "columnar",
        "size": 1_000,
    }
    content: dict[str, Any] = {
        "run": "0123456789abcdef",
        "input": Input(digest="d" * 64, events=1_000, source="made up"),
        "versions": {"python": "3.11", "coffea": "2026.9.0"},
        "machine": Machine(
            name="made-up", cpu="none", cores=2, memory=2**34, kernel="Linux 6", python="CPython"
        ),
        "load_before": 0.5,
        "load_after": 0.6,
        "iterations": 3,
        "wall_seconds": (0.002, 0.001, 0.003),
        "cpu_seconds": (0.001, 0.0009, 0.0011),
        "peak_memory": 10**8,
        "check": "c" * 64,
    }
    what |= {name: value for name, value in changes.items() if name in What.model_fields}
    content |= {name: value for name, value in changes.items() if name not in What.model_fields}
    return Record(what=What(**what), **content)


def compare_report(name: str, **side: Any) -> dict[str, Any]:
    """As `python -m perf compare --json` writes it, of A in 1 ms and B in 2 ms."""
    about = {"name": "2025.12.0", "installed": {"coffea": "2025.12.0"}, "variables": {}}
    blocks = [[math.log(1e-3), math.log(1e-3), math.log(2e-3)]] * 4
    return {
        "sides": {"A": about, "B": {**about, "name": name, "installed": {"coffea": name}, **side}},
        "benchmarks": {
            "ht-columnar": {
                "loops": 3,
                "log_cpu_seconds": blocks,
                "log_wall_seconds": blocks,
                "instructions": {"A": [101, 100, 100], "B": [200, 200, 200]},
            }
        },
        "machine": record().machine.model_dump() | {"python": "CPython 3.11.7"},
        "load": 0.5,
    }
