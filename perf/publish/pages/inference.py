"""Inference and delivery: fits by backend, stages of the whole, and readers by distance."""

from __future__ import annotations

from itertools import groupby
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from perf.cases.reading import SERVERS
from perf.cases.workflow import STAGES
from perf.publish import numbers
from perf.publish.newest import how, judged, newest
from perf.publish.page import Material, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from perf.publish.newest import Measured, Newest
    from perf.records.record_file import Record

COMMAND: Final = "pytest perf/bench_{}.py --benchmark-only --benchmark-scale full"
CLAIMS_COMMAND: Final = "python -m perf claims --only fit --only selection"
HERE: Final = ("local", "servicex")
"""Routes by which events are read from this machine."""

TASKS: Final = ("build", "fit", "hypotest", "limit")


def _context(material: Material) -> Mapping[str, Any]:
    return {
        "fits": _section(material, "inference", _has("inference", "backend", "optimizer"), _fits),
        "whole": _section(material, "whole", _has("whole"), _whole),
        "reading": _section(
            material, "reading", _has("processor", "route", "handler", "milliseconds"), _reading
        ),
        "delivery": _section(material, "delivery", _has("delivery", "query", "format"), _delivery),
        "claims": judged(material.records, {"inference", "selection"}, CLAIMS_COMMAND),
    }


def _has(kind: str, *parameters: str) -> Callable[[Record], bool]:
    """Whether a record is of a kind and has what the page names; those of claims have verdicts."""

    def wanted(record: Record) -> bool:
        what = record.what
        return (
            what.kind == kind and not record.claims and set(parameters) <= what.parameters.keys()
        )

    return wanted


def _section(
    material: Material,
    bench: str,
    wanted: Callable[[Record], bool],
    shown: Callable[[Newest], list[dict[str, Any]]],
) -> dict[str, Any]:
    """What one machine measured, in groups, and how; without groups if nothing is measured."""
    found, command = newest(material, "wall", wanted), COMMAND.format(bench)
    return {
        "machine": found.machine,
        "others": found.others,
        "groups": shown(found),
        "command": command,
        "how": how(found.measured, command),
    }


def _grouped(
    measured: Iterable[Measured], key: Callable[[Measured], tuple[Any, ...]]
) -> Iterable[tuple[tuple[Any, ...], list[Measured]]]:
    ordered = sorted(measured, key=key)
    return ((group, list(members)) for group, members in groupby(ordered, key=key))


def _fits(found: Newest) -> list[dict[str, Any]]:
    """A group for each task, process and source of templates; a row for each backend and optimiser."""

    def key(each: Measured) -> tuple[Any, ...]:
        what = each.record.what
        more = what.parameters
        known = TASKS.index(what.subject) if what.subject in TASKS else len(TASKS)
        # Where a file of templates is concerns the machine alone.
        templates = PurePath(each.record.input.source).name
        return known, what.subject, more["process"], more.get("source", ""), templates

    groups = []
    for (_, task, process, _, templates), members in _grouped(found.measured, key):
        rows = [
            {
                "backend": str(each.record.what.parameters["backend"]),
                "optimizer": str(each.record.what.parameters["optimizer"]),
                **each.as_json(),
            }
            for each in sorted(members, key=lambda each: each.estimate.value)
        ]
        chart = _dots({f"{row['backend']}, {row['optimizer']}": row for row in rows})
        about = {"task": task, "process": process, "templates": templates}
        groups.append({**about, "rows": rows, "chart": chart})
    return groups


def _whole(found: Newest) -> list[dict[str, Any]]:
    """A group for each number of events, its stages in their order, and how long they took in all."""

    def key(each: Measured) -> tuple[Any, ...]:
        return each.record.what.size, each.record.what.workers

    groups = []
    for (events, workers), members in _grouped(found.measured, key):
        order = {name: place for place, name in enumerate(STAGES)}
        members.sort(key=lambda each: order.get(each.record.what.subject, len(order)))  # type: ignore[call-overload]
        total = sum(each.estimate.value for each in members)
        rows = [
            {
                "stage": each.record.what.subject,
                **each.as_json(),
                "share": each.estimate.value / total,
            }
            for each in members
        ]
        missing = [name for name in STAGES if name not in {row["stage"] for row in rows}]
        chart = _dots({row["stage"]: row for row in rows})
        about = {"events": events, "workers": workers, "total": total, "missing": missing}
        groups.append({**about, "rows": rows, "chart": chart})
    return groups


def _reading(found: Newest) -> list[dict[str, Any]]:
    """A group for each chunk size and kind of server: time an event by reader and distance.

    Each has beside it what was read from this machine.
    """

    def key(each: Measured) -> tuple[Any, ...]:
        return each.record.what.chunksize or 0, each.record.input.events

    groups = []
    for (chunk, events), members in _grouped(found.measured, key):
        rows = [
            {
                "route": str(each.record.what.parameters["route"]),
                "reader": str(each.record.what.parameters["handler"]),
                "milliseconds": each.record.what.parameters["milliseconds"],
                **each.as_json(),
            }
            for each in members
        ]
        rows.sort(key=lambda row: (row["route"] in SERVERS, row["reader"], row["milliseconds"]))
        servers = sorted({row["route"] for row in rows} & SERVERS.keys())
        for server in servers or [None]:
            chosen = [row for row in rows if row["route"] in {*HERE, server}]
            about = {"chunksize": chunk, "events": events, "server": server}
            groups.append({**about, "rows": chosen, "chart": _lines(chosen)})
    return groups


def _lines(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A chart of time an event over distance, a line for each route and reader."""
    factor, unit = numbers.scale(max(row["value"] for row in rows), "seconds")
    return {
        "x": {"label": "latency, each way", "unit": "ms"},
        "y": {"label": "wall time an event", "unit": unit, "zero": True},
        "rows": [
            {
                "x": row["milliseconds"],
                "group": f"{row['route']}, {row['reader']} reader",
                **_point(row, "y", factor),
            }
            for row in rows
        ],
    }


def _delivery(found: Newest) -> list[dict[str, Any]]:
    """A group for each number of events: time an event by query and format."""

    def key(each: Measured) -> tuple[Any, ...]:
        return each.record.input.events, each.record.what.workers

    return [
        {
            "events": events,
            "workers": workers,
            "rows": [
                {
                    "query": str(each.record.what.parameters["query"]),
                    "format": str(each.record.what.parameters["format"]),
                    **each.as_json(),
                }
                for each in sorted(members, key=lambda each: each.estimate.value)
            ],
        }
        for (events, workers), members in _grouped(found.measured, key)
    ]


def _dots(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A chart of wall times by name."""
    factor, unit = numbers.scale(max(row["value"] for row in rows.values()), "seconds")
    return {
        "x": {"label": "wall time", "unit": unit, "zero": True},
        "rows": [{"y": name, **_point(row, "x", factor)} for name, row in rows.items()],
    }


def _point(row: Mapping[str, Any], axis: str, factor: float) -> dict[str, Any]:
    """A point of a chart in another unit, with its interval if it has one."""
    ends = {} if row["low"] is None else {"lo": row["low"] / factor, "hi": row["high"] / factor}
    return {axis: row["value"] / factor, **ends}


PAGE: Final = Page("inference", "Inference and delivery", _context)
