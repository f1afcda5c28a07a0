"""The README's picture: what each kernel costs an event, in awkward and in numba."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.errors import InputError
from perf.table import footnote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from perf.results import Record

COLOURS: Final = {"columnar": "#d1495b", "compiled": "#00798c"}
"""Far apart in hue and in lightness, so that they differ in grey and for the colour-blind."""
NAMES: Final = {"columnar": "columnar (awkward)", "compiled": "compiled (numba)"}


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
    # Text as text, and no date or random identifiers: the same records give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "perf", "font.size": 9}):
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
        figure.supxlabel(footnote(records[-1]), fontsize=5.5, color="0.45", wrap=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
