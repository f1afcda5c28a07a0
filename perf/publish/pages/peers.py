"""Other tools: what the same queries cost in them, beside this suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from perf.cases import peers as cases
from perf.claims.peers import PREFIX
from perf.measure import paired
from perf.peers.processes import OURS, PEERS
from perf.publish.newest import how, newest
from perf.publish.page import Material, Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perf.publish.newest import Measured
    from perf.publish.page import Verdict
    from perf.records.record_file import Record

COMMAND: Final = "coffea-perf peers"

VERDICTS: Final[Mapping[str, Verdict]] = {"holds": "slower", "FAILS": "faster"}
"""Of a tool, by the verdict on its ratio to ours, which is claimed to be at least 1."""

FORMATS: Final = {"ttree": "TTree", "parquet": "Parquet"}


def _is_case(record: Record) -> bool:
    """Whether it is a query in a tool that is known, as ``peers`` measures it beside ours."""
    peer = PEERS.get(str(record.what.parameters.get("peer")))
    what = record.what
    return (
        what.kind == "peer"
        and peer is not None
        and what == cases.what(peer, what.subject, what.size, PREFIX)
    )


def _context(material: Material) -> Mapping[str, Any]:
    found = newest(material, "CPU", _is_case)
    by_query: dict[str, dict[str, Measured]] = {}
    for each in found.measured:
        what = each.record.what
        by_query.setdefault(what.subject, {})[str(what.parameters["peer"])] = each
    ordered = {name: by_query[name] for name in cases.queries() if name in by_query}
    return {
        "machine": found.machine,
        "others": found.others,
        "command": COMMAND,
        "confidence": paired.CONFIDENCE,
        "queries": [_query(name, members) for name, members in ordered.items()],
        "tools": [
            {
                "title": peer.title,
                "format": FORMATS[peer.format],
                "costs": [_cost(members.get(peer.name)) for members in ordered.values()],
            }
            for peer in PEERS.values()
            if any(peer.name in members for members in ordered.values())
        ],
        "chart": _chart(ordered),
        "versions": _versions(found.measured),
        "how": how(found.measured, COMMAND),
    }


def _query(name: str, members: Mapping[str, Measured]) -> dict[str, Any]:
    """A row for each tool, with its ratio to ours."""
    first = next(iter(members.values()))
    rows = [
        {
            "title": peer.title,
            "ours": peer == OURS,
            "cost": _cost(members[peer.name]),
            "ratio": _ratio(members[peer.name].record),
        }
        for peer in PEERS.values()
        if peer.name in members
    ]
    return {
        "name": name,
        "title": cases.title(name),
        "events": first.record.input.events,
        "rows": rows,
    }


def _ratio(record: Record) -> dict[str, Any] | None:
    """What was judged of a tool over ours; None of ours."""
    if not record.claims:
        return None
    (claimed,) = record.claims
    verdict = VERDICTS.get(claimed.verdict, "undecided")
    return {"value": claimed.value, "low": claimed.low, "high": claimed.high, "verdict": verdict}


def _cost(measured: Measured | None) -> dict[str, Any] | None:
    return measured.as_json() if measured else None


def _chart(ordered: Mapping[str, Mapping[str, Measured]]) -> dict[str, Any]:
    rows = [
        {"y": query, "group": peer.title, "x": 1e9 * members[peer.name].estimate.value}
        for query, members in ordered.items()
        for peer in PEERS.values()
        if peer.name in members
    ]
    return {"x": {"label": "CPU time an event", "unit": "ns", "log": True}, "rows": rows}


def _versions(measured: Sequence[Measured]) -> dict[str, str]:
    """Versions of what only tools use."""
    every = [each.record.versions for each in measured]
    common = set.intersection(*map(set, every)) if every else set()
    return {
        name: version
        for versions in every
        for name, version in versions.items()
        if name not in common
    }


PAGE: Final = Page("peers", "Other tools", _context)
