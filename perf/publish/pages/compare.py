"""Compare: two releases, by the verdicts of a kept comparison, or else by ratios that nobody judged."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from perf.compare.session import CLOCKS
from perf.compare.verdict import Interval, Judgement
from perf.measure.estimate import Estimate, of_median
from perf.publish.page import Data, Material, Page
from perf.publish.titles import title
from perf.records.record_file import Machine
from perf.records.table import made_with

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from perf.publish.timeline import Entry

DATA: Final = "compare"
FIGURES: Final = 6
"""Significant figures in the file of data: more than are shown."""

OUTCOMES: Final = {"no change": "equal"}
"""Outcomes of `compare` that pages call otherwise."""


def command(a: str, b: str) -> str:
    """The command that judges a pair."""
    return f"python -m perf compare {a} {b}"


def _context(material: Material) -> Mapping[str, Any]:
    found = _releases(material)
    names = [_plain(entry.name) for entry in found]
    before, after = names[-2:] if len(names) > 1 else (None, None)
    reports = [_kept(number, report) for number, report in enumerate(material.comparisons)]
    chosen = [one for one in reports if (one["a"], one["b"]) == (before, after)]
    rows = _ratios(material, found[-2], found[-1]) if before and not chosen else []
    return {
        "machine": material.machine,
        "releases": names,
        "a": before,
        "b": after,
        "command": command(before, after) if before and after else command("A", "B"),
        "chosen": chosen,
        "kept": [one for one in reports if one not in chosen],
        "ratios": rows,
        "data": DATA,
    }


def _plain(name: str) -> str:
    return name.removeprefix("v")


def _releases(material: Material) -> list[Entry]:
    """Releases that the machine measured, oldest first; those of 0.7 before the others."""
    entries = {
        entry
        for series in material.benchmarks.values()
        for entry, machine, _ in series.records
        if machine == material.machine and entry.release
    }
    return sorted(entries, key=lambda entry: (not entry.old_line, entry.date, entry.name))


# --- what `compare` judged


def _kept(number: int, report: Mapping[str, Any]) -> dict[str, Any]:
    """A report of ``compare --json``: its pair, and a row for each benchmark."""
    a, b = (_side(report["sides"][side]) for side in "AB")
    machine = Machine.model_validate(report["machine"])
    rows = [row for name, of in report["benchmarks"].items() for row in _judged(name, of)]
    return {
        "number": number,
        "a": a,
        "b": b,
        "on": machine.name,
        "rows": rows,
        "chart": _chart(rows),
        "differences": report["differences"],
        "error": report["error"],
        "how": {
            "command": command(a, b),
            "measured": f"{report['seconds']:.0f} s, {report['blocks']} blocks of three processes",
            "machine": made_with({}, machine).splitlines()[-1],
            "load": report["load"],
        },
    }


def _side(about: Mapping[str, Any]) -> str:
    """A side as it is named on the command line, with the variables that were set for it."""
    return " ".join([_plain(about["name"]), *(f"{k}={v}" for k, v in about["variables"].items())])


def _judged(name: str, of: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each clock that was judged; one without numbers where none was."""
    # Reports without "clock" have wall times that nobody judged.
    judged = {clock: of[clock] for clock in CLOCKS if clock == "cpu" or "clock" in of}
    for clock, known in judged.items():
        if known is None:
            continue
        effect, control = (Interval(**known[which]) for which in ("effect", "control"))
        logs = of[f"log_{clock}_seconds"]
        judgement = Judgement(known["outcome"], effect, control, known["smallest"], of["blocks"])
        yield {
            "benchmark": name,
            "clock": CLOCKS[clock],
            "outcome": OUTCOMES.get(judgement.outcome, judgement.outcome),
            "verdict": str(judgement),
            "seconds": math.exp(statistics.median(block[0] for block in logs)),
            "effect": asdict(effect),
            "control": asdict(control),
            "smallest": judgement.smallest,
            "processes": judgement.blocks,
        }
    if not any(judged.values()):
        empty = dict.fromkeys(("seconds", "effect", "control", "smallest"))
        told = {"outcome": "not judged", "verdict": of["failure"] or of["verdict"]}
        yield {"benchmark": name, "clock": "-", **told, **empty, "processes": of["blocks"]}


def _chart(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Ratios with the intervals that the verdicts rest on."""
    return {
        "x": {"label": "time of B over A", "at": 1},
        "rows": [
            {
                "y": f"{row['benchmark']}, {row['clock']}",
                "x": row["effect"]["ratio"],
                "lo": row["effect"]["low"],
                "hi": row["effect"]["high"],
                "group": "no change" if row["outcome"] == "equal" else row["outcome"],
            }
            for row in rows
            if row["effect"]
        ],
    }


# --- what nobody judged


def _cases(
    material: Material,
) -> Iterator[tuple[dict[str, Any], dict[Entry, tuple[Estimate, int]]]]:
    """Each case of each benchmark: what it is, and medians with numbers of samples by release."""
    for series in material.benchmarks.values():
        values: dict[str, dict[Entry, list[float]]] = {}
        stacks: dict[str, Any] = {}
        titles: dict[str, str] = {}
        for (entry, machine, what), records in series.records.items():
            if machine == material.machine and entry.release:
                values.setdefault(what, {})[entry] = series.samples(records)
                measured = records[-1].what
                stacks[what] = measured.parameters.get("stack") or None
                titles[what] = str(title(measured, series.quantity))
        axes = series.axes(material.machine) if values else {}
        for what, by_entry in values.items():
            about = {
                "benchmark": titles[what],
                "case": ", ".join(f"{key}={value}" for key, value in axes[what].items()),
                "unit": series.quantity.unit,
                "dependencies": stacks[what],
            }
            yield about, {entry: (of_median(x), len(x)) for entry, x in by_entry.items()}


def _ratios(material: Material, a: Entry, b: Entry) -> list[dict[str, Any]]:
    """B over A of each case that both releases have, the largest changes first."""
    rows = []
    for about, medians in _cases(material):
        if a in medians and b in medians and medians[a][0].low > 0:
            (before, fewer), (after, more) = medians[a], medians[b]
            ratio = after.over(before)
            rows.append(
                {
                    **about,
                    "a": before.value,
                    "b": after.value,
                    "ratio": ratio.value,
                    "low": ratio.low,
                    "high": ratio.high,
                    "samples": min(fewer, more),
                }
            )
    return sorted(rows, key=lambda row: -abs(math.log(row["ratio"] or 1)))


def _files(material: Material) -> Iterator[tuple[str, Data]]:
    """Medians of all releases with the ends of their intervals, for any pair that is chosen."""
    names = {entry: _plain(entry.name) for entry in _releases(material)}
    cases, rows = [], []
    for about, medians in _cases(material):
        numbers = {
            names[entry]: [*map(_rounded, (one.value, one.low, one.high)), samples]
            for entry, (one, samples) in medians.items()
        }
        cases.append({**about, "values": numbers})
        for name, values in numbers.items():
            columns = zip(("median", "low", "high", "samples"), values, strict=True)
            rows.append({**about, "release": name, **dict(columns)})
    yield DATA, Data({"releases": list(names.values()), "cases": cases}, rows)


def _rounded(value: float) -> float:
    return float(f"{value:.{FIGURES}g}")


PAGE: Final = Page("compare", "Compare", _context, _files)
