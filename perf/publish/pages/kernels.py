"""Kernels: is numba or awkward faster, from how many events on, and what is proven."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from analysis.kernels import IMPLEMENTATIONS, KERNELS
from perf.cases.kernels import KernelCase
from perf.cases.scales import EXAMPLES
from perf.limits import table
from perf.publish import kernel_proofs
from perf.publish.newest import estimated, how, judged, newest
from perf.publish.page import Material, Page
from perf.records import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from analysis.kernels import Kernel
    from perf.publish.newest import Measured
    from perf.records.record_file import Record

COMMAND: Final = "pytest perf/bench_kernels.py --benchmark-only --benchmark-scale full"
CLAIMS_COMMAND: Final = (
    "python -m perf claims --only trijet --only selection --only limit --only 'reading-*'"
)
LIMITS_COMMAND: Final = "python -m perf limits"

NAMES: Final = {"columnar": "awkward", "compiled": "numba", "reference": "reference (Python)"}
"""Of implementations, in charts: in the order of their colours."""

Costs = dict[str, dict[int, dict[str, "Measured"]]]
"""CPU time an event by kernel, number of events and implementation."""


def _is_case(record: Record) -> bool:
    """Whether it is a kernel on columns in memory, as its case measures it."""
    what = record.what
    return (
        what.kind == "kernel"
        and what.subject in KERNELS
        and what.implementation in IMPLEMENTATIONS
        and KernelCase(what.subject, what.implementation, what.size).what == what
    )


def _context(material: Material) -> Mapping[str, Any]:
    found = newest(material, "CPU", _is_case)
    costs: Costs = {}
    for each in found.measured:
        what = each.record.what
        of_size = costs.setdefault(what.subject, {}).setdefault(what.size, {})
        of_size[str(what.implementation)] = each
    scores = kernel_proofs.scores()
    sizes = sorted({size for of_kernel in costs.values() for size in of_kernel})
    return {
        "machine": found.machine,
        "others": found.others,
        "command": COMMAND,
        "sizes": [_of_size(costs, size, _claimed(material, found.machine)) for size in sizes],
        "kernels": [
            _kernel(kernel, costs.get(kernel.name, {}), scores.get(kernel.name))
            for kernel in KERNELS.values()
        ],
        "examples": EXAMPLES,
        "claims": judged(material.records, {"kernel", "selection", limits.KIND}, CLAIMS_COMMAND),
        "limits": [_limit(cell) for cell in limits.cells(material.records)],
        "limits_command": LIMITS_COMMAND,
        "how": how(found.measured, COMMAND),
    }


def _limit(cell: limits.Cell) -> dict[str, Any]:
    """What the parts of a limit take, and how many times above it processors are."""
    record = cell.parts["read"]
    return {
        "title": table.title(cell),
        "machine": cell.machine,
        "measured": f"{record.timestamp:%Y-%m-%d}",
        "rows": [
            {
                "name": row.name,
                "chunksize": row.chunksize,
                "seconds": 1e-9 * row.nanoseconds,
                "times": {of: estimated(times, sure=row.sure) for of, times in row.times.items()},
            }
            for row in table.rows(cell)
        ],
    }


def _claimed(material: Material, machine: str | None) -> dict[tuple[str, int], dict[str, Any]]:
    """The newest verdict of ``claims`` on a kernel and number of events, of a machine."""
    return {
        (record.what.subject, record.what.size): claimed.model_dump()
        for record in material.records
        if record.what.kind == "kernel" and record.machine.name == machine
        for claimed in record.claims
    }


def _of_size(
    costs: Costs, size: int, claimed: Mapping[tuple[str, int], Mapping[str, Any]]
) -> dict[str, Any]:
    """A row for each kernel of this size, that which gains most first, and a chart of them."""
    rows = [
        {"kernel": kernel, "claim": claimed.get((kernel, size)), **_pair(of_kernel[size])}
        for kernel, of_kernel in costs.items()
        if size in of_kernel
    ]
    rows.sort(key=lambda row: -(row["ratio"]["value"] if row["ratio"] else 0))
    dots = [
        {"y": row["kernel"], "group": name, **_point(row[implementation], "x")}
        for row in rows
        for implementation, name in NAMES.items()
        if row.get(implementation)
    ]
    x = {"label": "CPU time an event", "unit": "ns", "log": True}
    return {"events": size, "kernels": rows, "chart": {"x": x, "rows": dots}}


def _point(cost: Mapping[str, Any], axis: str) -> dict[str, Any]:
    """A point of a chart in nanoseconds, with its interval if it has one."""
    ends = {} if cost["low"] is None else {"lo": 1e9 * cost["low"], "hi": 1e9 * cost["high"]}
    return {axis: 1e9 * cost["value"], **ends}


def _pair(members: Mapping[str, Measured]) -> dict[str, Any]:
    """Both implementations, and awkward over numba where one run measured both on one input."""
    pair = [members.get(name) for name in ("columnar", "compiled")]
    columnar, compiled = pair
    ratio = None
    if (
        columnar
        and compiled
        and _beside(columnar.record, compiled.record)
        and compiled.estimate.low > 0
    ):
        ratio = estimated(
            columnar.estimate.over(compiled.estimate), sure=columnar.sure and compiled.sure
        )
    shown = [one and one.as_json() for one in pair]
    return {"columnar": shown[0], "compiled": shown[1], "ratio": ratio}


def _beside(one: Record, other: Record) -> bool:
    return one.run == other.run and one.input.digest == other.input.digest


def _kernel(
    kernel: Kernel, of_size: Mapping[int, Mapping[str, Measured]], score: Any
) -> dict[str, Any]:
    rows = [
        {
            "events": size,
            "reference": members["reference"].as_json() if "reference" in members else None,
            **_pair(members),
        }
        for size, members in sorted(of_size.items())
    ]
    text = (kernel.module.__doc__ or "").strip()
    points = [
        {"x": row["events"], "group": name, **_point(row[implementation], "y")}
        for implementation, name in NAMES.items()
        for row in rows
        if row[implementation]
    ]
    chart = {
        "x": {"label": "events", "log": True},
        "y": {"label": "CPU time an event", "unit": "ns", "log": True},
        "rows": points,
    }
    return {
        "name": kernel.name,
        "definition": text.partition("\n\n")[0].replace("\n", " "),
        "scales_with": kernel.scales_with,
        "sizes": rows,
        "chart": chart,
        "crossover": crossover(rows),
        "tolerance": kernel_proofs.tolerance(kernel),
        "score": score and score._asdict(),
        "sources": kernel_proofs.sources(kernel),
    }


def crossover(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """From how many events on numba is faster, of ratios by size in order; None if not measured.

    ``faster_from`` is the least size from which it is at all larger ones (None if at none), ``least``
    the least and ``largest`` the largest that was measured.
    """
    known = [(row["events"], row["ratio"]["value"]) for row in rows if row["ratio"]]
    if not known:
        return None
    start = None
    for events, ratio in reversed(known):
        if ratio <= 1:
            break
        start = events
    return {"faster_from": start, "least": known[0][0], "largest": known[-1][0]}


PAGE: Final = Page("kernels", "Kernels", _context)
