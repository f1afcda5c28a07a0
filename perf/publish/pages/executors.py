"""Executors: which one for a job, what each costs, how they scale, and what they survive."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError
from analysis.executors import EXECUTORS
from perf.claims.executors import QUANTITIES
from perf.hosts import network
from perf.hosts import records as hosts_records
from perf.measure.estimate import Estimate, of_median, sure
from perf.publish import executor_facts
from perf.publish.newest import Measured, estimated, how, judged, newest
from perf.publish.page import Data, Material, Page
from perf.records.record_file import Claimed
from perf.scaling import advice, advice_fit, laws, scheduler_cost, scheduler_records
from perf.scaling.campaign import read_all
from perf.scaling.table import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perf.records.record_file import Record
    from perf.scaling.campaign import Done
    from perf.scaling.table import Row

CLAIMS_COMMAND: Final = "python -m perf claims --only 'executor-*'"
ADVISE_COMMAND: Final = "make advise"
VALIDATE_COMMAND: Final = "python -m perf advise --validate"
SCALE_COMMAND: Final = (
    "python -m perf scale FILESET.json --executors iterative,futures,dask,parsl --workers 1,2,4 "
    "--repeat 3"
)
START_COMMAND: Final = "pytest perf/bench_executors.py --benchmark-only --benchmark-scale full"

SCHEDULER_COMMAND: Final = "python -m perf scheduler-load"
HOSTS_COMMAND: Final = "python -m perf hosts"

CHUNKS: Final = ((0.1, 1), (0.1, 8), (1.0, 1), (1.0, 8), (10.0, 1))
"""Seconds a chunk and chunks a task, for which the capacity of a scheduler is told."""

CLAIM: Final = re.compile(r"(?P<on>.+?)(?: / iterative|, [\d,]+ tasks|, idle)?: (?P<quantity>.+)")
"""Text of a claim about an executor: of what, and which quantity."""

RESAMPLES: Final = 200
"""Of the bootstrap of a law: the site is built in seconds. `perf scale --show` takes more."""

CURVE: Final = 40
"""Points of the curve of a law."""


def _context(material: Material) -> Mapping[str, Any]:
    fitted = advice_fit.fitted(material.records)
    claims = _claims(material.records)
    return {
        "machines": [asdict(one.laws) for one in fitted],
        "typical": _typical(fitted),
        "validated": [advice_fit.sentence(one) for one in fitted if one.held_out],
        "laws": _laws(fitted),
        "laws_how": [
            each | {"raw": [["laws", "data/advise.json"], ["held-out cells", "data/advise.csv"]]}
            for each in _how([one.newest for one in fitted if one.laws.laws], VALIDATE_COMMAND)
        ],
        "matrix": _matrix(claims),
        "quantities": list(QUANTITIES),
        "starts": _starts(material),
        "scaling": _scaling(material.records),
        "scheduler": _scheduler(material.records),
        "hosts": _hosts(material.records),
        "faults": executor_facts.FAULTS,
        "executors": [
            name
            for name in EXECUTORS
            if any(name in shown for shown in executor_facts.FAULTS.values())
        ],
        "tests": executor_facts.TESTS,
        "dask": [_statement(one, claims) for one in executor_facts.DASK],
        "claims": judged(
            [one for one in material.records if one.what.name.startswith("claim-executor-")],
            {"processor", "executor"},
            CLAIMS_COMMAND,
        ),
        "advise_command": ADVISE_COMMAND,
        "claims_command": CLAIMS_COMMAND,
        "scale_command": SCALE_COMMAND,
        "start_command": START_COMMAND,
        "scheduler_command": SCHEDULER_COMMAND,
        "hosts_command": HOSTS_COMMAND,
    }


# --- advice


def _typical(fitted: Sequence[advice_fit.Fitted]) -> list[dict[str, Any]]:
    """The advice for the inputs that were measured, on the most cores that were."""
    machines = [one.laws for one in fitted]
    asked = {
        advice.Question(cell.events, cell.files, int(most))
        for one in fitted
        for most in [max((law.workers[1] for law in one.laws.laws), default=1)]
        for cell in (held.seen.cell for held in one.held_out)
    }
    found = []
    for question in sorted(asked, key=lambda one: (one.workers, one.events, one.files)):
        try:
            on, answer = advice.first_that_answers(machines, question)
        except InputError:
            continue
        best = advice.as_json(on, answer)["answers"][0]
        fastest = _fastest(fitted, question)
        found.append({**asdict(question), "machine": on.machine, "best": best, "fastest": fastest})
    return found


def _fastest(
    fitted: Sequence[advice_fit.Fitted], question: advice.Question
) -> dict[str, Any] | None:
    """The executor that took least time for an input, in whatever chunks it was measured."""
    asked = question.events, question.files
    times = [
        (held.seen.whole, held.engine)
        for one in fitted
        for held in one.held_out
        if (held.seen.cell.events, held.seen.cell.files) == asked
        and held.seen.cell.workers <= question.workers
    ]
    return {"engine": min(times)[1], "seconds": min(times)[0]} if times else None


def _laws(fitted: Sequence[advice_fit.Fitted]) -> list[dict[str, Any]]:
    """Each law with the errors of its coefficients, and how often it was right."""
    return [
        {
            "machine": one.laws.machine,
            "job": one.laws.job,
            "engine": law.engine,
            "costs": [
                {"name": name, "value": value, "error": one.errors[law.engine][name]}
                for name, value in asdict(law.costs).items()
                if value
            ],
            "run": one.right("run", law.engine),
            "whole": one.right("whole", law.engine),
        }
        for one in fitted
        for law in one.laws.laws
    ]


# --- what each costs beside the work


def _claims(records: Sequence[Record]) -> dict[tuple[str, str, str], Claimed]:
    """The newest claim by machine, by what it is about, and by its quantity."""
    found = {}
    for record in records:
        for claimed in record.claims:
            parts = CLAIM.fullmatch(claimed.claim)
            if parts and record.what.name.startswith("claim-executor-"):
                found[record.machine.name, parts["on"], parts["quantity"]] = claimed
    return found


def _matrix(claims: Mapping[tuple[str, str, str], Claimed]) -> list[dict[str, Any]]:
    """A row for each machine and executor that claims are about."""
    heads = dict.fromkeys((machine, on) for machine, on, _ in claims)
    return [
        {
            "machine": machine,
            "on": on,
            "values": [
                claimed.model_dump() if (claimed := claims.get((machine, on, quantity))) else None
                for quantity in QUANTITIES
            ],
        }
        for machine, on in heads
    ]


def _statement(
    one: executor_facts.Statement, claims: Mapping[tuple[str, str, str], Claimed]
) -> dict[str, Any]:
    behind = [
        {"machine": machine, **claimed.model_dump()}
        for wanted in one.claims
        for (machine, *about), claimed in claims.items()
        if tuple(about) == wanted
    ]
    return {"kind": one.kind, "says": one.says, "claims": behind, "test": one.test}


def _starts(material: Material) -> dict[str, Any]:
    """Seconds until each worker did a task."""
    found = newest(
        material,
        "wall",
        lambda record: record.what.kind == "executor" and record.what.group == "executor start",
    )
    return {
        "machine": found.machine,
        "rows": [
            {
                "executor": each.record.what.executor,
                "workers": each.record.what.workers,
                "process": each.record.what.parameters.get("process"),
                **each.as_json(),
            }
            for each in found.measured
        ],
        "how": how(found.measured, START_COMMAND),
    }


def _how(records: Sequence[Record], command: str) -> list[dict[str, Any]]:
    """What "How?" says of these, one of each run."""
    return how([Measured(one, of_median(one.wall_seconds), 1) for one in records], command)


# --- scaling


def _scaling(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Of each machine the input with most configurations: what was measured, and the law of it."""
    groups: dict[tuple[str, str, int | None], dict[tuple[str, int | None], list[Record]]] = (
        defaultdict(lambda: defaultdict(list))
    )
    for record in records:
        if advice_fit.is_worker_run(record):
            where = record.machine.name, record.machine.cpu, record.machine.cores
            groups[where][record.input.digest, record.what.chunksize].append(record)
    found = []
    for (machine, *_), inputs in groups.items():
        of = max(inputs.values(), key=lambda members: len({one.what.name for one in members}))
        measured = rows(_numbered(read_all(of)))
        workers: dict[str, set[int]] = defaultdict(set)
        for row in measured:
            workers[row.configuration.label].add(row.configuration.workers)
        if any(len(numbers) > 1 for numbers in workers.values()):
            found.append(_scaled(machine, of[-1], measured))
    return found


def _numbered(done: Sequence[Done]) -> list[Done]:
    """Worker runs of each configuration as rounds: those that were measured apart have one number."""
    counted: Counter[str] = Counter()
    found = []
    for one in done:
        key = one.worker_run.configuration.model_dump_json()
        found.append(replace(one, worker_run=replace(one.worker_run, round=counted[key])))
        counted[key] += 1
    return found


def _scaled(machine: str, newest: Record, measured: Sequence[Row]) -> dict[str, Any]:
    engines: dict[str, list[Row]] = defaultdict(list)
    for row in measured:
        engines[row.configuration.label].append(row)
    points: list[dict[str, Any]] = []
    table, fits, fitted = [], [], []
    for engine, members in engines.items():
        law = _law(members)
        if law is not None:
            fitted.append({"engine": engine, **law})
            fits.append({"group": engine, "points": _curve(law)})
        for row in members:
            rate = row.events_per_second
            ends = (row.measured[0].events / end for end in (row.wall.high, row.wall.low))
            shown = estimated(Estimate(rate, *ends), sure=sure(row.rounds))
            interval = {} if shown["low"] is None else {"lo": shown["low"], "hi": shown["high"]}
            points.append({"group": engine, "x": row.configuration.workers, "y": rate, **interval})
            table.append(
                {
                    "engine": engine,
                    "workers": row.configuration.workers,
                    "rate": rate,
                    **shown,
                    "rounds": row.rounds,
                    "ns": 1e9 * row.cpu_per_event.value,
                    "start": row.median(lambda one: one.start_wall),
                    "memory": row.median(lambda one: one.peak_worker),
                }
            )
    single = [point["y"] for point in points if point["x"] == 1]
    return {
        "machine": machine,
        "cores": newest.machine.cores,
        "events": newest.input.events,
        "chunksize": newest.what.chunksize,
        "how": _how([newest], SCALE_COMMAND),
        "rows": table,
        "laws": fitted,
        "chart": {
            "x": {"label": "workers", "log": True},
            "y": {"label": "events/s", "log": True},
            "ideal": statistics.median(single) if single else None,
            "rows": points,
            "fits": fits,
        },
    }


def _law(members: Sequence[Row]) -> dict[str, Any] | None:
    """The law that the samples support; None of too few."""
    import numpy as np  # noqa: PLC0415

    usable = [row for row in members if row.rounds > 1]
    try:
        choice = laws.choose(
            [row.configuration.workers for row in usable],
            [[one.events / statistics.median(one.wall) for one in row.measured] for row in usable],
            np.random.default_rng(1),
            resamples=RESAMPLES,
        )
    except InputError:
        return None
    fit = choice.fit
    return {
        "law": fit.law,
        "workers": list(fit.workers),
        "single": asdict(fit.single),
        "serial": asdict(fit.serial),
        "crosstalk": asdict(fit.crosstalk),
    }


def _curve(law: Mapping[str, Any]) -> list[list[float]]:
    """Points of a law between the least and the largest number of workers."""
    low, high = law["workers"][0], law["workers"][-1]
    single, serial, crosstalk = (law[name]["value"] for name in ("single", "serial", "crosstalk"))
    counts = [low * (high / low) ** (step / CURVE) for step in range(CURVE + 1)]
    return [[n, single * n / (1 + serial * (n - 1) + crosstalk * n * (n - 1))] for n in counts]


def _scheduler(records: Sequence[Record]) -> dict[str, Any] | None:
    """The load on Dask's scheduler by simulated workers, and what follows; None if not measured."""
    import numpy as np  # noqa: PLC0415

    loads, last = scheduler_records.of_last_run(records)
    if last is None:
        return None
    try:
        cost = scheduler_cost.fit_load(loads, np.random.default_rng(1))
    except InputError:
        cost = None
    return {
        "machine": last.machine.name,
        "cores": last.machine.cores,
        "how": _how([last], SCHEDULER_COMMAND),
        "loads": [
            {
                "workers": load.workers,
                "tasks": load.tasks,
                "rate": load.task_rate,
                "cpu": load.cpu_per_task,
                "busy": load.busy_share,
            }
            for load in sorted(loads, key=lambda load: load.workers)
        ],
        "cost": cost
        and {"per_task": asdict(cost.per_task), "per_worker": asdict(cost.per_worker)},
        "capacity": _capacity(cost) if cost else [],
    }


def _hosts(records: Sequence[Record]) -> dict[str, Any] | None:
    """Executors on hosts of their own; None if they were not measured."""
    measured = hosts_records.of_last_run(records)
    if not measured:
        return None
    last = measured[-1]
    return {
        "machine": last.machine.name,
        "cores": last.machine.cores,
        "how": _how([last], HOSTS_COMMAND),
        "events": last.what.size,
        "congestion": network.CONGESTION,
        "rows": [asdict(hosts_records.row(one)) for one in measured],
    }


def _capacity(cost: scheduler_cost.Cost) -> list[dict[str, Any]]:
    found = [
        scheduler_cost.capacity(cost, seconds, chunks_per_task=chunks)
        for seconds, chunks in CHUNKS
    ]
    return [
        {
            "seconds": one.seconds_per_chunk,
            "chunks": one.chunks_per_task,
            "workers": asdict(one.workers),
            "predicted": one.predicted,
        }
        for one in found
    ]


def _files(material: Material) -> Iterator[tuple[str, Data]]:
    """The laws, and the cells that they were tried on."""
    fitted = advice_fit.fitted(material.records)
    cells = [
        {"machine": one.laws.machine, "job": one.laws.job, "executor": held.engine}
        | held.seen.cell._asdict()
        | {"run_measured": held.seen.run, "run_predicted": held.run}
        | {"whole_measured": held.seen.whole, "whole_predicted": held.whole}
        for one in fitted
        for held in one.held_out
    ]
    if cells:
        yield "advise", Data({"machines": [advice_fit.as_json(one) for one in fitted]}, cells)


PAGE: Final = Page("executors", "Executors", _context, _files)
