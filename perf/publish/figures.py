"""Figures: costs of kernels, costs and rates of executors, and the history of releases."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
import numpy as np
from matplotlib import dates
from matplotlib.figure import Figure

from analysis.errors import InputError
from perf.cases.case import BASE
from perf.measure.paired import ratio
from perf.records.table import footnote, made_with

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from matplotlib.axes import Axes

    from perf.records.record_file import Record

COLOURS: Final = {"columnar": "#d1495b", "compiled": "#00798c"}
"""Colours that differ in hue and lightness: in grey, and for the colour-blind."""
NAMES: Final = {
    "columnar": "columnar (awkward)",
    "compiled": "compiled (numba)",
    "apart": "the machine's limit",
}

STOCK: Final = "0.55"
"""Colour of coffea's own executors with their defaults."""

PANELS: Final = (
    "import",
    "adl-1",
    "adl-5",
    "adl-6",
    "ttbar-one-core",
    "ttbar-futures",
    "ttbar-dask",
    "peak memory",
)
"""Panels of the history: workloads, and the memory of one."""
MEMORY_OF: Final = "ttbar-one-core"
HISTORY_COLOURS: Final = ("0.55", "#d1495b", "#00798c", "#edae49")


LEAST_DRAWN: Final = 2
"""Runs of more kernels than this are drawn."""

CLAIM: Final = "claim-executor-"
"""Prefix of the names of executors in records of ``claims``."""


def last_run(records: Sequence[Record]) -> list[Record]:
    """Records of the last run that measured kernels; none if no run did."""
    runs: dict[str, list[Record]] = {}
    for record in records:
        if record.what.kind == "kernel":
            runs.setdefault(record.run, []).append(record)
    # A run of claims may measure a single kernel; one of all of them is preferred.
    complete = [
        members
        for members in runs.values()
        if len({record.what.subject for record in members}) > LEAST_DRAWN
    ]
    return (complete or [*runs.values()] or [[]])[-1]


def draw(records: Sequence[Record], path: Path, *, size: int) -> None:
    """Draw the CPU time an event of the kernels of a run, of this many events, to a file.

    The suffix of the path names the format.
    """
    costs: dict[str, dict[str, float]] = {}
    for record in records:
        what, cost = record.what, record.cpu_seconds_per_event
        if what.kind == "kernel" and what.size == size and what.implementation in COLOURS and cost:
            costs.setdefault(what.subject, {})[what.implementation] = 1e9 * cost
    costs = {name: cost for name, cost in costs.items() if len(cost) == len(COLOURS)}
    if not costs:
        sizes = sorted({r.what.size for r in records if r.what.kind == "kernel"})
        others = f", or draw those of {' or '.join(map(str, sizes))} with --size" if sizes else ""
        msg = f"the run has no kernels of {size} events: run `pytest --benchmark-only`{others}"
        raise InputError(msg)
    order = sorted(costs, key=lambda name: costs[name]["columnar"])
    rows = range(len(order))
    with _style():
        figure = Figure(figsize=(7.6, 0.28 * len(order) + 1.4), layout="constrained")
        axes = figure.subplots()
        left, right = ([costs[name][how] for name in order] for how in ("compiled", "columnar"))
        axes.hlines(rows, left, right, color="0.8", linewidth=2, zorder=1)
        for implementation, colour in COLOURS.items():
            values = [costs[name][implementation] for name in order]
            axes.scatter(values, rows, color=colour, label=NAMES[implementation], zorder=2, s=28)
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
        _save(figure, footnote(records[-1]), path)


def draw_executors(records: Sequence[Record], path: Path) -> None:
    """Draw CPU time and rate of executors over the iterative one, by the newest claim on each.

    Of the machine of the newest; each may be of a run of its own. What the ablation changes is
    left out.
    """
    every: dict[tuple[str, str], dict[bool, Record]] = {}
    for record in records:
        if record.what.kind == "processor" and record.what.name.startswith(CLAIM):
            pair = every.setdefault((record.machine.name, record.what.group), {})
            pair[record.what.executor == BASE] = record
    pairs = [
        pair
        for pair in every.values()
        if len(pair) == 2 and pair[False].what.parameters.get("variant", "plain") == "plain"
    ]
    newest = max((pair[False] for pair in pairs), key=lambda one: one.timestamp, default=None)
    if newest is None:
        msg = (
            "there is no run of executors beside the iterative one, which `make bench` does not "
            "make: run `python -m perf claims --only 'executor-*'` first"
        )
        raise InputError(msg)
    sides = [pair for pair in pairs if pair[False].machine.name == newest.machine.name]
    rows = list(dict.fromkeys(pair[False].what.executor or "" for pair in sides))
    # The same records give the same intervals.
    rng = np.random.default_rng(1)
    with _style():
        figure = Figure(figsize=(7.6, 0.34 * len(rows) + 1.6), layout="constrained")
        cost, rate = figure.subplots(1, 2, sharey=True)
        for pair in sides:
            other, base = pair[False], pair[True]
            stock = "variant" in other.what.parameters
            row = rows.index(other.what.executor or "")
            for axes, found in (
                (cost, ratio(other.cpu_seconds, base.cpu_seconds, rng)),
                (rate, ratio(base.wall_seconds, other.wall_seconds, rng)),
            ):
                axes.errorbar(
                    found.value,
                    row,
                    xerr=[[found.value - found.low], [found.high - found.value]],
                    fmt="o",
                    markersize=5,
                    color=STOCK if stock else COLOURS["compiled"],
                )
        cost.set_yticks(range(len(rows)), [NAMES.get(name, name) for name in rows])
        cost.invert_yaxis()
        cost.set_xlabel("CPU time per event")
        rate.set_xlabel("events/s")
        for axes in (cost, rate):
            axes.axvline(1, color="0.85", zorder=0)
            axes.set_xlim(left=0)
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.tick_params(axis="y", length=0)
        figure.suptitle(
            f"Over the iterative executor: ttbar, {newest.what.size:,} events, "
            f"{newest.what.workers} workers; grey: coffea's own, with defaults",
            fontsize=9,
        )
        _save(figure, footnote(newest), path)


def draw_history(records: Sequence[Record], path: Path) -> None:
    """Draw CPU time and memory of workloads over the dates of releases, from `history run`.

    A point is a process; a line connects their medians. One line has the dependencies of the time
    of each release, and there is one for each set of pins that all releases share.
    """
    members = [record for record in records if record.what.parameters.get("released")]
    if not members:
        msg = "there is no history of releases: run `python -m perf history run` first"
        raise InputError(msg)
    curves: dict[str, list[Record]] = {}
    for record in sorted(members, key=_released):
        curves.setdefault(_history_curve(record), []).append(record)
    with _style():
        figure = Figure(figsize=(9.2, 4.6), layout="constrained")
        for panel, axes in zip(PANELS, figure.subplots(2, 4, sharex=True).flat, strict=True):
            for (label, of), colour in zip(curves.items(), HISTORY_COLOURS, strict=False):
                _draw_curve(axes, panel, of, colour=colour, label=label)
            axes.set_title(f"{panel} [{'MB' if panel == PANELS[-1] else 's'}]", fontsize=9)
            axes.set_ylim(bottom=0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="0.92")
            axes.xaxis_date()
            axes.xaxis.set_major_locator(dates.YearLocator())  # type: ignore[no-untyped-call]
            axes.xaxis.set_major_formatter(dates.DateFormatter("%Y"))  # type: ignore[no-untyped-call]
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        # Lines of two machines or Pythons must not be compared unknowingly: name them all.
        notes = {made_with({"python": r.versions["python"]}, r.machine) for r in members}
        _save(figure, "\n".join(sorted(notes)), path)


def _released(record: Record) -> tuple[str, str, float]:
    of = record.what.parameters
    return str(of["released"]), str(of["stack"]), record.timestamp.timestamp()


def _history_curve(record: Record) -> str:
    """Line of a record; releases of 0.7 went on beside those by calendar."""
    if stack := record.what.parameters["stack"]:
        return f"dependencies of {stack}"
    old = str(record.what.parameters["coffea"]).startswith("0.")
    return "coffea 0.7" if old else "dependencies of the time"


def _draw_curve(
    axes: Axes, panel: str, records: Sequence[Record], *, colour: str, label: str
) -> None:
    memory = panel == PANELS[-1]
    points: dict[np.datetime64, list[float]] = {}
    for record in records:
        of = record.what.parameters
        value = record.peak_memory if memory else record.cpu_median
        if of["act"] == (MEMORY_OF if memory else panel) and value:
            day = np.datetime64(str(of["released"]))
            points.setdefault(day, []).append(value / (1e6 if memory else 1))
    medians = [statistics.median(values) for values in points.values()]
    axes.plot(np.array([*points]), medians, color=colour, linewidth=1.2, label=label)
    for day, values in points.items():
        axes.plot(np.full(len(values), day), values, ".", color=colour, markersize=4)


def _style() -> AbstractContextManager[None]:
    """Text is stored as text and identifiers are fixed: the same records give the same file."""
    return mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "perf", "font.size": 9})


def _save(figure: Figure, note: str, path: Path) -> None:
    figure.supxlabel(note, fontsize=5.5, color="0.45", wrap=True)
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except (OSError, ValueError) as error:
        msg = (
            f"{path} cannot be written ({error}): name an .svg, .png or .pdf in an existing folder"
        )
        raise InputError(msg) from None
