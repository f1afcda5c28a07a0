"""Is B slower than A? Two versions, measured side by side until that can be said.

Each block starts three fresh processes: A, A again and B. They make the same calls in turns, in
random order, each in its environment. No time of a benchmark counts unless its results are equal
on both sides. After some blocks `verdict` judges; benchmarks that are decided are not measured any
more, and the others get more blocks until the time is up.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from scipy import stats

from perf.compare import verdict, worker
from perf.measure import fresh_process
from perf.measure.fresh_process import ProcessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from perf.compare.benchmarks import Benchmark
    from perf.compare.sides import Side
    from perf.compare.verdict import Judgement

Clock = Literal["cpu", "wall"]

CLOCKS: Final[dict[Clock, str]] = {"cpu": "CPU time", "wall": "wall time"}
"""Clocks, and what they are called."""

WORKER: Final = Path(worker.__file__)

BUDGET: Final = 180.0
"""Seconds of a comparison."""

SAMPLE: Final = 0.0025
"""CPU seconds of one sample, about: shorter than a turn of the scheduler, so that most samples
are not interrupted. A call that is longer is one sample."""

SAMPLES: Final = 0.1
"""CPU seconds of all samples of a benchmark in a process, about, at least."""

PROCESS: Final = 1.0
"""CPU seconds of all samples of a process, shared by the benchmarks that are undecided: some of what
starting it takes. On a busy machine samples vary by far more than what they have in common in a
process, so that few benchmarks are measured for longer in each, which is cheaper than a block more."""

MOST_ROUNDS: Final = 400
FEWEST_ROUNDS: Final = 4
FEWEST_IN_WORKERS: Final = 2
"""Of a call that starts workers, which takes seconds: another process tells more than another call."""

OUTCOMES: Final = ("slower", "undecided", "faster", "no change")
"""Of a benchmark it is the first that one of its clocks has."""

ARMS: Final = ("A", "A again", "B")

EXIT_SECONDS: Final = 5.0
"""For a process to end when its input ends."""


class WorkerError(ProcessError):
    """A process failed at a command, and goes on."""


class Process(fresh_process.Process):
    """A process of a side that opens benchmarks, and calls them when told."""

    def __init__(
        self,
        side: Side,
        seed: int,
        prefix: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            [*prefix, str(side.python), "-P", "-s", str(WORKER)],
            {**side.environ(seed), **(environ or {})},
            grace=EXIT_SECONDS,
        )

    def pin_to_core(self, number: int) -> None:
        """Keep the process on one of its cores, the next for the next number (on Linux).

        Cores differ, for seconds at a time, by what else runs on the same silicon: on one core
        this is the same for all arms of a block.
        """
        with suppress(OSError, AttributeError):
            cores = sorted(os.sched_getaffinity(self.pid))
            os.sched_setaffinity(self.pid, {cores[number % len(cores)]})

    def send(self, do: str, **arguments: Any) -> None:
        """Send a command, whose result is that of `result`."""
        self.ask(json.dumps({"do": do, **arguments}))

    def result(self) -> dict[str, Any]:
        """Result of the last command; WorkerError if it failed, ProcessError if the process ended."""
        result: dict[str, Any] = json.loads(self.answer())
        if "error" in result:
            raise WorkerError(result["error"])
        return result

    def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        """`send` and `result`."""
        self.send(do, **arguments)
        return self.result()


# --- the comparison


@dataclass
class Measured:
    """One benchmark of a comparison, with its samples so far."""

    benchmark: Benchmark
    loops: int = 1
    """Calls of a sample, the same in all processes."""
    sample: float = SAMPLE
    """Seconds of a sample, about."""
    rounds: int = 1
    """Samples of each of the last processes."""
    cpu: list[tuple[float, ...]] = field(default_factory=list)
    """Logarithms of CPU seconds a call, of each block those of A, A again and B."""
    wall: list[tuple[float, ...]] = field(default_factory=list)
    judgements: dict[Clock, Judgement] = field(default_factory=dict)
    """By clock; none before the first look."""
    failure: str | None = None
    """Why it was not measured."""

    def share(self, open_benchmarks: int) -> None:
        """Take as many samples of a process as so many benchmarks leave time for."""
        fewest = FEWEST_ROUNDS if self.benchmark.workers == 1 else FEWEST_IN_WORKERS
        wanted = round(max(SAMPLES, PROCESS / open_benchmarks) / self.sample)
        self.rounds = max(fewest, min(MOST_ROUNDS, wanted))

    @property
    def clocks(self) -> tuple[Clock, ...]:
        """Clocks that are judged: wall time too, if several workers share the work."""
        return ("cpu", "wall") if self.benchmark.workers > 1 else ("cpu",)

    @property
    def open_clocks(self) -> list[Clock]:
        """Clocks that are undecided."""
        return [
            clock
            for clock in self.clocks
            if self.failure is None
            and (clock not in self.judgements or self.judgements[clock].outcome == "undecided")
        ]

    @property
    def clock(self) -> Clock | None:
        """The clock that the outcome is of; None if there is no judgement."""
        judged = [clock for clock in self.clocks if clock in self.judgements]
        return min(
            judged if self.failure is None else [],
            key=lambda clock: OUTCOMES.index(self.judgements[clock].outcome),
            default=None,
        )

    @property
    def judgement(self) -> Judgement | None:
        """That of `clock`."""
        return self.judgements[self.clock] if self.clock else None

    @property
    def outcome(self) -> str:
        """That of the judgement, or "not comparable"."""
        if self.failure is not None:
            return "not comparable"
        return self.judgement.outcome if self.judgement else "undecided"

    @property
    def verdict(self) -> str:
        """The outcome in words, of each clock if two are judged."""
        if self.judgement is None or len(self.clocks) == 1:
            return str(self.judgement or self.outcome)
        return ", ".join(
            f"{judgement} in {CLOCKS[clock]}" for clock, judgement in self.judgements.items()
        )

    def seconds(self, arm: int, clock: Clock = "cpu") -> float:
        """Median of seconds a call, of an arm."""
        return float(np.exp(np.median(self.logs(clock)[:, arm])))

    def logs(self, clock: Clock) -> NDArray[Any]:
        """Logarithms of seconds a call: (blocks, arms)."""
        return np.array(self.cpu if clock == "cpu" else self.wall)


@dataclass
class Comparison:
    """A comparison of two sides, with its results so far."""

    a: Side
    b: Side
    benchmarks: InitVar[Iterable[Benchmark]]
    measured: dict[str, Measured] = field(init=False)
    seed: int = 1
    """Of the orders and of the bootstrap."""
    resolution: float = verdict.RESOLUTION
    error: float = verdict.ERROR
    blocks: int = 0
    """Blocks made so far."""
    looks: int = 0
    """Times that the data were judged so far."""
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def __post_init__(self, benchmarks: Iterable[Benchmark]) -> None:
        self.measured = {benchmark.name: Measured(benchmark) for benchmark in benchmarks}
        self.rng = np.random.default_rng(self.seed)
        self._expected: dict[str, tuple[str, Any]] = {}

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return (self.ended or time.monotonic()) - self.began

    @property
    def todo(self) -> list[str]:
        """Benchmarks that are undecided."""
        return [name for name, member in self.measured.items() if member.open_clocks]

    def run(
        self, budget: float = BUDGET, report: Callable[[Comparison], None] = lambda _: None
    ) -> None:
        """Measure until all is decided, or the time is up, and call `report` after each block.

        `budget` is in seconds: no block is begun that would not end in time, except those before
        the first look.
        """
        self.began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="coffea-compare-") as folder:
            self._rehearse(Path(folder))
            looks, longest = verdict.looks(), 0.0
            while self.todo:
                begin = time.monotonic()
                late = begin + longest - self.began > budget
                if late and self.blocks >= verdict.FIRST_LOOK:
                    break
                self._block(Path(folder))
                longest = max(longest, time.monotonic() - begin)
                if self.blocks in looks:
                    self._look()
                report(self)
            if self.todo and self.blocks > 1 and self.blocks not in looks:
                self._look()
        self.ended = time.monotonic()

    def _rehearse(self, folder: Path) -> None:
        """Call every benchmark once on both sides: it compiles, and the results are compared."""
        for arm, side in (("A", self.a), ("B", self.b)):
            pending = self.todo
            while pending:
                with Process(side, 0) as process:
                    pending = self._rehearsed(process, arm, pending, folder)

    def _rehearsed(self, process: Process, arm: str, names: list[str], folder: Path) -> list[str]:
        """Rehearse in one process; returns the benchmarks that are left if it ended."""
        for number, name in enumerate(names):
            member, path = self.measured[name], folder / f"{arm}-{name}.npz"
            try:
                digest = process.call(
                    "open", name=name, spec=member.benchmark.spec, result=str(path)
                )["digest"]
                if arm == "A":
                    plan = process.call("plan", name=name, seconds=SAMPLE)
            except ProcessError as error:
                member.failure = f"it fails in {arm}: {error}"
                if not isinstance(error, WorkerError):
                    return names[number + 1 :]
                continue
            if arm == "A":
                self._expected[name] = digest, worker.load(path)[0]
                member.loops = plan["loops"]
                member.sample = max(plan[clock] for clock in member.clocks) * member.loops
            else:
                self._check(name, digest, path, arm)
        return []

    def _check(self, name: str, digest: str, path: Path, arm: str) -> None:
        """Note a failure if a result is not equal to that of A."""
        known, expected = self._expected[name]
        if digest == known:
            return
        difference = self.measured[name].benchmark.difference(worker.load(path)[0], expected)
        if difference is not None:
            self.measured[name].failure = f"results of A and {arm} differ: {difference}"

    def _block(self, folder: Path) -> None:
        """Start three processes; each gives a number for each benchmark that is undecided.

        If a benchmark fails, it is not comparable, and the block is given up.
        """
        names, seed = self.todo, self.blocks + 1
        with ExitStack() as stack:
            sides, started = (self.a, self.a, self.b), {}
            for arm in self.rng.permutation(len(sides)):
                started[arm] = stack.enter_context(Process(sides[arm], seed))
            arms = [started[arm] for arm in range(len(sides))]
            if not self._opened(names, arms, folder):
                return
            for process in arms:
                # Several workers need several cores.
                if all(member.benchmark.workers == 1 for member in self.measured.values()):
                    process.pin_to_core(self.blocks)
                process.call("freeze_gc")
            samples = self._sampled([name for name in names if name in self.todo], arms)
        if samples is None:
            return
        for name, times in samples.items():
            self.measured[name].cpu.append(_summary(times[..., 0]))
            self.measured[name].wall.append(_summary(times[..., 1]))
        self.blocks += 1

    def _opened(self, names: list[str], arms: Sequence[Process], folder: Path) -> bool:
        """Open benchmarks in all processes, each in an order of its own; whether all went well."""
        paths = [folder / f"block-{arm}.npz" for arm in range(len(arms))]
        orders = [[names[n] for n in self.rng.permutation(len(names))] for _ in arms]
        for step in zip(*orders, strict=True):
            # All at once.
            for name, process, path in zip(step, arms, paths, strict=True):
                spec = self.measured[name].benchmark.spec
                process.send("open", name=name, spec=spec, result=str(path))
            for name, arm, process, path in zip(step, ARMS, arms, paths, strict=True):
                try:
                    self._check(name, process.result()["digest"], path, arm)
                except ProcessError as error:
                    self.measured[name].failure = f"it fails after it worked once: {error}"
                    return False
        return True

    def _sampled(
        self, names: list[str], arms: Sequence[Process]
    ) -> dict[str, NDArray[Any]] | None:
        """Seconds a call, by benchmark: (rounds, arms, CPU and wall); None if one failed."""
        for name in names:
            self.measured[name].share(len(names))
        samples = {name: np.empty((self.measured[name].rounds, len(arms), 2)) for name in names}
        turns = [(name, turn) for name in names for turn in range(self.measured[name].rounds)]
        for index in self.rng.permutation(len(turns)):
            name, turn = turns[index]
            loops = self.measured[name].loops
            for arm in self.rng.permutation(len(arms)):
                try:
                    took = arms[arm].call("run", name=name, loops=loops, turn=turn)
                except ProcessError as error:
                    self.measured[name].failure = f"it fails in {ARMS[arm]}: {error}"
                    return None
                samples[name][turn, arm] = took["cpu"] / loops, took["wall"] / loops
        return samples

    def _look(self) -> None:
        """Judge the benchmarks that are undecided."""
        self.looks += 1
        members = [one for one in self.measured.values() if one.failure is None]
        changed = sum(
            judgement.outcome in {"slower", "faster"}
            for one in members
            for judgement in one.judgements.values()
        )
        for clock in CLOCKS:
            judgements = verdict.judge(
                {
                    one.benchmark.name: one.logs(clock)
                    for one in members
                    if clock in one.open_clocks
                },
                self.rng,
                look=self.looks,
                # Holm's correction is over both clocks; their residuals are not of one kind.
                total=sum(len(one.clocks) for one in members),
                changed=changed,
                error=self.error,
                resolution=self.resolution,
            )
            for name, judgement in judgements.items():
                self.measured[name].judgements[clock] = judgement


def _summary(times: NDArray[Any]) -> tuple[float, ...]:
    """Logarithms of seconds of A, A again and B, from times of (rounds, arms) in seconds.

    The two contrasts are taken in each round, in which the arms follow each other at once: what
    lasts longer is the same for all. They are means of the middle half of the rounds.
    """
    logs = np.log(times)
    first, again, b = logs.T
    control = _middle(again - first)
    effect = _middle(b - (first + again) / 2)
    middle = _middle(logs[:, :2].ravel())
    return middle - control / 2, middle + control / 2, middle + effect


def _middle(values: NDArray[Any]) -> float:
    return float(stats.trim_mean(values, 0.25))
