"""Reproduce: every command, every machine and its versions, and what is void."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import typer

from analysis.cli._app import app
from perf.publish import commands
from perf.publish.page import Material, Page
from perf.records.provenance import SUITE
from perf.records.table import made_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perf.records.record_file import Record

MAIN: Final = ("python", "coffea", "awkward", "uproot", "numba", "numpy", "hist", "distributed")
"""Packages whose versions have a column; the others are named below it."""


def _context(material: Material) -> Mapping[str, Any]:
    of_analysis = commands.of_group("python -m analysis", typer.main.get_command(app))
    groups = {
        "make": commands.make_targets(),
        "perf": material.commands,
        "analysis": [*of_analysis],
    }
    return {
        "commands": {name: [asdict(each) for each in of] for name, of in groups.items()},
        "machines": _machines(material.records),
        "machine": material.machine,
        "packages": MAIN,
        "versions": _versions(material.records),
        "voids": [
            {"benchmark": void.benchmark, "since": void.since.isoformat(), "reason": void.reason}
            for void in sorted(material.voids, key=lambda void: (void.since, void.benchmark))
        ],
    }


def _machines(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Machines with what they are, the days of their measurements and how many there are."""
    found: dict[tuple[str, str, int | None], list[Record]] = {}
    for record in records:
        machine = record.machine
        found.setdefault((machine.name, machine.cpu, machine.cores), []).append(record)
    return [
        {
            "name": name,
            "about": made_with({}, of[-1].machine).splitlines()[-1].partition(": ")[2],
            "python": sorted({record.machine.python for record in of}),
            "first": f"{of[0].timestamp:%Y-%m-%d}",
            "last": f"{of[-1].timestamp:%Y-%m-%d}",
            "records": len(of),
        }
        for (name, _, _), of in found.items()
    ]


def _versions(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each set of versions that was measured, the newest first, with its machines.

    That of this suite, which changes with every commit, makes no set of its own.
    """
    found: dict[frozenset[tuple[str, str]], list[Record]] = {}
    for record in records:
        own = (SUITE, record.versions.get(SUITE, ""))
        found.setdefault(frozenset(record.versions.items() - {own}), []).append(record)
    sets = [(dict(sorted(versions)), of) for versions, of in found.items()]
    sets.sort(key=lambda each: max(record.timestamp for record in each[1]), reverse=True)
    return [
        {
            "main": [versions.get(name) for name in MAIN],
            "others": {name: one for name, one in versions.items() if name not in MAIN},
            "machines": sorted({record.machine.name for record in of}),
            "last": f"{max(record.timestamp for record in of):%Y-%m-%d}",
            "records": len(of),
        }
        for versions, of in sets
    ]


PAGE: Final = Page("reproduce", "Reproduce", _context)
