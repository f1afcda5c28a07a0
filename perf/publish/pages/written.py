"""The report and its slides: templates have the words, what the pages computed has the numbers.

A sentence whose meaning depends on numbers is chosen in the template by what was judged: by the
interval of a `Number`, or by the verdict of a claim. What is not measured says which command does.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jinja2

from analysis.adl import QUERIES
from analysis.executors import EXECUTORS
from analysis.kernels import KERNELS
from perf.cases.case import WORKERS
from perf.claims import ablation, start
from perf.claims import executors as claimed
from perf.measure.estimate import CONFIDENCE, Estimate
from perf.publish import executor_facts, next_coffea, numbers
from perf.publish.newest import judged
from perf.publish.pages import executors, inference, kernels, overview
from perf.records.table import made_with
from perf.records.void import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from perf.publish.page import Material
    from perf.records.record_file import Record

TEMPLATES: Final = Path(__file__).parents[1] / "templates"
REPORT: Final = "dask-report.md"
SLIDES: Final = "slides.md"

APART: Final = ("history-", "compare-")
"""Beginnings of names of what is measured to compare versions."""

MANY: Final = 8
"""Cores from which on a machine says something of scaling."""

UPSTREAM: Final = SHIPPED.parent / "reports" / "upstream"
"""What was found in other projects, with what `make upstream` measured."""

_FINDING: Final = re.compile(
    r"^\| \[(?P<what>.+?)\]\((?P<name>\w+)/README\.md\) \| (?P<project>\S+) (?P<version>\S+) "
    r"\| (?P<proposal>.+?) \| (?P<known>.+?) "
    r"\| (?:.*: (?P<value>[\d.]+) \((?P<low>[\d.]+) to (?P<high>[\d.]+)\)|.*) \|$",
    re.MULTILINE,
)
"""A row of the table of findings, whose effects reports/upstream/measure.py writes."""

_USUAL: Final = re.compile(r"ttbar | of a file of [\d,]+ events|, zstd| \(allocator of workers\)")
_MEANT: Final = "reading, decompressing the data, and computing"
"""In texts of claims about the limit: what all of them are about."""

_PEER: Final = re.compile(r"(?P<query>.+): (?P<tool>.+?) / .+")
"""Text of a claim about another tool."""


@dataclass(frozen=True)
class Number:
    """A value as templates show it: with its interval if it has one.

    Attributes
    ----------
    low, high
        Ends of the interval; None where there is none.
    unit
        As claims have it: ratio, milliseconds, bytes, count.
    verdict
        What a claim about it says; "-" if nothing is claimed.
    """

    value: float
    low: float | None = None
    high: float | None = None
    unit: str = "ratio"
    verdict: str = "-"
    sense: str = ""
    bound: float | None = None

    @classmethod
    def of(cls, found: Mapping[str, Any] | None) -> Number | None:
        """Of an estimate or a claim of a page; None of None."""
        if found is None:
            return None
        one = cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})
        return replace(one, low=None, high=None) if one.low == one.high else one

    @property
    def above(self) -> bool:
        """Whether a ratio is above 1, with all of its interval."""
        return self.unit == "ratio" and self.low is not None and self.low > 1

    @property
    def below(self) -> bool:
        """Whether a ratio is below 1, with all of its interval."""
        return self.unit == "ratio" and self.high is not None and self.high < 1

    def over(self, other: Number | None) -> Number | None:
        """The ratio to another, with what both intervals allow."""
        if other is None or other.value <= 0:
            return None
        ends = (self.low, self.high, other.low, other.high)
        if None in ends or not other.low:
            return Number(self.value / other.value)
        ours, theirs = (Estimate(one.value, one.low, one.high) for one in (self, other))  # type: ignore[arg-type]
        ratio = ours.over(theirs)
        return Number(ratio.value, ratio.low, ratio.high)

    @property
    def short(self) -> str:
        """The value alone, with its unit."""
        return self._shown(self.value)

    @property
    def change(self) -> str:
        """A ratio as a change."""
        known = self.low is not None and self.high is not None
        between = f" ({numbers.interval(self.low, self.high)})" if known else ""  # type: ignore[arg-type]
        return numbers.percent(self.value) + between

    def _shown(self, *values: float) -> str:
        """A value, or the two ends of an interval."""
        if self.unit in {"milliseconds", "seconds", "bytes"}:
            factor = 1e-3 if self.unit == "milliseconds" else 1
            unit = "bytes" if self.unit == "bytes" else "seconds"
            ends = [factor * value for value in values]
            if len(ends) > 1:
                return numbers.span(ends[0], ends[1], unit)
            return numbers.measured(ends[0], unit)
        shown = (f"{v:,.0f}" if self.unit == "count" else numbers.figures(v) for v in values)
        return " to ".join(shown)

    def __str__(self) -> str:
        """The value with its interval."""
        if self.low is None or self.high is None:
            return self.short
        return f"{self.short} ({self._shown(self.low, self.high)})"


class Finding(NamedTuple):
    """Something that another project could change."""

    name: str
    what: str
    project: str
    version: str
    proposal: str
    known: str
    effect: Number | None
    """What is taken after over before."""


def render(material: Material) -> dict[str, str]:
    """Texts of the report and of the slides, by the names of their files."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters |= numbers.FILTERS | {"shown": _shown}
    environment.tests |= {"search": lambda text, pattern: re.search(pattern, text) is not None}
    facts = _facts(material)
    return {name: _tidy(environment.get_template(name).render(facts)) for name in (REPORT, SLIDES)}


def _tidy(text: str) -> str:
    """Without blanks at ends of lines, and with one empty line where there are several."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    apart = re.sub(r"\n+(?=## )", "\n\n", lines)
    return re.sub(r"\n{3,}", "\n\n", apart).strip() + "\n"


def _facts(material: Material) -> dict[str, Any]:
    of_executors = executors.PAGE.context(material)
    of_kernels = kernels.PAGE.context(material)
    claim = partial(_claim, of_executors["matrix"])
    limits = [
        {**one, "short": _USUAL.sub("", one["claim"]).replace(_MEANT, "the limit")}
        for one in judged(material.records, {"limit"}, "")["verdicts"]
    ]
    verdicts = [
        *of_kernels["claims"]["verdicts"],
        *judged(material.records, {"processor"}, "")["verdicts"],
        *judged(material.records, {"executor"}, "")["verdicts"],
        *limits,
    ]
    return {
        "quantity": {
            name: getattr(claimed, name)
            for name in ("CPU", "RATE", "FAULTS", "MEMORY", "TASK", "MERGE", "IDLE")
        },
        "analysis": {"kernels": len(KERNELS), "queries": len({name[:1] for name in QUERIES})},
        "overview": overview.PAGE.context(material),
        "executors": of_executors,
        "kernels": of_kernels,
        "inference": inference.PAGE.context(material),
        "claim": claim,
        "over": _over,
        "number": Number.of,
        "verdict": partial(_verdict, verdicts),
        "mutants": _mutants(of_kernels["kernels"]),
        "numba": [_numba(one) for one in of_kernels["sizes"]],
        "ablation": {
            name: _ablation(of_executors["matrix"], name) for name in ("dask", "spark", "parsl")
        },
        "survived": {
            name: [fault for fault, shown in executor_facts.FAULTS.items() if name in shown]
            for name in of_executors["executors"]
        },
        "tests": {one.says: one.test for one in executor_facts.DASK if one.test},
        "starts": {
            (row["executor"], row["process"]): Number.of({**row, "unit": "seconds"})
            for row in of_executors["starts"]["rows"]
        },
        "limits": limits,
        "nearest": _nearest(of_kernels["limits"]),
        "peers": _peers(material.records),
        "releases": _releases(material),
        "next": next_coffea.beside(material.records),
        "started": _started(verdicts),
        "started_workers": start.MANY,
        "many": _many(of_executors["scaling"]),
        "findings": findings(),
        "head": partial(_head, material.records),
        "elsewhere": CONFIDENCE,
        "confidence": of_executors["claims"]["confidence"],
    }


# --- numbers of the pages


def _claim(matrix: Iterable[Mapping[str, Any]], on: str, quantity: str) -> Number | None:
    """What claims measured of an executor, on the first machine that has it."""
    place = claimed.QUANTITIES.index(quantity)
    found = (row["values"][place] for row in matrix if row["on"] == on)
    return Number.of(next((one for one in found if one), None))


def _shown(one: Number | None) -> str:
    return "-" if one is None else str(one)


def _over(one: Number | None, other: Number | None) -> Number | None:
    return one and one.over(other)


def _verdict(verdicts: Iterable[Mapping[str, Any]], pattern: str) -> Number | None:
    """The newest verdict on a claim whose text has a pattern."""
    found = [each for each in verdicts if re.search(pattern, each["claim"])]
    return Number.of(max(found, key=lambda each: str(each["measured"]), default=None))


def _started(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, list[Number | None]]:
    """By executor: CPU time of many workers' start, over that of one, first runs over warm ones."""
    many, first = f"x{start.MANY}", f"x{WORKERS}: first run / warm run"
    about = (
        *(f"{many}: CPU time of its start", f"{many} / x1: CPU time of its start"),
        *(f"{first}, user CPU time", f"{first}, wall time"),
    )
    found = {
        name: [_verdict(verdicts, f"^{name} {re.escape(one)}$") for one in about]
        for name in start.MAX_CPU
    }
    return {name: of for name, of in found.items() if of[0]}


def _mutants(every: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    scores = [one["score"] for one in every if one["score"]]
    return {name: sum(score[name] for score in scores) for name in ("mutants", "killed")}


def _numba(size: Mapping[str, Any]) -> dict[str, Any]:
    """Of all kernels at one number of events: awkward over numba."""
    ratios = {row["kernel"]: row["ratio"] for row in size["kernels"] if row["ratio"]}
    found = {name: Number.of(ratio) for name, ratio in ratios.items()}
    known = {name: one for name, one in found.items() if one}
    ordered = sorted(known, key=lambda name: known[name].value)
    return {
        "events": size["events"],
        "kernels": len(known),
        "faster": sum(one.above for one in known.values()),
        "slower": sum(one.below for one in known.values()),
        "median": statistics.median(one.value for one in known.values()) if known else math.nan,
        "least": [(name, known[name]) for name in ordered[:1]],
        "most": [(name, known[name]) for name in ordered[-1:]],
    }


def _nearest(cells: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The processor that takes least over the limit, of the first cell; None if none is measured."""
    rows = [row for cell in cells[:1] for row in cell["rows"] if row["times"]]
    return min(rows, key=lambda row: float(row["times"]["data only"]["value"]), default=None)


def _ablation(matrix: Iterable[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """A row for each setting that was disabled: what it took over what the executor takes with all."""
    every = [row for row in matrix if row["on"].startswith(f"{name} x")]
    places = {one: claimed.QUANTITIES.index(one) for one in claimed.QUANTITIES}
    base = next((row for row in every if row["on"].endswith(f" {ablation.TUNED}")), None)
    known = [each.without for each in ablation.of([name]) if each.without != ablation.TUNED]
    if base is None:
        return []
    rows = {row["on"]: row for row in every if row["machine"] == base["machine"]}
    found = []
    for on, row in rows.items():
        without = on.partition(" x")[2].partition(" ")[2]
        if without in known:
            ours, theirs = (
                {one: Number.of(of["values"][place]) for one, place in places.items()}
                for of in (base, row)
            )
            found.append(
                {"without": without, "was": ours, "values": theirs}
                | {"effect": {one: _over(theirs[one], ours[one]) for one in places}}
            )
    order = {without: number for number, without in enumerate(known)}
    return sorted(found, key=lambda row: order[row["without"]])


def _many(scaling: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Executors with the most workers, of the machine with most cores; None without MANY cores."""
    known = [one for one in scaling if (one["cores"] or 0) >= MANY]
    if not known:
        return None
    one = max(known, key=lambda each: each["cores"])
    tuned = [row for row in one["rows"] if row["engine"] in EXECUTORS]
    most = max((row["workers"] for row in tuned), default=0)
    rows = {row["engine"]: row for row in tuned if row["workers"] == most}
    rates = {
        name: Number.of({"value": row["rate"], "low": row["least"], "high": row["most"]})
        for name, row in rows.items()
    }
    return {
        "cores": one["cores"],
        "events": one["events"],
        "workers": most,
        "measured": one["how"][0]["measured"][:10],
        "rounds": max(row["rounds"] for row in one["rows"]),
        "rates": rates,
        "longer": [
            f"{name} {numbers.measured(row['start'], 'seconds')}"
            for name, row in rows.items()
            if row["start"] is not None and row["start"] > one["events"] / row["rate"]
        ],
    }


def _peers(records: Sequence[Record]) -> dict[str, Any]:
    """Other tools over ours, by tool and query."""
    cells: dict[str, dict[str, Number]] = {}
    verdicts = judged(records, {"peer"}, "")["verdicts"]
    for each in verdicts:
        parts, one = _PEER.fullmatch(each["claim"]), Number.of(each)
        # The fused implementation stands among the tools, and is none.
        if parts and one and not parts["tool"].startswith("this suite"):
            cells.setdefault(parts["tool"], {})[parts["query"]] = one
    queries = dict.fromkeys(query for of in cells.values() for query in of)
    every = [one for of in cells.values() for one in of.values()]
    return {
        "queries": [*queries],
        "tools": cells,
        "slower": sum(one.above for one in every),
        "faster": [
            (tool, query, one)
            for tool, of in cells.items()
            for query, one in of.items()
            if one.below
        ],
        "cells": len(every),
    }


def _releases(material: Material) -> list[dict[str, Any]]:
    """What `watch` judged at each release on the machine of the history, the newest first."""
    where = {
        id(change): benchmark
        for benchmark in material.joined.values()
        for _, change in benchmark.changes
    }
    by_release: dict[str, list[Any]] = {}
    for change in material.changes:
        # With the dependencies of the time alone: the others are the same changes once more.
        if change.machine == material.machine and ".on_" not in change.benchmark:
            by_release.setdefault(change.after.name, []).append(change)
    found = []
    for name, of in by_release.items():
        counted = Counter("slower" if change.worse else "faster" for change in of)
        most = max(of, key=lambda change: abs(math.log(change.ratio)))
        found.append(
            {
                "name": name,
                "date": f"{most.after.date:%Y-%m}",
                "slower": counted["slower"],
                "faster": counted["faster"],
                "most": str(where[id(most)].title) + (f", {most.case}" if most.case else ""),
                "change": f"{numbers.percent(most.ratio)} ({numbers.interval(most.low, most.high)})",
                "order": most.after.date,
            }
        )
    return sorted(found, key=lambda row: row["order"], reverse=True)


def findings(folder: Path = UPSTREAM) -> list[Finding]:
    """What was found in other projects, each with its effect if that was measured."""
    page = folder / "README.md"
    found = []
    for row in _FINDING.finditer(page.read_text() if page.is_file() else ""):
        said = row.groupdict()
        value, low, high = (said.pop(name) for name in ("value", "low", "high"))
        effect = Number(float(value), float(low), float(high)) if value else None
        found.append(Finding(**said, effect=effect))
    return found


def _head(records: Iterable[Record], kinds: Collection[str], names: str = "") -> str:
    """Machines and days of the records of some kinds whose names begin so, in a line; "" of none.

    Without names, of what was measured for its own sake.
    """
    days: dict[str, set[str]] = {}
    for one in records:
        name = one.what.name
        own = name.startswith(names) if names else not name.startswith(APART)
        if one.what.kind not in kinds or not own:
            continue
        machine = made_with({}, one.machine).splitlines()[-1]
        days.setdefault(machine, set()).add(f"{one.timestamp:%Y-%m-%d}")
    told = [
        f"{machine} ({min(of)}{f' to {max(of)}' if len(of) > 1 else ''})"
        for machine, of in days.items()
    ]
    return "; ".join(told)
