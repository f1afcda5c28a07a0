"""The README's pictures: what each kernel costs an event, and what each executor makes of it."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.errors import InputError
from perf.catalogue import BASE
from perf.table import footnote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from perf.results import Record

COLOURS: Final = {"columnar": "#d1495b", "compiled": "#00798c"}
"""Far apart in hue and in lightness, so that they differ in grey and for the colour-blind."""
NAMES: Final = {
    "columnar": "columnar (awkward)",
    "compiled": "compiled (numba)",
    "apart": "the machine's limit",
}

PLAIN: Final = "0.55"
"""Colour of engines as they come."""


def draw(records: Sequence[Record], path: Path, *, size: int) -> None:
    """Draw the CPU time an event of every kernel in two implementations.

    Parameters
    ----------
    records
        Of one run.
    path
        Picture to write, of the format that its suffix names.
    size
        Number of events of the records to draw.

    Raises
    ------
    InputError
        If the run has no such records.
    """
    costs: dict[str, dict[str, float]] = {}
    for record in records:
        what, cost = record.what, record.cpu_seconds_per_event
        if what.kind == "kernel" and what.size == size and what.implementation in COLOURS and cost:
            costs.setdefault(what.subject, {})[what.implementation] = 1e9 * cost
    costs = {name: cost for name, cost in costs.items() if len(cost) == len(COLOURS)}
    if not costs:
        msg = f"the run has no kernels of {size} events: run `pytest --benchmark-only` first"
        raise InputError(msg)
    order = sorted(costs, key=lambda name: costs[name]["columnar"])
    rows = range(len(order))
    with _style():
        figure = Figure(figsize=(7.6, 0.28 * len(order) + 1.4), layout="constrained")
        axes = figure.subplots()
        left, right = ([costs[name][one] for name in order] for one in ("compiled", "columnar"))
        axes.hlines(rows, left, right, color="0.8", linewidth=2, zorder=1)
        for one, colour in COLOURS.items():
            values = [costs[name][one] for name in order]
            axes.scatter(values, rows, color=colour, label=NAMES[one], zorder=2, s=28)
        for row, name in zip(rows, order, strict=True):
            ratio = costs[name]["columnar"] / costs[name]["compiled"]
            axes.annotate(
                f"{ratio:.1f}x",
                (max(costs[name].values()), row),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                color="0.35",
                fontsize=8,
            )
        axes.set_yticks(rows, order)
        axes.set_xscale("log")
        axes.margins(x=0.08)
        axes.set_xlabel(f"CPU time per event [ns], {size:,} events in memory")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="0.92")
        axes.set_axisbelow(True)
        axes.legend(frameon=False, loc="lower right")
        _save(figure, records[-1], path)


def draw_executors(records: Sequence[Record], path: Path) -> None:
    """Draw CPU time and rate of executors over those of the iterative one, tuned and plain.

    Parameters
    ----------
    records
        Of one run of ``claims``.
    path
        Picture to write, of the format that its suffix names.

    Raises
    ------
    InputError
        If the run has no such records.
    """
    sides: dict[str, dict[bool, Record]] = {}
    for record in records:
        if record.what.kind == "processor" and record.what.name.startswith("claim-executor-"):
            sides.setdefault(record.what.group, {})[record.what.executor == BASE] = record
    points: dict[tuple[str, bool], tuple[float, float]] = {}
    for pair in sides.values():
        other, base = pair[False], pair[True]
        plain = "variant" in other.what.parameters
        points[other.what.executor or "", plain] = (
            _ratio(other.cpu_seconds, base.cpu_seconds),
            _ratio(base.wall_seconds, other.wall_seconds),
        )
    if not points:
        msg = "the run has no executors: run `python -m perf claims --only 'executor-*'` first"
        raise InputError(msg)
    with _style():
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for (name, plain), (cost, rate) in points.items():
            axes.scatter(cost, rate, color=PLAIN if plain else COLOURS["compiled"], zorder=2)
            axes.annotate(
                f"{name}, plain" if plain else NAMES.get(name, name),
                (cost, rate),
                xytext=(6, 4),
                textcoords="offset points",
                color=PLAIN if plain else "0.2",
            )
            if plain and (name, False) in points:
                axes.annotate(
                    "",
                    points[name, False],
                    (cost, rate),
                    arrowprops={"arrowstyle": "->", "color": "0.85", "shrinkA": 6, "shrinkB": 6},
                )
        axes.axvline(1, color="0.85", zorder=0)
        axes.margins(x=0.15, y=0.15)
        axes.set_xlabel("CPU time per event, over that of the iterative executor")
        axes.set_ylabel("events/s, over the iterative executor's")
        axes.spines[["top", "right"]].set_visible(False)
        newest = next(reversed(sides.values()))[False]
        axes.set_title(
            f"ttbar, {newest.what.size:,} events, {newest.what.workers} workers", fontsize=9
        )
        _save(figure, newest, path)


def _style() -> AbstractContextManager[None]:
    """Text as text, and no random identifiers: the same records give the same file."""
    return mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "perf", "font.size": 9})


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def _save(figure: Figure, newest: Record, path: Path) -> None:
    figure.supxlabel(footnote(newest), fontsize=5.5, color="0.45", wrap=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
