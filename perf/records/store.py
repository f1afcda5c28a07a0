"""The one store of results: records of everything that measured, wherever it left them.

pytest-benchmark, the claims, the scaling runs, instruction counts and the history of releases
write records (`perf.records.record_file`) themselves. What asv measured is made into records here.
"""

from __future__ import annotations

import fnmatch
import itertools
import json
import math
import re
import tomllib
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import pydantic
from packaging.version import InvalidVersion, Version

from analysis.errors import InputError
from perf.records import record_file
from perf.records.record_file import Input, Machine, Record, What

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PLACES: Final = (".perf/*.jsonl", ".perf/compare/*.json")
"""Where records are, below the root directory of a project; and what `compare` wrote."""

KEPT: Final = "history/*.jsonl.gz"
VOID: Final = "void.toml"
"""Records under version control, and which benchmarks mean something else since when. Both are in
the folder `perf` of a project, or beside this module: in an installation, or for whoever works in
another folder."""

SHIPPED: Final = Path(__file__).parents[1]

ASV_RESULTS: Final = ".asv/results"
INSTALLED: Final = "installed"
"""As in `perf.asv_environment`: what was installed for each commit."""

ASV: Final = "asv:"
"""Begins the names of records of asv."""

KINDS: Final[dict[str, Literal["kernel", "query", "processor", "events", "import"]]] = {
    "kernels": "kernel",
    "queries": "query",
    "processor": "processor",
    "nanoevents": "events",
    "imports": "import",
}
"""What modules of `perf/benchmarks` measure."""

PER_EVENT: Final = "_per_event"
LONGEST: Final = 200
"""Characters of an error that are repeated."""


# --- what is declared void


class Void(pydantic.BaseModel):
    """A benchmark that means something else since a day.

    Attributes
    ----------
    benchmark
        Name or pattern of names of published benchmarks.
    since
        Of the new meaning. What was measured before is neither drawn nor compared.
    reason
        For people.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    benchmark: str = pydantic.Field(min_length=1)
    since: date
    reason: str = pydantic.Field(min_length=1)

    def covers(self, benchmark: str, record: Record) -> bool:
        """Whether a measurement is void."""
        return record.timestamp.date() < self.since and fnmatch.fnmatchcase(
            benchmark, self.benchmark
        )


def _under_version_control(root: Path | None) -> Path:
    own = (root or Path()) / "perf"
    return own if root is not None or (own / VOID).is_file() else SHIPPED


def voids(root: Path | None = None) -> list[Void]:
    """What a project, as in `collect`, declares void; nothing, if it has no file of that.

    Raises
    ------
    InputError
        If it cannot be understood.
    """
    path = _under_version_control(root) / VOID
    if not path.is_file():
        return []
    try:
        content = tomllib.loads(path.read_text())
        return [Void.model_validate(one) for one in content.get("void", [])]
    except (tomllib.TOMLDecodeError, pydantic.ValidationError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else error
        msg = (
            f"{path} cannot be understood ({said}): each [[void]] has a benchmark, a day "
            "`since` and a reason"
        )
        raise InputError(msg) from None


# --- everything


def kept(root: Path | None = None) -> list[Path]:
    """Files of records under version control, of a project as in `collect`."""
    return sorted(_under_version_control(root).glob(KEPT))


def collect(root: Path | None = None, more: Sequence[Path] = ()) -> list[Record]:
    """Records of all that was measured, oldest first.

    A file that cannot be read is left out, and a sentence says so.

    Parameters
    ----------
    root
        Of the project. By default the working folder, with what is under version control beside
        this package if the folder is no project.
    more
        Further files of records, or of `python -m perf compare --json`.

    Raises
    ------
    InputError
        If there is no such folder, or one of `more` cannot be read.
    """
    here = root or Path()
    if not here.is_dir():
        msg = f"there is no folder {here}: name that of the project"
        raise InputError(msg)
    found = [record for path in more for record in _of_file(path)]
    for path in (*(one for place in PLACES for one in sorted(here.glob(place))), *kept(root)):
        with _left_out():
            found += _of_file(path)
    found += asv_records(here / ASV_RESULTS)
    # What is published under version control may be where it was measured, too.
    once = {
        (one.run, one.timestamp, one.what.model_dump_json(), one.versions.get("coffea")): one
        for one in found
    }
    return sorted(once.values(), key=lambda record: record.timestamp)


def _of_file(path: Path) -> list[Record]:
    return compared(path) if path.suffix == ".json" else record_file.read(path)


@contextmanager
def _left_out() -> Iterator[None]:
    """Go on without what cannot be read, and say so."""
    try:
        yield
    except InputError as error:
        record_file.leave_out(str(error))


# --- asv


def asv_records(folder: Path) -> list[Record]:
    """What asv measured, as records.

    Parameters
    ----------
    folder
        asv's ``results_dir``.

    Returns
    -------
    list[Record]
        One for each benchmark and combination of its parameters that has a result of the
        benchmark as it is now. Times have the samples that asv kept: with ``--record-samples``
        all, otherwise their median alone. What cannot be read is left out, and a sentence says so.
    """
    index = folder / "benchmarks.json"
    if not index.is_file():
        return []
    from asv.results import Results  # noqa: PLC0415  (only where there are results)

    found: list[Record] = []
    with _left_out(), _understood(index):
        benchmarks = json.loads(index.read_text())
        benchmarks.pop("version", None)
        for machine in sorted(folder.glob("*/machine.json")):
            with _left_out(), _understood(machine):
                about = json.loads(machine.read_text())
                name = about["machine"]
                for path in sorted({*machine.parent.glob("*.json")} - {machine}):
                    with _left_out(), _understood(path):
                        result = Results.load(str(path), machine_name=name)
                        found += _of_result(result, benchmarks, about, folder.parent / INSTALLED)
    return found


@contextmanager
def _understood(path: Path, what: str = "file of asv") -> Iterator[None]:
    """Say in one sentence that a file is not what it should be, in whatever way."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  (JSON of any shape, read by asv too)
        msg = f"{path} is no {what}: {' '.join(repr(error).split())[:LONGEST]}"
        raise InputError(msg) from None


def _of_result(
    result: Any, benchmarks: dict[str, Any], machine: dict[str, Any], notes: Path
) -> Iterator[Record]:
    note = _note(notes, result.commit_hash)
    versions = {"python": str(result.params["python"]), **note.get("installed", {})}
    loads = [load for _, load in note.get("loads", [])]
    committed = datetime.fromtimestamp(result.date / 1000, UTC)
    for name in sorted(result.get_result_keys(benchmarks)):
        benchmark = benchmarks[name]
        params = benchmark["params"]
        values = result.get_result_value(name, params)
        samples = result.get_result_samples(name, params)
        stats = result.get_result_stats(name, params)
        started = result.started_at.get(name)
        ended = datetime.fromtimestamp((started or result.date) / 1000, UTC)
        combinations = list(itertools.product(*params))
        for number, combination in enumerate(combinations):
            value = values[number]
            if value is None or not math.isfinite(value):
                continue
            kept = samples[number] if samples and samples[number] else [value]
            yield Record(
                run=f"asv {result.commit_hash[:12]}",
                timestamp=ended,
                what=_what(name, benchmark["param_names"], combination),
                # Times an event are those of an event.
                input=_input(name),
                versions=versions,
                machine=_machine(machine, versions["python"]),
                load_before=loads[0] if loads else None,
                load_after=loads[-1] if loads else None,
                iterations=int((stats[number] or {}).get("number") or 1) if stats else 1,
                check=None,
                commit=result.commit_hash,
                committed=committed,
                **_measured(name, benchmark, kept),
            )


def _note(folder: Path, commit: str) -> dict[str, Any]:
    for path in sorted(folder.glob(f"{commit[:12]}-*.json")):
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    return {}


def _what(name: str, param_names: Sequence[str], combination: Sequence[str]) -> What:
    # asv keeps the repr of a value.
    chosen = {key: value.strip("'\"") for key, value in zip(param_names, combination, strict=True)}
    module = name.partition(".")[0]
    return What(
        name=f"{ASV}{name}({', '.join(chosen.values())})",
        group=name,
        kind=KINDS.get(module, "processor"),
        subject=name,
        size=0,
        parameters=cast("dict[str, str | int | float | bool]", chosen),
    )


def _input(name: str) -> Input:
    from perf.records.difference import digest  # noqa: PLC0415  (awkward)

    return Input(digest=digest(name), events=int(name.endswith(PER_EVENT)), source="asv")


def _machine(about: dict[str, str], python: str) -> Machine:
    gigabytes, cores = about.get("ram", "").split()[:1], about.get("num_cpu")
    return Machine(
        name=about["machine"],
        cpu=about.get("cpu", ""),
        cores=int(cores) if cores else None,
        memory=round(float(gigabytes[0]) * 2**30) if gigabytes else None,
        kernel=about.get("os", ""),
        python=python,
    )


def _measured(name: str, benchmark: dict[str, Any], samples: Sequence[float]) -> dict[str, Any]:
    match benchmark["type"]:
        case "time":
            clock = "cpu_seconds" if "_cpu_" in name else "wall_seconds"
            return {clock: tuple(samples)}
        case "peakmemory" | "memory":
            return {"peak_memory": round(samples[-1])}
        case _:
            return {"counts": {benchmark["unit"]: tuple(map(float, samples))}}


# --- comparisons and instruction counts

_KERNEL: Final = re.compile(
    r"(?P<subject>\w+)(-(?P<size>[\de]+))?-(?P<implementation>reference|columnar|compiled)"
)
"""Names of kernels in a comparison."""


def compared(path: Path) -> list[Record]:
    """What a comparison measured of releases, as records: times, and instructions if counted.

    A side that is a checkout, or has settings of its own, is no part of the history.

    Parameters
    ----------
    path
        Of ``python -m perf compare --json``.

    Raises
    ------
    InputError
        If it is no such file.
    """
    from perf.records.difference import digest  # noqa: PLC0415  (awkward)

    with _understood(path, "report of `python -m perf compare --json`"):
        report = json.loads(path.read_text())
        machine = Machine.model_validate(report["machine"])
        ended = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        found = []
        for name, one in report["benchmarks"].items():
            what = _compared_what(name)
            for side, columns in (("A", (0, 1)), ("B", (2,))):
                about = report["sides"][side]
                if about["variables"] or not is_release(about["name"].removeprefix("v")):
                    continue
                # Of each call that was counted; text says why there are none.
                counted = (one.get("instructions") or {}).get(side)
                counts = counted if isinstance(counted, list) else []
                cpu, wall = (
                    tuple(math.exp(block[column]) for block in one[key] for column in columns)
                    for key in ("log_cpu_seconds", "log_wall_seconds")
                )
                if not (cpu or counts):
                    continue
                found.append(
                    Record(
                        run=f"compare {path.stem}",
                        timestamp=ended,
                        what=what,
                        input=Input(digest=digest(name), events=what.size, source="compare"),
                        versions={
                            "python": machine.python.split(" ")[-1],
                            **about["installed"],
                        },
                        machine=machine,
                        load_before=report["load"],
                        load_after=report["load"],
                        iterations=one["loops"] or 1,
                        cpu_seconds=cpu,
                        wall_seconds=wall,
                        counts={"instructions": tuple(map(float, counts))} if counts else {},
                        check=None,
                    )
                )
    return found


def _compared_what(name: str) -> What:
    matched = _KERNEL.fullmatch(name)
    if matched is None:
        return What(
            name=f"compare-{name}", group=f"compare {name}", kind="events", subject=name, size=0
        )
    return What(
        name=f"compare-{name}",
        group=f"compare {matched['subject']}",
        kind="kernel",
        subject=matched["subject"],
        implementation=matched["implementation"],
        size=int(float(matched["size"] or 0)),
    )


# --- when


def released(versions: Iterable[str]) -> dict[str, datetime]:
    """Days on which releases of coffea came out, of those that are known."""
    from perf.environments import releases  # noqa: PLC0415

    known = releases()
    return {
        version: datetime(day.year, day.month, day.day, tzinfo=UTC)
        for version in versions
        if (day := known.get(version)) is not None
    }


def is_release(version: str) -> bool:
    """Whether a version of coffea is that of a release, and not of a commit after one."""
    try:
        parsed = Version(version)
    except InvalidVersion:
        return False
    return not (parsed.is_devrelease or parsed.local)
