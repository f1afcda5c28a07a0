"""Executors on hosts: near their files and far from them, beside a slow host, and with one lost.

Five hosts (files, scheduler or master, client, two workers of one core each) share the cores of the
machine, so that rates are no rates of five machines; what is to be read is how one differs from the
next, and what is sent. Every result is compared with that of the iterative executor of this process.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from analysis.errors import InputError
from analysis.runner.job import Job
from analysis.synthetic import write_fileset
from perf.hosts import clusters
from perf.hosts.client import Answer, Opening, Run
from perf.hosts.network import Host, Link, network
from perf.records import difference
from perf.scaling.reference import make_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy as np

    from analysis.files.fileset import FileSet
    from analysis.kernels import Implementation
    from perf.scaling.reference import Reference

ENGINES: Final = ("iterative", "dask", "parsl", "spark")
"""Executors that work on hosts; futures has processes of one host. Iterative runs on the client's."""

RATE: Final = 1e9
"""Bits a second of every link."""

WORKERS: Final = ("one", "two")

CHUNKS: Final = 8
FILES: Final = 4

SEED: Final = 7

SLOW: Final = 0.5
"""Share of the time in which the slow host runs."""

BEGUN: Final = 100_000
"""Bytes that files have sent when a run is at work."""


class Scenario(NamedTuple):
    """What is done to hosts in a run."""

    name: str
    delay: float = 0.0
    """Seconds each way to the files."""
    ahead: bool = True
    """Whether branches are read in one go."""
    slow: bool = False
    cut: bool = False


FIRST: Final = Scenario("first")
"""With nothing compiled on any host."""

SCENARIOS: Final = (
    Scenario("near"),
    Scenario("near, by branch", ahead=False),
    Scenario("10 ms", 0.01),
    Scenario("10 ms, by branch", 0.01, ahead=False),
    Scenario("50 ms", 0.05),
    Scenario("50 ms, by branch", 0.05, ahead=False),
    Scenario("slow host", slow=True),
)

LOST: Final = Scenario("host lost", cut=True)
"""The last: its host does not come back."""


@dataclass
class Measured:
    """Runs of one executor in one scenario, each equal to the reference."""

    engine: str
    scenario: Scenario
    events: int
    chunks: int
    wall: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    results: list[int] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Add a run."""
        self.wall.append(answer.wall)
        self.sent.append(answer.sent)
        self.received.append(answer.received)
        self.results.append(answer.results)


@dataclass(frozen=True)
class Campaign:
    """What is measured: events of ttbar in a folder of synthetic files."""

    folder: Path
    events: int
    repeat: int
    implementation: Implementation = "compiled"
    scenarios: Sequence[Scenario] = SCENARIOS

    @property
    def chunksize(self) -> int:
        """Events of a chunk."""
        return self.events // CHUNKS

    def job(self) -> Job:
        """The analysis on this machine, of files that are written where they are missing."""
        write_fileset(
            self.folder,
            events=self.events,
            seed=SEED,
            processes=["ttbar"],
            variations=["nominal"],
            events_per_file=self.events // FILES,
            cluster=self.chunksize,
        )
        return Job.of_ttbar(self.folder / "fileset.json", self.implementation)

    def measure(
        self,
        engines: Sequence[str],
        rng: np.random.Generator,
        say: Callable[[str], object],
        keep: Callable[[Measured], object],
    ) -> list[Measured]:
        """Measure executors, one after the other; each scenario is kept as soon as it is whole.

        Raises
        ------
        InputError
            If a result is not that of the reference, or a run ends in an error.
        """
        say("reference")
        inspected = self.job().inspect()
        reference = make_reference(inspected, self.chunksize)
        done = []
        for engine in engines:
            for one in self._engine(engine, inspected.job.fileset, reference, rng, say):
                keep(one)
                done.append(one)
        return done

    def _engine(
        self,
        engine: str,
        fileset: FileSet,
        reference: Reference,
        rng: np.random.Generator,
        say: Callable[[str], object],
    ) -> Iterator[Measured]:
        say(f"{engine}: start")
        with _opened(engine, self.folder) as (hosts, client, address):
            measured = {one: Measured(engine, one, self.events, CHUNKS) for one in self.scenarios}
            there = clusters.served(fileset, address)

            def run(scenario: Scenario, into: Measured) -> None:
                say(f"{engine}: {scenario.name}")
                asked = Run(
                    there,
                    self.chunksize,
                    implementation=self.implementation,
                    ahead=scenario.ahead,
                )
                into.add(_checked(_answer(hosts, client, asked, scenario), reference, into))

            first = Measured(engine, FIRST, self.events, CHUNKS)
            run(FIRST, first)
            yield first
            alone = engine == "iterative"
            wanted = [one for one in self.scenarios if not (alone and one.slow)]
            for number in rng.permutation(len(wanted) * self.repeat):
                scenario = wanted[number % len(wanted)]
                run(scenario, measured[scenario])
            yield from (measured[one] for one in wanted)
            if not alone:
                lost = Measured(engine, LOST, self.events, CHUNKS)
                run(LOST, lost)
                yield lost


@contextmanager
def _opened(engine: str, folder: Path) -> Iterator[tuple[dict[str, Host], clusters.Client, str]]:
    """Hosts, the client with its executor, and the address of files."""
    names = ("files", "scheduler", "client", *WORKERS)
    links = {name: Link(RATE, delayed=name == "files") for name in names}
    with ExitStack() as stack:
        hosts = stack.enter_context(network(links, {"files": [folder]}))
        address = stack.enter_context(clusters.files(hosts["files"], folder))
        workers = [hosts[name] for name in WORKERS]
        opening = Opening(engine, len(workers), address=hosts["client"].address)
        match engine:
            case "dask":
                options = stack.enter_context(clusters.dask(hosts["scheduler"], workers))
                opening = Opening(engine, len(workers), options)
            case "spark":
                options = stack.enter_context(
                    clusters.spark(hosts["scheduler"], workers, hosts["client"])
                )
                opening = Opening(engine, len(workers), options)
            case "parsl":
                blocks = stack.enter_context(clusters.agents(workers))
                address_ = hosts["client"].address
                opening = Opening(engine, len(workers), address=address_, blocks=blocks)
            case _:
                opening = Opening(engine, 1)
        client = stack.enter_context(clusters.client(hosts["client"], opening))
        yield hosts, client, address


def _answer(
    hosts: dict[str, Host], client: clusters.Client, asked: Run, scenario: Scenario
) -> Answer | str:
    files, victim = hosts["files"], hosts[WORKERS[0]]
    files.shape(delay=scenario.delay)
    with ExitStack() as stack:
        if scenario.slow:
            stack.enter_context(victim.slowed(SLOW))
        before = victim.traffic
        client.begin(asked)
        if scenario.cut:
            # The host that is lost has begun to read, or has its chunks from the worker's cache.
            until = time.monotonic() + clusters.START_SECONDS
            while victim.traffic.since(before).received < BEGUN and time.monotonic() < until:
                time.sleep(0.005)
            victim.cut_off()
        return client.end()


def _checked(answer: Answer | str, reference: Reference, into: Measured) -> Answer:
    """The answer of a run that is equal to the reference."""
    what = f"{into.engine}, {into.scenario.name}"
    if isinstance(answer, str):
        msg = f"{what}: {answer.splitlines()[0]}"
        raise InputError(msg)
    arithmetic = difference.Arithmetic(
        answer.events, max(answer.chunks, reference.chunks), single=reference.single
    )
    differs = difference.difference(
        answer.accumulated, reference.accumulated, arithmetic=arithmetic, sizes=reference.sizes
    )
    if differs is not None or answer.events != into.events:
        msg = f"{what}: the result differs from the reference: {differs or answer.events}"
        raise InputError(msg)
    return answer
