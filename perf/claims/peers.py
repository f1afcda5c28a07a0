"""Other tools beside this suite: each query in fresh processes, in random order, by CPU time.

In every round each tool has a process of its own, which answers every query twice: the first answer
compiles and fills caches, the second counts. All are checked bin by bin against ours. Ratios are those
of a round, so that what slows the machine down slows both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError, NotInstalledError
from perf.cases import peers as cases
from perf.cases.case import DisagreementError
from perf.claims.verdict import Arm, Verdict
from perf.measure.paired import in_rounds, ratio
from perf.peers.processes import CHECK, OURS, PEERS, opened
from perf.peers.query import Edges, Query
from perf.records.digest import result_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from perf.peers.processes import Answer, Peer

PREFIX: Final = "claim-"
"""Of the names of records of what is measured here."""


@dataclass
class Campaign:
    """Queries in several tools on the same events.

    Attributes
    ----------
    directory
        Folder of the synthetic events.
    peers, queries
        Names of both; ours is measured in any case, and first.
    events
        Of the file; queries of `cases.MOST_EVENTS` have as many fewer as these are above the least.
    rounds
        Processes of each tool.
    """

    directory: Path
    peers: Sequence[str]
    queries: Sequence[str]
    events: int
    rounds: int
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    """Of each round, by tool and query."""
    missing: list[str] = field(default_factory=list)
    """Why tools were not measured."""

    def __post_init__(self) -> None:
        """Refuse names that nobody has."""
        known = cases.queries()
        for names, of, kind in ((self.peers, PEERS, "tool"), (self.queries, known, "query")):
            for name in names:
                if name not in of:
                    msg = f"there is no {kind} {name!r}: there are {', '.join(of)}"
                    raise InputError(msg)
        self.asked: dict[str, Query] = {
            name: known[name] for name in known if name in self.queries
        }
        self._checked: dict[tuple[Query, Edges], tuple[float, ...]] = {}

    def events_of(self, query: str) -> int:
        """Events that a query reads."""
        return min(self.events, cases.MOST_EVENTS.get(query, self.events))

    def measure(self, rng: np.random.Generator, say: Callable[[str], None]) -> list[Verdict]:
        """Measure all rounds, telling what is measured now; InputError if a result differs."""
        chosen = [
            OURS,
            *(PEERS[name] for name in PEERS if name in self.peers and name != OURS.name),
        ]
        self._check_ours()
        left = [peer for peer in chosen if self._check(peer)]
        seed = int(rng.integers(2**31))
        for number, (peer, of_round) in enumerate(in_rounds(left, self.rounds, seed), start=1):
            say(
                f"round {of_round + 1} of {self.rounds}: {peer.title}, {number} of {self.rounds * len(left)}"
            )
            for query, (_, answer) in self._ask(peer, times=2):
                self.answers.setdefault((peer.name, query.name), []).append(answer)
        return [*self._verdicts([peer for peer in left if peer != OURS], rng)]

    def _ask(
        self, peer: Peer, edges: Edges | None = None, times: int = 1
    ) -> Iterator[tuple[Query, list[Answer]]]:
        """Each query with the answers of a fresh process, all checked."""
        with opened(peer) as running:
            for query in filter(lambda query: peer.answers(query.name), self.asked.values()):
                path, _ = cases.written(self.directory, self.events_of(query.name), peer.format)
                asked = query._replace(edges=edges or query.edges)
                answers = [running.ask(path, asked) for _ in range(times)]
                expected = self._checked.get((query, edges or peer.edges))
                if expected and any(answer.counts != expected for answer in answers):
                    of = f"{peer.title}, {cases.title(query.name)}"
                    raise InputError(str(DisagreementError(of, "that of another tool")))
                yield query, answers

    def _check_ours(self) -> None:
        """What all must have: ours, checked by another tool, with the edges of each."""
        for query, answers in self._ask(CHECK):
            self._checked[query, CHECK.edges] = answers[-1].counts
        for edges in {peer.edges for peer in PEERS.values()}:
            for query, answers in self._ask(OURS, edges):
                self._checked[query, edges] = answers[-1].counts

    def _check(self, peer: Peer) -> bool:
        """Whether a tool is installed, and gives the same; what compiles for long has done so."""
        try:
            for _ in self._ask(peer):
                pass
        except NotInstalledError as error:
            self.missing.append(str(error))
            return False
        return True

    def _verdicts(self, peers: Sequence[Peer], rng: np.random.Generator) -> Iterator[Verdict]:
        for query in self.asked:
            ours = self.answers[OURS.name, query]
            for number, peer in enumerate(peer for peer in peers if peer.answers(query)):
                theirs = self.answers[peer.name, query]
                arms = (self._arm(peer, query),)
                yield Verdict(
                    claim=f"{cases.title(query)}: {peer.title} / {OURS.title}",
                    sense="at least",
                    bound=1.0,
                    measured=ratio([one.cpu for one in theirs], [one.cpu for one in ours], rng),
                    unit="ratio",
                    arms=arms if number else (self._arm(OURS, query), *arms),
                )

    def _arm(self, peer: Peer, query: str) -> Arm:
        answers, events = self.answers[peer.name, query], self.events_of(query)
        _, identity = cases.written(self.directory, events, peer.format)
        return Arm(
            cases.what(peer, query, events, PREFIX),
            identity,
            [one.wall for one in answers],
            [one.cpu for one in answers],
            1,
            result_digest(answers[-1].counts),
            versions=answers[-1].versions,
        )


def costs(verdicts: Sequence[Verdict]) -> Mapping[str, Mapping[str, float]]:
    """Median of CPU nanoseconds an event, by tool and query."""
    import statistics  # noqa: PLC0415

    found: dict[str, dict[str, float]] = {}
    arms: list[Any] = [arm for verdict in verdicts for arm in verdict.arms]
    for arm in arms:
        of_tool = found.setdefault(str(arm.what.parameters["peer"]), {})
        of_tool[arm.what.subject] = 1e9 * statistics.median(arm.cpu) / arm.input.events
    return found
