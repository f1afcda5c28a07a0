"""Publishing the history: records become asv's files, asv makes the pages, and those work offline.

Every quantity of a group of records is a benchmark of asv, with its real parameters; every
release or commit of coffea is a point at its real date (`perf.publish.timeline`). asv's own `Results` does
the statistics. asv's page loads its libraries from elsewhere; it is replaced by that of
asv-tachyon, which has everything in its folder. asv judges; asv-tachyon only shows.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import itertools
import json
import logging
import math
import re
import shutil
import socketserver
import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asv.commands.publish import Publish
from asv.config import Config
from asv.results import Results
from asv.runner import BenchmarkResult
from asv_tachyon import cli as tachyon

from analysis.errors import InputError
from perf.measure import clocks
from perf.publish import timeline
from perf.publish.timeline import Entry, Ledger
from perf.records import store
from perf.records.store import ASV, PER_EVENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from perf.records.record_file import Record
    from perf.records.store import Void

HTML: Final = "reports/asv"
"""Where pages are published, below the root directory of the project."""

PROJECT_URL: Final = "https://github.com/scikit-hep/coffea"
COMMIT_URL: Final = f"{PROJECT_URL}/commit/"
HASH_LENGTH: Final = 10
"""Characters of a commit that are shown: enough for v2026.9.0 too."""

THRESHOLD: Final = 0.05
"""asv lists steps that are larger as regressions."""

BENCHMARKS_VERSION: Final = 2
MACHINE_VERSION: Final = 1
"""Of asv's files."""

NOT_OFFLINE: Final = ("*.js", "*.css", "vendor", "error.html", "swallow.ico", "swallow.png")
"""Parts of asv's own page that the other has no need of, or that ask for the network."""

TOLD: Final = ("awkward", "uproot", "numba", "numpy", "dask", "hist", "python")
"""Packages whose versions are shown beside a point."""

DATES: Final = """<script>
      // asv numbers commits; here a number is an hour since 1970, and any hour has a date to show.
      const plain = Response.prototype.json;
      Response.prototype.json = async function () {
        const content = await plain.call(this);
        if (content?.revision_to_hash) {
          const date = (hour) => new Date(hour * 3.6e6).toISOString().slice(0, 7);
          content.revision_to_hash = new Proxy(content.revision_to_hash, {
            get: (known, key) => known[key] ?? (/^\\d+$/.test(key) ? date(key) : undefined),
          });
        }
        return content;
      };
    </script>"""
"""Makes the time axis of asv-tachyon one of dates."""

FRESH: Final = ("history-", "scale-", "claim-")
"""Begin the names of what has a process of its own, and memory of its own, if it is no kernel."""

_AXES: Final = ("implementation", "executor", "workers", "size", "chunksize")
_CPU: Final = re.compile(r"[^\w .@()+-]+")
"""What a name of a processor may hold that a folder may not."""

CODE_LENGTH: Final = 8
"""Characters of an identity of code or input that are shown."""

_SLUG: Final = re.compile(r"[^A-Za-z0-9_.]+")


@dataclass(frozen=True)
class Quantity:
    """One number of a record.

    Attributes
    ----------
    name
        What asv calls it.
    kind, unit
        Of asv's benchmark. Less is better in all: a rate would be judged backwards.
    samples
        Of a record, in this unit; none where it was not measured.
    """

    name: str
    kind: str
    unit: str
    samples: Callable[[Record], Sequence[float]]


def _fresh(record: Record) -> bool:
    """Whether a process of its own measured it: some wrote the memory of whatever ran before."""
    what = record.what
    own = what.name.startswith(FRESH) and what.kind in {"import", "processor"}
    return own or what.name.startswith(ASV)


def _per_event(samples: Sequence[float], record: Record) -> Sequence[float]:
    return [one / record.input.events for one in samples] if record.input.events else samples


def quantities(record: Record) -> list[Quantity]:
    """What was measured in a record."""
    per = PER_EVENT if record.input.events else ""
    timed = [
        Quantity(f"cpu_seconds{per}", "time", "seconds", lambda r: _per_event(r.cpu_seconds, r)),
        Quantity(f"wall_seconds{per}", "time", "seconds", lambda r: _per_event(r.wall_seconds, r)),
        Quantity(
            "peak_memory_bytes",
            "peakmemory",
            "bytes",
            lambda r: [] if not _fresh(r) or r.peak_memory is None else [float(r.peak_memory)],
        ),
    ]
    counted = [
        Quantity(
            _SLUG.sub("_", unit),
            "track",
            unit,
            lambda r, unit=unit: r.counts.get(unit, ()),  # type: ignore[misc]
        )
        for unit in record.counts
    ]
    sized = [
        Quantity(
            name,
            "track",
            "bytes",
            lambda r, name=name: [float(r.metrics[name])] if name in r.metrics else [],  # type: ignore[misc]
        )
        for name in record.metrics
        if name.endswith("_bytes")
    ]
    return [one for one in (*timed, *counted, *sized) if one.samples(record)]


@dataclass
class Series:
    """A benchmark: one quantity of one group, with all that was measured of it.

    Attributes
    ----------
    name, quantity
        Of the benchmark; what it measures.
    records
        By point in time, machine and name of what was measured: those of the newest run.
    void
        What was declared void, that had measurements.
    """

    name: str
    quantity: Quantity
    records: dict[tuple[Entry, str, str], list[Record]] = field(default_factory=dict)
    void: set[Void] = field(default_factory=set)

    def add(self, entry: Entry, machine: str, what: str, record: Record) -> None:
        """Add a measurement, in the place of those of an older run."""
        kept = self.records.setdefault((entry, machine, what), [])
        if kept and _campaign(kept[-1]) != _campaign(record):
            kept.clear()
        kept.append(record)

    def samples(self, records: Sequence[Record]) -> list[float]:
        """Of several processes one number each: samples of one process are no repetitions."""
        if len(records) == 1:
            return list(self.quantity.samples(records[0]))
        return [_median(self.quantity.samples(record)) for record in records]

    @property
    def newest(self) -> Record:
        """The record that was made last."""
        return max((one[-1] for one in self.records.values()), key=lambda one: one.timestamp)

    @property
    def axes(self) -> dict[str, dict[str, str]]:
        """Parameters by name of what was measured: those that differ between any two."""
        cases = {what: records[-1] for (_, _, what), records in self.records.items()}
        chosen = {what: _axes(record) for what, record in cases.items()}
        names = dict.fromkeys(key for one in chosen.values() for key in one)
        differing = [key for key in names if len({one.get(key) for one in chosen.values()}) > 1]
        found = {
            what: {key: one.get(key, "-") for key in differing} for what, one in chosen.items()
        }
        if len({tuple(one.values()) for one in found.values()}) < len(found):
            # What tells them apart is in their names alone.
            return {what: {"case": what} for what in found}
        return found


def _axes(record: Record) -> dict[str, str]:
    what = record.what
    if what.name.startswith(ASV):
        return {key: str(value) for key, value in what.parameters.items()}
    found = {
        {"size": "events"}.get(axis, axis): str(value)
        for axis in _AXES
        if (value := getattr(what, axis)) is not None
    }
    detail = str(what.parameters.get("detail", ""))
    return found | ({"mode": detail} if detail and detail not in found.values() else {})


def when(record: Record) -> Entry | None:
    """The release or commit of coffea that a record is of, with its date; None if not known."""
    version = record.versions.get("coffea")
    if version is not None and store.is_release(version):
        date = store.released([version]).get(version) or record.committed
        return Entry(f"v{version}", date, release=True) if date else None
    if record.commit and record.committed:
        return Entry(record.commit, record.committed, release=False)
    return None


def series(records: Iterable[Record], voids: Sequence[Void] = ()) -> dict[str, Series]:
    """Records as benchmarks.

    Parameters
    ----------
    records
        Oldest first: of two of the same thing the newer counts.
    voids
        What is left out.

    Returns
    -------
    dict
        Benchmarks by name, those with a point in time.
    """
    found: dict[str, Series] = {}
    points: list[tuple[Series, Entry, Record]] = []
    cpus: dict[str, set[str]] = defaultdict(set)
    inputs: dict[str, set[str]] = defaultdict(set)
    for record in records:
        entry = when(record)
        if entry is None:
            continue
        for quantity in quantities(record):
            name = _name(record, quantity)
            one = found.setdefault(name, Series(name, quantity))
            if declared := [void for void in voids if void.covers(name, record)]:
                one.void.update(declared)
                continue
            points.append((one, entry, record))
            cpus[record.machine.name].add(record.machine.cpu)
            inputs[record.what.name].add(record.input.digest)
    for one, entry, record in points:
        what, machine = record.what.name, record.machine.name
        # No curve is of two machines that share a name, or of two inputs.
        if len(cpus[machine]) > 1:
            machine += f" ({_CPU.sub('_', record.machine.cpu) or 'unknown'})"
        if len(inputs[what]) > 1:
            what += f" on {record.input.digest[:CODE_LENGTH]}"
        one.add(entry, machine, what, record)
    return {name: one for name, one in sorted(found.items()) if one.records}


def _name(record: Record, quantity: Quantity) -> str:
    what = record.what
    if what.name.startswith(ASV):
        return what.group
    stack = what.parameters.get("stack")
    parts = [what.kind, what.group, *([f"on_{stack}"] if stack else []), quantity.name]
    return ".".join(_SLUG.sub("_", str(part)).strip("_") for part in parts)


def _campaign(record: Record) -> str:
    """What tells runs apart: one that was interrupted and taken up again is one."""
    return str(record.what.parameters.get("campaign", record.run))


def code(record: Record) -> str | None:
    """Identity of the code of this suite that measured; None where it was not kept."""
    more = record.what.parameters
    known = more.get("code") or more.get("campaign")
    return record.versions.get(clocks.SUITE) or (str(known)[:CODE_LENGTH] if known else None)


# --- asv's files


def convert(found: dict[str, Series], folder: Path) -> list[Entry]:
    """Write asv's files of benchmarks, machines and results.

    Parameters
    ----------
    found
        Of `series`.
    folder
        asv's ``results_dir``; new.

    Returns
    -------
    list[Entry]
        All points in time, oldest first.
    """
    folder.mkdir(parents=True)
    benchmarks: dict[str, Any] = {}
    made: dict[tuple[Entry, str], Results] = {}
    machines: dict[str, Record] = {}
    for name, one in found.items():
        benchmark, cells = _benchmark(one)
        benchmarks[name] = benchmark
        points: dict[tuple[Entry, str], dict[str, list[Record]]] = defaultdict(dict)
        for (entry, machine, what), records in one.records.items():
            points[entry, machine][what] = records
        for (entry, machine), members in points.items():
            newest = max((m[-1] for m in members.values()), key=lambda record: record.timestamp)
            machines[machine] = max(
                machines.get(machine, newest), newest, key=lambda record: record.timestamp
            )
            if (entry, machine) not in made:
                made[entry, machine] = _results(entry, machine, newest)
            samples = [
                one.samples(members[what]) if what is not None and what in members else None
                for what in cells
            ]
            made[entry, machine].add_result(
                benchmark,
                _result(samples, timed=one.quantity.kind == "time"),
                started_at=newest.timestamp,
                record_samples=True,
            )
    for result in made.values():
        result.save(str(folder))
    for machine, record in machines.items():
        path = folder / machine / "machine.json"
        path.write_text(json.dumps(_machine(machine, record)))
    (folder / "benchmarks.json").write_text(
        json.dumps({**benchmarks, "version": BENCHMARKS_VERSION})
    )
    return sorted({entry for entry, _ in made}, key=lambda entry: (entry.date, entry.name))


def _benchmark(one: Series) -> tuple[dict[str, Any], list[str | None]]:
    """Description of a benchmark for asv, and what was measured in each cell of its parameters."""
    axes = one.axes
    names = list(next(iter(axes.values())))
    values = [sorted({axis[name] for axis in axes.values()}, key=_natural) for name in names]
    by_cell = {tuple(axis.values()): what for what, axis in axes.items()}
    cells = [by_cell.get(cell) for cell in itertools.product(*values)]
    record = one.newest
    lines = [
        f"{record.what.kind} {record.what.group}: {one.quantity.name.replace('_', ' ')}",
        f"measured on: {record.input.source}",
        *(f"void before {void.since}: {void.reason}" for void in sorted(one.void, key=str)),
    ]
    description = {
        "name": one.name,
        "type": one.quantity.kind,
        "unit": one.quantity.unit,
        "code": "\n".join(f"# {line}" for line in lines),
        "params": values,
        "param_names": names,
        # asv draws results of this version alone; what is void is left out above.
        "version": hashlib.sha256(one.name.encode()).hexdigest(),
        "less_is_better": True,
    }
    return description, cells


def _natural(text: str) -> tuple[float, str]:
    """Numbers by size."""
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _results(entry: Entry, machine: str, record: Record) -> Results:
    load = record.load_after if record.load_after is not None else record.load_before
    python = ".".join(record.versions.get("python", record.machine.python).split(".")[:2])
    results = Results(
        # These are selectors of the page; all else that asv knows of machines would be, too.
        params={"machine": machine, "python": python},
        requirements={**record.versions, "load_average": "" if load is None else f"{load:.2f}"},
        commit_hash=entry.name,
        date=entry.milliseconds,
        python=python,
        # Part of the file's name, whose other part is cut.
        env_name=f"{entry.name}-python{python}",
        env_vars={},
    )
    results._params["python"] = python
    return results


def _result(samples: list[list[float] | None], *, timed: bool) -> BenchmarkResult:
    return BenchmarkResult(
        # Of times asv makes medians and intervals; the rest it takes as it is.
        result=[_median(one) if one else None for one in samples],
        samples=samples if timed else [None] * len(samples),
        number=[1 if timed and one else None for one in samples],
        errcode=0,
        stderr="",
        profile=None,
    )


def _median(samples: Sequence[float]) -> float:
    return float(statistics.median(samples))


def _machine(name: str, record: Record) -> dict[str, Any]:
    machine = record.machine
    return {
        "machine": name,
        "cpu": machine.cpu,
        "num_cpu": "" if machine.cores is None else str(machine.cores),
        "ram": "" if machine.memory is None else f"{round(machine.memory / 2**30)} GB",
        "os": machine.kernel.split(" ")[0],
        "arch": "",
        "version": MACHINE_VERSION,
    }


# --- pages


@dataclass(frozen=True)
class Published:
    """What was published.

    Attributes
    ----------
    benchmarks, points
        Numbers of benchmarks and of releases and commits.
    left_out
        Records of which nobody knows when what they measured came out.
    """

    benchmarks: int
    points: int
    left_out: int


def publish(records: Sequence[Record], html: Path, voids: Sequence[Void] = ()) -> Published:
    """Publish records as pages that need no network.

    Parameters
    ----------
    records
        Oldest first.
    html
        Folder of the pages; replaced.
    voids
        What is not drawn.

    Raises
    ------
    InputError
        If there is nothing to publish.
    """
    found = series(records, voids)
    if not found:
        msg = (
            "there is nothing to publish: measure something with `python -m perf history run`, "
            "`asv run` or `pytest --benchmark-only`"
        )
        raise InputError(msg)
    with tempfile.TemporaryDirectory(prefix="coffea-publish-") as name:
        folder, pages = Path(name), Path(name) / "html"
        entries = convert(found, folder / "results")
        timeline.write(folder / "ledger.json", entries)
        conf = Config.from_json(
            {
                "project": "coffea",
                "project_url": PROJECT_URL,
                "show_commit_url": COMMIT_URL,
                "repo": str(folder / "ledger.json"),
                "dvcs": timeline.KIND,
                "branches": list(timeline.branches(entries)),
                "hash_length": HASH_LENGTH,
                "results_dir": str(folder / "results"),
                "html_dir": str(pages),
                "regressions_thresholds": {".*": THRESHOLD},
            }
        )
        with _quiet() as said:
            try:
                Publish.run(conf, pull=False)
                tachyon.cmd_install(pages, backup=False)
            except Exception as error:
                msg = f"asv cannot publish: {error}; it said: {said.getvalue()[-500:]}"
                raise InputError(msg) from error
        _complete(pages, entries, records)
        shutil.rmtree(html, ignore_errors=True)
        html.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(pages, html)
    left_out = sum(when(record) is None for record in records)
    return Published(len(found), len(entries), left_out)


def _complete(pages: Path, entries: Sequence[Entry], records: Sequence[Record]) -> None:
    """Take away what asks for the network; say dates and versions where the page can show them."""
    for pattern in NOT_OFFLINE:
        for path in pages.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    index = pages / "index.html"
    index.write_text(index.read_text().replace("<head>", f"<head>\n    {DATES}", 1))
    newest = {entry: record for record in records if (entry := when(record))}
    revisions = Ledger.revisions(entries)
    said = {revisions[entry.name]: _told(entry, newest[entry]) for entry in entries}
    # The page asks for the other two as well, and has an error in its console if there are none.
    for name, content in {
        "commits.json": {"by_revision": said},
        "profiles.json": {},
        "regressions-ignore.json": [],
    }.items():
        (pages / name).write_text(json.dumps(content))


def _told(entry: Entry, record: Record) -> str:
    others = [f"{name} {record.versions[name]}" for name in TOLD if name in record.versions]
    others += [f"{clocks.SUITE} {known}"] if (known := code(record)) else []
    return f"{entry.date:%Y-%m-%d}: {', '.join(others)}"


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Keep what asv prints."""
    said = io.StringIO()
    logger = logging.getLogger("asv")
    before = logger.level
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield said
    finally:
        logger.setLevel(before)


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def served(html: Path, port: int = 0) -> Iterator[tuple[socketserver.BaseServer, str]]:
    """A server of the pages for this machine; browsers give pages in files no data.

    Parameters
    ----------
    html
        Folder of the pages.
    port
        Any free one by default.

    Yields
    ------
    socketserver.BaseServer, str
        To be run by ``serve_forever``; its address.
    """
    handler = functools.partial(_Silent, directory=str(html))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        msg = f"port {port} cannot be used: {error.strerror}; name another with --port"
        raise InputError(msg) from error
    with server:
        yield server, f"http://127.0.0.1:{server.server_address[1]}/"
