"""Results of a comparison: a table for a terminal, a comment for a pull request, and JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table

from perf.compare.session import CLOCKS
from perf.environments import differences
from perf.records import provenance
from perf.records.format import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perf.compare.instructions import Counts
    from perf.compare.session import Clock, Comparison, Measured
    from perf.compare.verdict import Judgement

SCHEMA_VERSION: Final = 1

SLOWER: Final = 1
UNDECIDED: Final = 3
INCOMPARABLE: Final = 4
"""Exit statuses; 0 if all was judged and nothing is slower, 2 for a usage error.

Undecided is no verdict on B: a script may let it pass."""

Counted = dict[str, "tuple[Counts | str, Counts | str]"]
"""Instructions of A and of B by benchmark, or why they were not counted."""


def exit_status(comparison: Comparison) -> int:
    """Exit status of a comparison: the first that applies of SLOWER, INCOMPARABLE, UNDECIDED."""
    outcomes = {member.outcome for member in comparison.measured.values()}
    statuses = {"slower": SLOWER, "not comparable": INCOMPARABLE, "undecided": UNDECIDED}
    return next((status for outcome, status in statuses.items() if outcome in outcomes), 0)


_HEADINGS: Final = (
    "benchmark",
    "clock",
    "A",
    "B / A",
    "interval",
    "A / A",
    "from",
    "n",
    "verdict",
)
_LEFT: Final = ("benchmark", "clock", "verdict")


def _rows(comparison: Comparison, counted: Counted | None) -> Iterator[tuple[str, ...]]:
    """Cells of each benchmark and clock; the instructions beside the CPU time."""
    for name, member in comparison.measured.items():
        for clock in member.clocks if member.judgement else ("cpu",):
            cells = _cells(name, member, clock)
            if counted is not None:
                cells += (_counts(counted, name) if clock == "cpu" else "-",)
            yield cells


def _cells(name: str, member: Measured, clock: Clock) -> tuple[str, ...]:
    if member.judgement is None:
        return (name, *["-"] * (len(_HEADINGS) - 2), member.outcome)
    judged = member.judgements[clock]
    return (
        name,
        clock,
        duration(member.seconds(0, clock)),
        f"{judged.effect.ratio:.4f}",
        f"{judged.effect.low:.4f} to {judged.effect.high:.4f}",
        f"{judged.control.ratio:.4f}",
        f"{judged.smallest:.1%}",
        str(judged.blocks),
        str(judged),
    )


def lines(comparison: Comparison, counted: Counted | None = None) -> list[str]:
    """Text below the table: failures, packages that differ, what the numbers are, and the machine."""
    failures = [
        *(
            f"{name}: {member.failure}"
            for name, member in comparison.measured.items()
            if member.failure
        ),
        *(why for pair in (counted or {}).values() for why in pair if isinstance(why, str)),
    ]
    changed = differences(comparison.a.installed, comparison.b.installed)
    packages = (
        "Packages that differ (A, B): "
        + ", ".join(f"{name} {a or 'none'} -> {b or 'none'}" for name, (a, b) in changed.items())
        if changed
        else "Both environments have the same packages."
    )
    legend = (
        "A, B / A: time a call and its ratio, with the interval that the verdict rests on (wrong "
        f"in {comparison.error:.0%} of runs, all benchmarks, clocks and looks together). A / A: the "
        "same code in a third process. from: smallest change that can be claimed. n: processes "
        "of each arm."
    )
    control = [
        abs(judgement.control.ratio - 1)
        for member in comparison.measured.values()
        for judgement in member.judgements.values()
    ]
    noise = (
        f"The A/A arm shows {statistics.median(control):.1%} (median) and {max(control):.1%} "
        "(at most)."
        if control
        else ""
    )
    where, load = provenance.machine(), provenance.load_average()
    machine = (
        f"{comparison.elapsed:.0f} s, {comparison.blocks} blocks, seed {comparison.seed}; "
        f"{where.name}: {where.cpu}, {where.cores} cores, {where.kernel}, {where.python}"
        + (f", load average {load:.1f}" if load is not None else "")
    )
    return [line for line in (*failures, packages, legend, noise, machine) if line]


def table(comparison: Comparison, counted: Counted | None = None) -> Table:
    """Table for a terminal."""
    shown = Table(
        title=f"B = {comparison.b.name}   over   A = {comparison.a.name}",
        box=box.SIMPLE,
        pad_edge=False,
    )
    for heading in _HEADINGS:
        justify = "left" if heading in _LEFT else "right"
        shown.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    if counted is not None:
        shown.add_column("instructions B / A", justify="right")
    for row in _rows(comparison, counted):
        shown.add_row(*row)
    return shown


def _counts(counted: Counted, name: str) -> str:
    a, b = counted.get(name, ("", ""))
    if isinstance(a, str) or isinstance(b, str):
        return "-"
    return f"{statistics.median(b) / statistics.median(a):.4f}"


def markdown(comparison: Comparison, counted: Counted | None = None) -> str:
    """Comment for a pull request."""
    verdicts = [member.outcome for member in comparison.measured.values()]
    tally = ", ".join(
        f"{verdicts.count(outcome)} {outcome}"
        for outcome in ("slower", "faster", "no change", "undecided", "not comparable")
        if verdicts.count(outcome)
    )
    headings = [*_HEADINGS, *(["instructions B / A"] if counted is not None else [])]
    out = [
        f"### `{comparison.b.name}` over `{comparison.a.name}`: {tally or 'nothing was measured'}",
        "",
        "| " + " | ".join(headings) + " |",
        "|" + "|".join(" --- " if heading in _LEFT else " ---: " for heading in headings) + "|",
    ]
    for row in _rows(comparison, counted):
        bold = row[len(_HEADINGS) - 1] in {"slower", "faster", "not comparable"}
        cells = [
            f"**{cell}**" if bold and index == len(_HEADINGS) - 1 else cell
            for index, cell in enumerate(row)
        ]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join([*out, "", *(f"{line}  " for line in lines(comparison, counted))]) + "\n"


def as_json(comparison: Comparison, counted: Counted | None = None) -> dict[str, Any]:
    """All results, with every process's number."""
    return {
        "schema_version": SCHEMA_VERSION,
        "sides": {
            name: {
                "name": side.name,
                "installed": dict(side.installed),
                "variables": dict(side.variables),
            }
            for name, side in (("A", comparison.a), ("B", comparison.b))
        },
        "differences": differences(comparison.a.installed, comparison.b.installed),
        "benchmarks": {
            name: {
                "outcome": member.outcome,
                # The clock that the outcome is of; null for a clock that is not judged.
                "clock": member.clock,
                "verdict": member.verdict,
                "failure": member.failure,
                **{clock: _judged(member.judgements.get(clock)) for clock in CLOCKS},
                "blocks": len(member.cpu),
                "loops": member.loops,
                "rounds": member.rounds,
                # Of each block: A, A again, B.
                "log_cpu_seconds": member.cpu,
                "log_wall_seconds": member.wall,
                "instructions": _instructions(counted, name),
            }
            for name, member in comparison.measured.items()
        },
        "exit_status": exit_status(comparison),
        "ended": datetime.now(UTC).isoformat(),
        "error": comparison.error,
        "resolution": comparison.resolution,
        "blocks": comparison.blocks,
        "looks": comparison.looks,
        "seconds": comparison.elapsed,
        "seed": comparison.seed,
        "machine": provenance.machine().model_dump(),
        "load": provenance.load_average(),
    }


def _judged(judgement: Judgement | None) -> dict[str, Any] | None:
    if judgement is None:
        return None
    return {name: value for name, value in asdict(judgement).items() if name != "blocks"}


def _instructions(counted: Counted | None, name: str) -> dict[str, Any] | None:
    return dict(zip("AB", counted[name], strict=True)) if counted and name in counted else None
