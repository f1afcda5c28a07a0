"""The laws of `perf.scaling.advice`, fitted to records; and how well they predict what is held out.

A cell is an input (events, files, chunks) on an executor with a number of workers. Coefficients are
not negative and minimise the squares of relative errors. Each cell is predicted by the law of all
others: these errors give the interval of predictions, and the laws without one cell each the
uncertainty of the coefficients (jackknife).
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from analysis.executors import EXECUTORS
from perf.scaling import advice
from perf.scaling.advice import Costs, Law, Laws, Question
from perf.scaling.campaign import read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from perf.records.record_file import Record
    from perf.scaling.worker import Measured

LEAST_CELLS: Final = 8
"""Of a law: it has up to six coefficients of the run."""

LEAST_WORKERS: Final = 4
"""Numbers of workers that determine the crosstalk, as in `perf.scaling.laws`."""

LEVEL: Final = 0.8
"""Share of new cells that an interval is to hold."""

NOTHING: Final = 1e-6
"""Of what was measured: a prediction of less is taken for this."""

CLOSE: Final = 0.25
"""A prediction within this of what was measured counts as right."""


class Cell(NamedTuple):
    """An input on a number of workers."""

    events: int
    files: int
    chunks: int
    workers: int


class Seen(NamedTuple):
    """What was measured of a cell: medians over its worker runs."""

    cell: Cell
    run: float
    """Seconds of the warm run."""
    beside: float
    """Seconds to start and end the executor, and by which its first run is slower."""
    inspect: float

    @property
    def whole(self) -> float:
        """Seconds from opening the files to the end of the executor."""
        return self.inspect + self.beside + self.run


class HeldOut(NamedTuple):
    """A cell, and what the law of all others predicts."""

    engine: str
    seen: Seen
    run: float
    whole: float

    def close(self, what: str) -> bool:
        """Whether `run` or `whole` was predicted within CLOSE."""
        predicted, measured = getattr(self, what), getattr(self.seen, what)
        return bool(abs(predicted / measured - 1) <= CLOSE)


@dataclass(frozen=True)
class Fitted:
    """The laws of a machine, with what they rest on."""

    laws: Laws
    newest: Record
    """Of those that they are fitted to."""
    held_out: tuple[HeldOut, ...]
    errors: dict[str, dict[str, float]]
    """Standard error of each coefficient, by executor."""

    def right(self, what: str, engine: str | None = None) -> tuple[int, int]:
        """How many held-out cells were predicted within CLOSE, and of how many."""
        cells = [one for one in self.held_out if engine in {None, one.engine}]
        return sum(one.close(what) for one in cells), len(cells)


def sentence(one: Fitted) -> str:
    """How often the laws of a machine were right."""
    run, cells = one.right("run")
    whole, _ = one.right("whole")
    return (
        f"held-out cells within {100 * CLOSE:.0f} %: run {run} of {cells} "
        f"({100 * run / cells:.0f} %), in all {whole} of {cells} ({100 * whole / cells:.0f} %)"
    )


def as_json(one: Fitted) -> dict[str, Any]:
    """Laws, held-out cells and errors as JSON has them."""
    return {
        "laws": asdict(one.laws),
        "held_out": [
            {
                "engine": cell.engine,
                **cell.seen.cell._asdict(),
                "run": {"measured": cell.seen.run, "predicted": cell.run},
                "whole": {"measured": cell.seen.whole, "predicted": cell.whole},
            }
            for cell in one.held_out
        ],
        "errors": one.errors,
        "within": {what: list(one.right(what)) for what in ("run", "whole")},
    }


def fitted(records: Iterable[Record]) -> list[Fitted]:
    """The laws of every machine and job: those with any first, and what was measured first.

    So a second machine never displaces the first.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    merged: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda one: one.timestamp):
        machine = f"{record.machine.name}: {record.machine.cpu}, {record.machine.cores} cores"
        what = record.what
        if what.kind == "executor" and _tasks(record) and record.wall_seconds:
            merged[machine].append(record)
        elif is_worker_run(record) and record.metrics.get("files", 0) >= 1:
            kind = [what.subject, what.implementation, what.parameters.get("variations")]
            groups[machine, ", ".join(str(one) for one in kind if one)].append(record)
    found = [
        _of_machine(machine, job, members, merges(merged[machine]))
        for (machine, job), members in groups.items()
    ]
    return sorted(found, key=lambda one: not one.laws.laws)


def is_worker_run(record: Record) -> bool:
    """Whether a record is of `perf scale`, and has what laws and charts divide by."""
    return (
        record.what.name.startswith("scale-")
        and record.what.executor in EXECUTORS
        and "first_wall" in record.metrics
        and record.metrics.get("chunks", 0) >= 1
        and record.metrics.get("events", 0) >= 1
        and (record.what.workers or 0) >= 1
        and min(record.wall_seconds, default=0.0) > 0
    )


def _of_machine(
    machine: str, job: str, records: Sequence[Record], merge: dict[str, tuple[float, int]]
) -> Fitted:
    newest = max(records, key=lambda record: record.timestamp)
    engines: dict[str, list[Measured]] = defaultdict(list)
    grouped: dict[str, dict[Cell, list[Measured]]] = defaultdict(lambda: defaultdict(list))
    sizes: dict[str, set[int]] = defaultdict(set)
    for done in read_all(_current(records)):
        configuration, measured = done.worker_run.configuration, done.measured
        if configuration.options:
            continue
        cell = Cell(measured.events, measured.files or 0, measured.chunks, configuration.workers)
        engines[configuration.engine].append(measured)
        grouped[configuration.engine][cell].append(measured)
        sizes[configuration.engine].add(configuration.chunksize)
    laws, held_out, errors, missing = [], [], {}, {}
    for engine, cells in grouped.items():
        if len(cells) < LEAST_CELLS:
            missing[engine] = f"not measured: {len(cells)} inputs of at least {LEAST_CELLS}"
            continue
        seen = [_seen(cell, measured) for cell, measured in cells.items()]
        law = _law(engine, seen, engines[engine], tuple(sorted(sizes[engine])))
        slope, largest = merge.get(engine, (None, law.accumulator))
        without = [_costs(seen[:i] + seen[i + 1 :]) for i in range(len(seen))]
        out = [
            HeldOut(engine, one, *_predicted(replace(law, costs=costs), one.cell))
            for one, costs in zip(seen, without, strict=True)
        ]
        laws.append(
            replace(
                law,
                merge=slope,
                largest_accumulator=max(largest, law.accumulator),
                run_spread=_spread([one.run / one.seen.run for one in out]),
                whole_spread=_spread([one.whole / one.seen.whole for one in out]),
            )
        )
        held_out += out
        errors[engine] = {
            one.name: _jackknife([getattr(costs, one.name) for costs in without])
            for one in fields(Costs)
        }
    measured_names = {engine.partition(",")[0] for engine in grouped}
    for executor in EXECUTORS:
        if executor not in measured_names:
            missing[executor] = "not measured: there are no records of it"
    return Fitted(
        Laws(machine, newest.machine.memory, job, tuple(laws), tuple(missing.items())),
        newest,
        tuple(held_out),
        errors,
    )


def _current(records: Sequence[Record]) -> list[Record]:
    """Of each executor the records of the newest coffea and code: others are another executor.

    Newer code that ran on too few inputs for a law does not take away the law of the code before.
    """
    runs: dict[str | None, dict[object, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda one: one.timestamp, reverse=True):
        runs[record.what.executor][record.what.parameters.get("code")].append(record)
    found = []
    for codes in runs.values():
        newest = next(iter(codes.values()))
        coffea = newest[0].versions.get("coffea")
        of_coffea = [
            [one for one in members if one.versions.get("coffea") == coffea]
            for members in codes.values()
        ]
        found += next((one for one in of_coffea if _inputs(one) >= LEAST_CELLS), of_coffea[0])
    return sorted(found, key=lambda one: one.timestamp)


def _inputs(records: Iterable[Record]) -> int:
    """How many cells these are."""
    return len(
        {
            (*(one.metrics[name] for name in ("events", "files", "chunks")), one.what.workers)
            for one in records
            if one.what.parameters.get("options") == "{}"
        }
    )


def _seen(cell: Cell, measured: Sequence[Measured]) -> Seen:
    def median(value: Callable[[Measured], float]) -> float:
        return statistics.median(map(value, measured))

    run = median(lambda one: statistics.median(one.wall))
    first = median(lambda one: one.start_wall + one.first_wall + one.stop_wall)
    return Seen(cell, run, first - run, median(lambda one: one.inspect_wall or 0.0))


# --- the fit


def _law(
    engine: str, seen: Sequence[Seen], measured: Sequence[Measured], chunksizes: tuple[int, ...]
) -> Law:
    """The law of an executor, without intervals and without the slope of merging."""
    costs = _costs(seen)
    cells = [one.cell for one in seen]
    each = [cell.events / cell.chunks for cell in cells]

    def span(values: Sequence[float]) -> advice.Range:
        return min(values), max(values)

    peaks = [one for one in measured if one.peak_worker is not None]
    memory = _solve(
        np.array([[1.0, one.events / one.chunks] for one in peaks] or [[1.0, 0.0]]),
        np.array([float(one.peak_worker or 0) for one in peaks] or [0.0]),
    )
    # The iterative executor's worker is the client.
    others = [
        (one.peak_client or 0) + (one.peak_engine or 0)
        if engine.partition(",")[0] != advice.SERIAL
        else 0
        for one in measured
    ]
    return Law(
        engine=engine,
        batched="," not in engine,
        cells=len(seen),
        costs=costs,
        merge=None,
        run_spread=math.inf,
        whole_spread=math.inf,
        ns=1e9 * statistics.median(statistics.median(one.cpu) / one.events for one in measured),
        accumulator=max(one.accumulator or 0 for one in measured),
        largest_accumulator=0,
        worker_bytes=float(memory[0]),
        event_bytes=float(memory[1]),
        other_bytes=float(max(others)),
        events=span([cell.events for cell in cells]),
        files=span([cell.files for cell in cells]),
        workers=span([cell.workers for cell in cells]),
        chunks=span([cell.chunks for cell in cells]),
        chunk_events=span(each),
        chunk_seconds=span([one * costs.event for one in each]),
        chunksizes=chunksizes,
    )


def _costs(seen: Sequence[Seen]) -> Costs:
    """Coefficients of the law."""
    rows = []
    for one in seen:
        events, _, number, workers = one.cell
        rounds = math.ceil(number / workers)
        busy = number / rounds
        rows.append(
            [1, number, rounds, events / busy, events * (1 - 1 / busy), events * (busy - 1)]
        )
    loads, wall = np.array(rows, float), np.array([one.run for one in seen])
    if len({one.cell.workers for one in seen}) < LEAST_WORKERS:
        loads[:, -1] = 0
    run = _solve(loads / wall[:, None], np.ones(len(wall)))
    start = _solve(
        np.array([[1.0, one.cell.workers - 1] for one in seen]),
        np.array([one.beside for one in seen]),
    )
    inspect = _solve(
        np.array([[1.0, one.cell.files] for one in seen]),
        np.array([one.inspect for one in seen]),
    )
    return Costs(*map(float, (*run, *start, *inspect)))


def _solve(loads: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients, none negative, with the least squares; 0 of a load that is 0 everywhere."""
    # Who needs no fit, as a process whose memory is measured, needs no scipy.
    from scipy.optimize import nnls  # noqa: PLC0415

    widths = loads.max(axis=0)
    widths[widths == 0] = 1
    found, _ = nnls(loads / widths, values)
    return np.asarray(found / widths)


def _predicted(law: Law, cell: Cell) -> tuple[float, float]:
    """Seconds of the run and of the whole."""
    question = Question(cell.events, cell.files, cell.workers)
    answer = advice.predict(law, question, cell.workers, cell.chunks)
    return answer.run.value, answer.whole.value


def _spread(ratios: Sequence[float]) -> float:
    """The factor that holds LEVEL of new ratios either way, as those of held-out cells say."""
    # Infinity is no JSON: a law that says 0 is wrong enough.
    errors = sorted(abs(math.log(max(ratio, NOTHING))) for ratio in ratios)
    rank = math.ceil(LEVEL * (len(errors) + 1))
    return math.exp(errors[min(rank, len(errors)) - 1])


def _jackknife(values: Sequence[float]) -> float:
    """Standard error of a coefficient, of its values without one cell each."""
    count = len(values)
    return math.sqrt((count - 1) * statistics.pvariance(values))


# --- merging


def _tasks(record: Record) -> int:
    """Number of tasks of a record; 0 if it is of none."""
    tasks = record.what.parameters.get("tasks")
    return tasks if isinstance(tasks, int) else 0


def merges(records: Sequence[Record]) -> dict[str, tuple[float, int]]:
    """By executor: seconds to merge a byte of a result, and the most bytes that were measured.

    Of tasks that return a histogram, over tasks that return nothing.
    """
    times: dict[str, dict[int, float]] = defaultdict(dict)
    for record in sorted(records, key=_tasks):
        parameters = record.what.parameters
        variant = parameters.get("variant", "")
        if parameters.get("contents", "random") != "random" or variant not in {"", "plain"}:
            continue
        own = ", coffea's own" if variant else ""
        engine = f"{record.what.executor}{own}"
        tasks, size = _tasks(record), int(parameters.get("bytes", 0))
        results = tasks if variant else advice.batches(tasks, record.what.workers or 1)
        # Of empty tasks the most: what a call takes is in all of them.
        times[engine][size] = record.wall_median / (tasks if size == 0 else results)
    found = {}
    for engine, of_size in times.items():
        largest = max(of_size)
        if largest and 0 in of_size:
            found[engine] = max(0.0, of_size[largest] - of_size[0]) / largest, largest
    return found
