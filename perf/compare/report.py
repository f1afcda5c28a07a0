"""What a comparison found: for people, for a pull request, and for programs."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table

from perf.measure import clocks
from perf.records.format import duration

if TYPE_CHECKING:
    from perf.compare.instructions import Counts
    from perf.compare.session import Comparison, Measured
    from perf.compare.verdict import Interval, Judgement

SCHEMA_VERSION: Final = 1

SLOWER: Final = 1
UNDECIDED: Final = 3
INCOMPARABLE: Final = 4
"""Exit statuses; 0 is that all was judged and nothing is slower, 2 that the question was wrong.

Undecided is no verdict on B: whoever wants to let it pass can."""

Counted = dict[str, "tuple[Counts | str, Counts | str]"]
"""Instructions of A and of B by benchmark, or the reason why there are none."""


def exit_status(found: Comparison) -> int:
    """Exit status of a comparison: the first that applies of SLOWER, INCOMPARABLE, UNDECIDED."""
    members = found.measured.values()
    if any(one.judgement and one.judgement.outcome == "slower" for one in members):
        return SLOWER
    if any(one.failure for one in members):
        return INCOMPARABLE
    return UNDECIDED if any(not one.decided for one in members) else 0


def differences(found: Comparison) -> dict[str, tuple[str | None, str | None]]:
    """Packages whose versions differ, with that of A and of B; None where it is not installed."""
    a, b = found.a.installed, found.b.installed
    both = {name: (a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys())}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def noise(found: Comparison) -> tuple[float, float] | None:
    """Median and largest change that the A/A arm shows, of all benchmarks; None if there is none."""
    shown = [
        abs(one.judgement.control.ratio - 1) for one in found.measured.values() if one.judgement
    ]
    return (statistics.median(shown), max(shown)) if shown else None


_HEADINGS: Final = (
    "benchmark",
    "A",
    "B / A",
    "interval",
    "A / A",
    "from",
    "wall B / A",
    "n",
    "verdict",
)


def _cells(name: str, one: Measured) -> tuple[str, ...]:
    if one.failure is not None or one.judgement is None:
        return (name, *["-"] * (len(_HEADINGS) - 2), one.outcome)
    found = one.judgement
    wall = one.of_wall
    return (
        name,
        duration(one.seconds(0)),
        f"{found.effect.ratio:.3f}",
        f"{found.effect.low:.3f} to {found.effect.high:.3f}",
        f"{found.control.ratio:.3f}",
        f"{found.smallest:.1%}",
        f"{wall.effect.ratio:.3f}" if wall else "-",
        str(found.blocks),
        one.outcome,
    )


def legend(found: Comparison) -> list[str]:
    """What the numbers are, and how noisy the machine was."""
    shown = noise(found)
    said = [
        (
            "A, B / A: CPU time a call and its ratio, with the interval that the verdict rests on "
            f"(wrong in {found.error:.0%} of runs, all benchmarks and looks together). A / A: the "
            "same code in a third process. from: smallest change that can be claimed. n: processes "
            "of each arm."
        )
    ]
    if shown:
        said.append(f"The A/A arm shows {shown[0]:.1%} (median) and {shown[1]:.1%} (at most).")
    return said


def failures(found: Comparison, counted: Counted | None = None) -> list[str]:
    """A line for each benchmark that was not measured, or not counted."""
    return [
        *(f"{name}: {one.failure}" for name, one in found.measured.items() if one.failure),
        *(one for pair in (counted or {}).values() for one in pair if isinstance(one, str)),
    ]


def _environments(found: Comparison) -> list[str]:
    changed = differences(found)
    if not changed:
        return ["Both environments have the same packages."]
    return [
        "Packages that differ (A, B): "
        + ", ".join(f"{name} {a or 'none'} -> {b or 'none'}" for name, (a, b) in changed.items())
    ]


def table(found: Comparison, counted: Counted | None = None) -> Table:
    """Table for a terminal."""
    made = Table(
        title=f"B = {found.b.name}   over   A = {found.a.name}", box=box.SIMPLE, pad_edge=False
    )
    for heading in _HEADINGS:
        plain = heading in {"benchmark", "verdict"}
        made.add_column(heading, justify="left" if plain else "right", no_wrap=True)
    if counted is not None:
        made.add_column("instructions B / A", justify="right")
    for name, one in found.measured.items():
        more = [_counts(counted, name)] if counted is not None else []
        made.add_row(*_cells(name, one), *more)
    return made


def _counts(counted: Counted, name: str) -> str:
    a, b = counted.get(name, ("", ""))
    if isinstance(a, str) or isinstance(b, str):
        return "-"
    return f"{b.instructions / a.instructions:.4f}"


def lines(found: Comparison, counted: Counted | None = None) -> list[str]:
    """Below the table."""
    return [
        *failures(found, counted),
        *_environments(found),
        *legend(found),
        _footnote(found),
    ]


def _footnote(found: Comparison) -> str:
    where = clocks.machine()
    load = clocks.load_average()
    return (
        f"{found.elapsed:.0f} s, {found.blocks} blocks, seed {found.seed}; {where.name}: {where.cpu}, "
        f"{where.cores} cores, {where.kernel}, {where.python}"
        + (f", load average {load:.1f}" if load is not None else "")
    )


def markdown(found: Comparison, counted: Counted | None = None) -> str:
    """Comment for a pull request."""
    verdicts = [one.judgement.outcome for one in found.measured.values() if one.judgement]
    tally = ", ".join(
        f"{verdicts.count(one)} {one}"
        for one in ("slower", "faster", "no change", "undecided")
        if verdicts.count(one)
    )
    headings = [*_HEADINGS, *(["instructions B / A"] if counted is not None else [])]
    rows = [
        [*_cells(name, one), *([_counts(counted, name)] if counted is not None else [])]
        for name, one in found.measured.items()
    ]
    out = [
        f"### `{found.b.name}` over `{found.a.name}`: {tally or 'nothing was measured'}",
        "",
        "| " + " | ".join(headings) + " |",
        "|"
        + "|".join(" --- " if one in {"benchmark", "verdict"} else " ---: " for one in headings)
        + "|",
    ]
    for row in rows:
        bold = row[len(_HEADINGS) - 1] in {"slower", "faster", "not comparable"}
        cells = [
            f"**{cell}**" if bold and index == len(_HEADINGS) - 1 else cell
            for index, cell in enumerate(row)
        ]
        out.append("| " + " | ".join(cells) + " |")
    out.append("")
    for line in (
        *failures(found, counted),
        *_environments(found),
        *legend(found),
        _footnote(found),
    ):
        out += [f"{line}  "]
    return "\n".join(out) + "\n"


def as_json(found: Comparison, counted: Counted | None = None) -> dict[str, Any]:
    """All of it, with every process's number."""
    return {
        "schema_version": SCHEMA_VERSION,
        "sides": {
            name: {
                "name": one.name,
                "installed": dict(one.installed),
                "variables": dict(one.variables),
            }
            for name, one in (("A", found.a), ("B", found.b))
        },
        "differences": differences(found),
        "benchmarks": {
            name: {
                "outcome": _outcome(one),
                "verdict": one.outcome,
                "failure": one.failure,
                "cpu": _judged(one.judgement),
                "wall": _judged(one.of_wall),
                "blocks": len(one.cpu),
                "loops": one.loops,
                "rounds": one.rounds,
                # Of each block: A, A again, B.
                "log_cpu_seconds": one.cpu,
                "log_wall_seconds": one.wall,
                "instructions": _instructions(counted, name),
            }
            for name, one in found.measured.items()
        },
        "exit_status": exit_status(found),
        "error": found.error,
        "resolution": found.resolution,
        "blocks": found.blocks,
        "looks": found.looks,
        "seconds": found.elapsed,
        "seed": found.seed,
        "machine": clocks.machine().model_dump(),
        "load": clocks.load_average(),
    }


def _outcome(one: Measured) -> str:
    if one.failure is not None:
        return "not comparable"
    return one.judgement.outcome if one.judgement else "undecided"


def _judged(one: Judgement | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "outcome": one.outcome,
        "effect": _interval(one.effect),
        "control": _interval(one.control),
        "smallest": one.smallest,
    }


def _interval(one: Interval) -> dict[str, float]:
    return {"ratio": one.ratio, "low": one.low, "high": one.high}


def _instructions(counted: Counted | None, name: str) -> dict[str, Any] | None:
    if counted is None or name not in counted:
        return None
    return {
        arm: one if isinstance(one, str) else list(one.calls)
        for arm, one in zip("AB", counted[name], strict=True)
    }
