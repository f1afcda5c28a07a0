"""Which executor for a job, with which chunks, and how long it takes: a law, and who answers with it.

With E events in F files, N chunks on w workers, and p = N / ceil(N / w) of them at work on average
until the last chunk is done:

    run   = run + chunk N + round ceil(N / w) + E (event / p + serial (1 - 1/p) + crosstalk (p - 1))
    start = start + worker (w - 1) + inspect + file F
    whole = start + run

The terms of E are the universal law of `perf.scaling.laws` in seconds; waiting for the last chunks
is in p. `perf.scaling.advice_fit` fits the coefficients to records. `static/advise.js` of the pages
has the same arithmetic, and a test holds the two together.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError
from perf.measure.estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

SERIAL: Final = "iterative"
"""The executor that has one worker, however many cores there are."""

BATCHES_AHEAD: Final = 2
"""As of `analysis.executors.order`, which takes a second to import; a test compares them."""

NO_RECORDS: Final = (
    "not measured: there are no records of inputs that differ; `python -m perf scale` makes them "
    "with --shapes (docs/executors.md)"
)

INTERVAL: Final = "intervals hold 80 % of the cells that were held out"

Range = tuple[float, float]
"""The least and the most that was measured."""


@dataclass(frozen=True)
class Question:
    """A job to be run."""

    events: int
    files: int
    workers: int
    """Cores that it may use."""
    accumulator: int | None = None
    """Bytes of the pickled result; by default what the analysis returns."""
    ns: float | None = None
    """CPU nanoseconds an event of the user's processor, reading included; by default the analysis's."""

    def __post_init__(self) -> None:
        if min(self.events, self.files, self.workers) < 1 or self.events < self.files:
            msg = "ask for at least one event a file, one file and one worker"
            raise InputError(msg)
        if (self.accumulator is not None and self.accumulator < 0) or (
            self.ns is not None and not 0 < self.ns < math.inf
        ):
            msg = "the accumulator has 0 bytes or more, and an event takes more than 0 ns"
            raise InputError(msg)


@dataclass(frozen=True)
class Costs:
    """The coefficients, in seconds."""

    run: float
    chunk: float
    round: float
    event: float
    serial: float
    crosstalk: float
    start: float
    worker: float
    inspect: float
    file: float


@dataclass(frozen=True)
class Law:
    """The law of one executor on one machine."""

    engine: str
    """As `Configuration.engine`."""
    batched: bool
    """Whether workers merge chunks before the client does; coffea's own do not."""
    cells: int
    """Inputs and numbers of workers that it is fitted to."""
    costs: Costs
    merge: float | None
    """Of a byte of the accumulator, each time that the client adds one; None if not measured."""
    run_spread: float
    whole_spread: float
    """The interval of a prediction is from its quotient by this to its product."""
    ns: float
    """CPU nanoseconds an event of the processor that was measured."""
    accumulator: int
    """Bytes of its pickled result."""
    largest_accumulator: int
    worker_bytes: float
    event_bytes: float
    """Peak memory of a worker, and what an event of a chunk adds to it."""
    other_bytes: float
    """Of client and engine."""
    events: Range
    files: Range
    workers: Range
    chunks: Range
    chunk_events: Range
    chunk_seconds: Range
    chunksizes: tuple[int, ...]


@dataclass(frozen=True)
class Laws:
    """The laws of all executors that were measured on a machine."""

    machine: str
    """Name, processor and cores."""
    memory: int | None
    """Of the machine, in bytes."""
    job: str
    """What was measured."""
    laws: tuple[Law, ...]
    missing: tuple[tuple[str, str], ...]
    """Executors without a law, and why."""


@dataclass(frozen=True)
class Answer:
    """What an executor takes for a job."""

    engine: str
    workers: int
    chunksize: int
    chunks: int
    whole: Estimate
    """Seconds from opening the files to the end of the executor."""
    run: Estimate
    """Seconds of the run alone, on workers that are warm."""
    start: float
    work: float
    waiting: float
    """For the last chunks."""
    merging: float
    """Of what the accumulator has more than the analysis's."""
    memory: float
    """Bytes of all processes."""

    @property
    def why(self) -> str:
        """What the whole time is made of, in one line."""
        return (
            f"start {_seconds(self.start)}, work {_seconds(self.work)}, "
            f"last chunks {_seconds(self.waiting)}, merging {_seconds(self.merging)}; "
            f"{self.memory / 1e9:.1f} GB of memory"
        )


@dataclass(frozen=True)
class Advice:
    """Executors that can be advised, the fastest first, and why the others cannot."""

    answers: tuple[Answer, ...]
    refused: tuple[tuple[str, str], ...]

    @property
    def as_fast(self) -> list[str]:
        """Executors that may be as fast as the first: intervals overlap."""
        return [
            one.engine for one in self.answers[1:] if one.whole.low <= self.answers[0].whole.high
        ]


def advise(laws: Laws, question: Question) -> Advice:
    """Predict for each executor with the best of the chunk sizes that were measured."""
    answers: list[Answer] = []
    refused: list[tuple[str, str]] = []
    most = max((law.workers[1] for law in laws.laws), default=0)
    for law in laws.laws:
        if law.engine.partition(",")[0] == SERIAL and question.workers > most:
            # It would be alone, and advised for that.
            found: Answer | str = _outside((question.workers, (1, most), "workers"))
        else:
            found = _best(law, question, laws.memory)
        if isinstance(found, Answer):
            answers.append(found)
        else:
            refused.append((law.engine, found))
    answers.sort(key=lambda answer: answer.whole.value)
    return Advice(tuple(answers), (*refused, *laws.missing))


def _best(law: Law, question: Question, memory: int | None) -> Answer | str:
    """The answer with the chunk size that takes least time, or why there is none."""
    workers = 1 if law.engine.partition(",")[0] == SERIAL else question.workers
    accumulator = law.accumulator if question.accumulator is None else question.accumulator
    outside = [
        (value, (low, high), what)
        for value, (low, high), what in (
            (workers, law.workers, "workers"),
            (question.files, law.files, "files"),
            (question.events, law.events, "events"),
        )
        if not low <= value <= high
    ]
    if outside:
        return _outside(*outside)
    if accumulator > law.accumulator and (
        law.merge is None or accumulator > law.largest_accumulator
    ):
        most = law.accumulator if law.merge is None else law.largest_accumulator
        return f"not measured: an accumulator of {accumulator:,} bytes, only up to {most:,}"
    # No chunk is larger than a file.
    each = -(-question.events // question.files)
    answers = [
        predict(law, question, workers, chunks(question, size), min(size, each))
        for size in law.chunksizes
        if _measured(law, question, size)
    ]
    if not answers:
        return (
            f"not measured: such chunks, only {law.chunks[0]:,} to {law.chunks[1]:,} of "
            f"{law.chunk_seconds[0]:.2f} to {law.chunk_seconds[1]:.2f} s each"
        )
    fitting = [answer for answer in answers if memory is None or answer.memory <= memory]
    if not fitting:
        least = min(answer.memory for answer in answers)
        return (
            f"too large: {least / 1e9:.1f} GB of memory, the machine has {(memory or 0) / 1e9:.1f}"
        )
    return min(fitting, key=lambda answer: (answer.whole.value, -answer.chunksize))


def _outside(*asked: tuple[int, Range, str]) -> str:
    each = [f"{value:,} {what}, only {low:,} to {high:,}" for value, (low, high), what in asked]
    return f"not measured: {'; '.join(each)}"


def chunks(question: Question, chunksize: int) -> int:
    """Number of chunks that coffea makes of files of equal size."""
    return question.files * max(1, round(question.events / question.files / chunksize))


def _measured(law: Law, question: Question, chunksize: int) -> bool:
    """Whether chunks were measured that are so many, so large and take so long."""
    number = chunks(question, chunksize)
    events = question.events / number
    seconds = events * law.costs.event * _scale(law, question)
    return all(
        low <= value <= high
        for value, (low, high) in (
            (number, law.chunks),
            (events, law.chunk_events),
            (seconds, law.chunk_seconds),
        )
    )


def _scale(law: Law, question: Question) -> float:
    return 1.0 if question.ns is None else question.ns / law.ns


def predict(law: Law, question: Question, workers: int, number: int, chunksize: int = 0) -> Answer:
    """What the law says of so many chunks, measured or not."""
    rounds = math.ceil(number / workers)
    busy = number / rounds
    work = question.events * _scale(law, question)
    costs = law.costs
    beside = costs.run + costs.chunk * number
    computing = costs.round * rounds + work * costs.event / busy
    exchange = work * (costs.serial * (1 - 1 / busy) + costs.crosstalk * (busy - 1))
    more = 0 if question.accumulator is None else max(0, question.accumulator - law.accumulator)
    results = batches(number, workers) if law.batched else number
    merging = (law.merge or 0.0) * more * results
    run = beside + computing + exchange + merging
    start = (
        costs.start + costs.worker * (workers - 1) + costs.inspect + costs.file * question.files
    )
    waiting = computing * (1 - busy / workers)
    each = law.worker_bytes + law.event_bytes * question.events / number
    return Answer(
        engine=law.engine,
        workers=workers,
        chunksize=chunksize,
        chunks=number,
        whole=_within(start + run, law.whole_spread),
        run=_within(run, law.run_spread),
        start=start,
        work=run - waiting - merging,
        waiting=waiting,
        merging=merging,
        memory=law.other_bytes + workers * each,
    )


def batches(number: int, workers: int) -> int:
    """How many results the client adds up, as `analysis.executors.order.guided` has it."""
    count = 0
    while number:
        number -= max(1, number // (BATCHES_AHEAD * workers))
        count += 1
    return count


def _within(value: float, spread: float) -> Estimate:
    return Estimate(value, value / spread, value * spread)


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def first_that_answers(machines: Sequence[Laws], question: Question) -> tuple[Laws, Advice]:
    """The advice of the first machine that has any.

    Raises
    ------
    InputError
        If none has: with what each says of its first executor.
    """
    for laws in machines:
        advice = advise(laws, question)
        if advice.answers:
            return laws, advice
    reasons = [
        f"{advise(laws, question).refused[0][1]} ({laws.machine.partition(':')[0]})"
        for laws in machines
        if laws.laws
    ]
    raise InputError("; ".join(reasons) or NO_RECORDS)


def as_json(laws: Laws, advice: Advice) -> dict[str, Any]:
    """The advice as JSON has it."""
    return {
        "machine": laws.machine,
        "job": laws.job,
        "answers": [{**asdict(answer), "why": answer.why} for answer in advice.answers],
        "refused": [{"engine": engine, "why": why} for engine, why in advice.refused],
    }
