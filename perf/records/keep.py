"""What was measured, copied to where it is under version control: the folder `perf/kept`.

=============================  ====================================================================
file                           has
=============================  ====================================================================
``bench.jsonl.gz``             records of ``pytest --benchmark-only``
``claims.jsonl.gz``            those of ``claims`` and ``ablation``
``scale.jsonl.gz``             those of ``scale`` and ``scheduler-load``
``hosts.jsonl.gz``             those of ``hosts``
``limits.jsonl.gz``            those of ``limits``
``history-releases.jsonl.gz``  those of ``history run``, with the dependencies of the time
``history-PINS.jsonl.gz``      those with equal dependencies; notes of both stand beside them
``compare-A-B-….json.gz``      a report of ``compare --json`` as it is
=============================  ====================================================================

Of each benchmark at a release or commit on a machine there are the records of the newest run; those
of other machines stay. The same measurements give the same bytes, in whatever steps they were kept.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError
from analysis.files import output
from analysis.folders import alone
from perf.records import from_compare, record_file, store
from perf.records.compressed import compress, decompressed
from perf.records.own_memory import own_memory
from perf.records.record_file import Record, notes_path
from perf.records.unreadable import left_out
from perf.records.void import VOID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LIMIT: Final = 15_000_000
"""Bytes of all that is kept: every clone of the project has them, and each earlier version."""

FILES: Final = {
    "claim-": "claims",
    "hosts-": "hosts",
    "limit-": "limits",
    "scale-": "scale",
    "scheduler-load-": "scale",
}
"""Files by prefixes of what was measured."""

OF_A_RUN: Final = frozenset({"campaign", "code", "depends on", "environment", "released", "round"})
"""Parameters of a record that say which run it is of, and not what was measured."""


def keep(root: Path | None = None, more: Sequence[Path] = ()) -> list[Path]:
    """Copy what was measured in a project, and `more` files; gives the files that changed.

    All or nothing is copied into each file, and nothing if there is too much for `LIMIT`.
    """
    folder = _folder(root)
    sources = [*store.measured(root), *more]
    records, reports = _read(sources, required=more)
    if not records and not reports:
        msg = (
            "there is nothing to keep: measure something with `pytest --benchmark-only`, "
            "`python -m perf history run` or `python -m perf compare --json .perf/compare/NAME.json`"
        )
        raise InputError(msg)
    with alone(folder):
        for left in folder.glob(".*.gz.*"):
            shutil.rmtree(left)  # by a process that was killed
        content = {
            **_merged_records(folder, records),
            **_merged_reports(folder, reports),
        }
        _require_room(folder, content)
        changed = [path for path, data in content.items() if _write(path, data)]
        notes = [notes_path(path) for path in content if _write_notes(path, sources)]
        return [*changed, *notes]


def newest(records: Iterable[Record]) -> list[Record]:
    """Of each benchmark at a release or commit on a machine, the records of the newest run."""
    runs: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in store.distinct(records):
        runs[_benchmark(record)][record.campaign].append(record)
    chosen = [
        max(of.values(), key=lambda members: max(record.timestamp for record in members))
        for of in runs.values()
    ]
    return [record for members in chosen for record in members]


def _folder(root: Path | None) -> Path:
    own = (root or Path()) / "perf"
    if not own.is_dir() or (root is None and not (own / VOID).is_file()):
        msg = f"{own.parent} is no clone of this project: call this in one, or name it with --root"
        raise InputError(msg)
    folder = own / store.KEPT
    output.check_folder(folder)
    folder.mkdir(exist_ok=True)
    return folder


def _read(
    paths: Iterable[Path], required: Sequence[Path]
) -> tuple[list[Record], list[dict[str, Any]]]:
    """Records and reports of files; a bad file is left out unless it is required."""
    records: list[Record] = []
    reports: list[dict[str, Any]] = []

    def read(path: Path) -> None:
        if store.is_report(path):
            reports.append(from_compare.report(path))
        else:
            records.extend(record_file.read(path))

    for path in paths:
        if path in required:
            read(path)
        else:
            with left_out():
                read(path)
    return records, reports


def _merged_records(folder: Path, records: Iterable[Record]) -> dict[Path, bytes]:
    """New contents of files of records."""
    by_file: dict[Path, list[Record]] = defaultdict(list)
    for record in records:
        by_file[folder / f"{_file(record)}.jsonl.gz"].append(_portable(record))
    return {path: _lines([*_kept(path), *members]) for path, members in sorted(by_file.items())}


def _kept(path: Path) -> list[Record]:
    """What a file has so far: it is not replaced if some of it would be lost."""
    if not path.exists():
        return []
    records, bad = record_file.parse(path)
    if bad:
        msg = f"{path} is damaged, {bad[0]}: restore it first, as by `git restore {path}`"
        raise InputError(msg)
    return records


def _lines(records: Iterable[Record]) -> bytes:
    ordered = sorted(
        (record.timestamp, record.model_dump_json() + "\n") for record in newest(records)
    )
    return "".join(line for _, line in ordered).encode()


def _merged_reports(folder: Path, reports: Iterable[dict[str, Any]]) -> dict[Path, bytes]:
    """New contents of files of reports, one for each that is newer than the kept one."""
    paths = {folder / f"{from_compare.identity(report)}.json.gz" for report in reports}
    kept = [from_compare.report(path) for path in sorted(paths) if path.exists()]
    return {
        folder / f"{from_compare.identity(report)}.json.gz": json.dumps(
            report, separators=(",", ":")
        ).encode()
        for report in store.newest_reports([*kept, *reports])
    }


def _require_room(folder: Path, content: Mapping[Path, bytes]) -> None:
    sizes = {path: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    sizes |= {path: len(compress(data)) for path, data in content.items()}
    if (total := sum(sizes.values())) > LIMIT:
        largest = max(sizes, key=lambda path: sizes[path])
        msg = (
            f"{folder} would have {total / 1e6:.1f} MB, and may have {LIMIT / 1e6:.0f}: remove what "
            f"nobody needs any more; {largest.name} has {sizes[largest] / 1e6:.1f} MB"
        )
        raise InputError(msg)


def _write(path: Path, data: bytes) -> bool:
    """Write a compressed file; False if it has this content, however it was compressed."""
    if path.exists() and decompressed(path) == (data, True):
        return False
    with output.whole(path) as part:
        part.write_bytes(compress(data))
    return True


def _write_notes(path: Path, sources: Iterable[Path]) -> bool:
    """Write the notes on a kept file of records, of the campaigns that it has."""
    if store.is_report(path):
        return False
    campaigns = {
        record.what.parameters.get("campaign") for record in record_file.parse(path)[0]
    } - {None}
    notes: dict[str, Any] = {}
    target = notes_path(path)
    for place in map(notes_path, (path, *sources)):
        with left_out():
            notes |= _notes(place)
    text = json.dumps({name: notes[name] for name in sorted(notes) if name in campaigns}, indent=1)
    if text == "{}" or (target.exists() and target.read_text() == text):
        return False
    with output.whole(target) as part:
        part.write_text(text)
    return True


def _notes(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        msg = f"{path} cannot be read: {error}"
        raise InputError(msg) from None


def _file(record: Record) -> str:
    name = record.what.name
    if name.startswith("history-"):
        pins = str(record.what.parameters.get("stack", ""))
        return f"history-{Path(pins).name.removesuffix('.txt') if pins else 'releases'}"
    return next((file for prefix, file in FILES.items() if name.startswith(prefix)), "bench")


def _portable(record: Record) -> Record:
    """A record without the memory of others, and without paths of this machine."""
    source = record.input.source
    if source.startswith("/"):
        source = Path(source).name
    return record.model_copy(
        update={
            "peak_memory": own_memory(record),
            "input": record.input.model_copy(update={"source": source}),
        }
    )


def _benchmark(record: Record) -> str:
    """What was measured of which coffea on which machine."""
    what, machine = record.what, record.machine
    parameters = {name: value for name, value in what.parameters.items() if name not in OF_A_RUN}
    # The same processor runs on any file set; elsewhere another input replaces the one before.
    given = record.input.digest if what.name.startswith("scale-") else None
    coffea = record.commit or record.versions.get("coffea")
    # Claims share sides: one that is measured alone must not take away what was judged of another.
    claims = sorted(claimed.claim for claimed in record.claims)
    described = what.model_copy(update={"parameters": parameters}).model_dump(mode="json")
    return json.dumps(
        [described, given, claims, coffea, machine.name, machine.cpu, machine.cores],
        sort_keys=True,
    )
