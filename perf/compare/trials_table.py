"""What trials of `compare` show: a table, and whether its aim is reached."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.table import Table

from perf.compare import benchmarks
from perf.compare.injected_slowdown import PERCENT, SLOWED
from perf.compare.trials import ASV, ASV_RUNNER, KINDS, TOOLS

if TYPE_CHECKING:
    from collections.abc import Sequence

AIM: Final = 20
"""Trials of a kind before the aim is judged."""


def table(done: Sequence[dict[str, Any]]) -> Table:
    """Table of trials by tool and kind."""
    shown = Table(box=box.SIMPLE, pad_edge=False)
    for heading in (
        "tool",
        "B is",
        "trials",
        "found",
        "as B / A",
        "false slower",
        "false faster",
        "of judgements",
        "no change",
        "undecided",
        "A / A",
        "seconds",
    ):
        shown.add_column(heading, justify="left" if heading in {"tool", "B is"} else "right")
    for tool in TOOLS:
        for kind in KINDS:
            trials = [trial for trial in done if (trial["tool"], trial["kind"]) == (tool, kind)]
            label = f"{PERCENT[kind]} % slower in one kernel" if kind in PERCENT else "identical"
            if trials:
                shown.add_row(tool, label, *_row(trials))
    return shown


def _others(trial: dict[str, Any]) -> dict[str, str]:
    """Outcomes of the kernels that are identical."""
    return {
        name: outcome
        for name, outcome in trial["outcomes"].items()
        if name != SLOWED or trial["kind"] not in PERCENT
    }


def _effects(trials: Sequence[dict[str, Any]], name: str) -> list[float]:
    """B / A of a kernel in each trial of `compare`."""
    return [
        cpu["effect"]["ratio"]
        for trial in trials
        if "result" in trial and (cpu := trial["result"]["benchmarks"].get(name, {}).get("cpu"))
    ]


def _row(trials: Sequence[dict[str, Any]]) -> list[str]:
    """Cells of trials of one tool and kind."""
    others = [outcome for trial in trials for outcome in _others(trial).values()]
    hit, ratios = "-", "-"
    if trials[0]["kind"] in PERCENT:
        hits = [trial["outcomes"].get(SLOWED) == "slower" for trial in trials]
        hit = f"{sum(hits)} of {len(hits)}"
        if effects := _effects(trials, SLOWED):
            ratios = f"{min(effects):.4f} to {max(effects):.4f}"
    controls = [
        abs(member["cpu"]["control"]["ratio"] - 1)
        for trial in trials
        if "result" in trial
        for member in trial["result"]["benchmarks"].values()
        if member["cpu"]
    ]
    return [
        str(len(trials)),
        hit,
        ratios,
        str(others.count("slower")),
        str(others.count("faster")),
        str(len(others)),
        *(
            f"{others.count(outcome) / len(others):.0%}" if others else "-"
            for outcome in ("no change", "undecided")
        ),
        f"{statistics.median(controls):.1%}, {max(controls):.1%}" if controls else "-",
        f"{statistics.median(trial['seconds'] for trial in trials):.0f}",
    ]


def systematic(done: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Mean of B / A - 1 of each identical kernel over the trials, and its standard error.

    Noise averages out: what is left always differs in the same way, which no control sees.
    """
    found = {}
    for name in benchmarks.KERNELS:
        effects = _effects([trial for trial in done if name in _others(trial)], name)
        if len(effects) > 1:
            error = statistics.stdev(effects) / len(effects) ** 0.5
            found[name] = statistics.mean(effects) - 1, error
    return found


def footnote(done: Sequence[dict[str, Any]]) -> list[str]:
    """Slowdown, versions and machine of the trials."""
    last = done[-1]
    loads = [trial["load_average"] for trial in done if trial["load_average"] is not None]
    where = last["machine"]
    means = ", ".join(
        f"{name} {mean:+.2%} +- {error:.2%}" for name, (mean, error) in systematic(done).items()
    )
    return [
        (
            f"Slowed: {SLOWED}. Its instructions over those of A: "
            + ", ".join(f"{kind} {ratio}" for kind, ratio in last["instructions"].items())
            + f". {last['load']} busy processes beside, {last['budget']:.0f} s for a comparison "
            f"of {len(last['outcomes'])} {'kernel' if len(last['outcomes']) == 1 else 'kernels'} with --resolution {last['resolution']:g}. A / A: what the control arm shows, "
            f"median and largest. {ASV}, asv_runner {ASV_RUNNER}, with the defaults of both."
        ),
        *([f"Identical kernels, B / A - 1 over all trials: {means}."] if means else []),
        ", ".join(f"{name} {version}" for name, version in last["versions"].items()),
        (
            f"{where['name']}: {where['cpu']}, {where['cores']} cores, {where['kernel']}, "
            f"load average {min(loads):.1f} to {max(loads):.1f}, code {last['code']}"
        ),
    ]


def reached(done: Sequence[dict[str, Any]]) -> bool | None:
    """Whether `compare` reaches its aim, None before AIM trials of a kind.

    The aim, of each kind that has as many: the slowdown is found in nine of ten trials, and in at
    most one of twenty anything else is called slower or faster.
    """
    of_kinds = [
        [trial for trial in done if (trial["tool"], trial["kind"]) == ("compare", kind)]
        for kind in KINDS
    ]
    judged = [trials for trials in of_kinds if len(trials) >= AIM]
    return all(map(_reached, judged)) if judged else None


def _reached(trials: Sequence[dict[str, Any]]) -> bool:
    hits = sum(trial["outcomes"].get(SLOWED) == "slower" for trial in trials)
    false = sum(bool({"slower", "faster"} & set(_others(trial).values())) for trial in trials)
    found = trials[0]["kind"] not in PERCENT or hits >= 0.9 * len(trials)
    return found and false <= len(trials) // AIM
