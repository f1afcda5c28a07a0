"""All records of a project, wherever the measurements left them.

pytest-benchmark, the claims, the scaling runs and the history write records themselves; results of
asv and of comparisons are made into records as they are read. `perf.records.keep` copies them to
where they are under version control.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError
from perf.records import from_compare, record_file
from perf.records.from_asv import asv_records
from perf.records.unreadable import left_out
from perf.records.void import version_controlled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perf.records.record_file import Record

PLACES: Final = (".perf/*.jsonl", ".perf/compare/*.json")
"""Files of records, and reports of `compare`, below the root directory of a project."""

KEPT: Final = "kept"
"""Folder of what is under version control, in the folder `perf` of a project."""

HISTORY: Final = "history-*.jsonl.gz"
"""Kept files of the history."""

ASV_RESULTS: Final = ".asv/results"


def measured(root: Path | None = None) -> list[Path]:
    """Files of records and reports that were measured here, as in `collect`."""
    here = root or Path()
    if not here.is_dir():
        msg = f"there is no folder {here}: name that of the project"
        raise InputError(msg)
    return [path for place in PLACES for path in sorted(here.glob(place))]


def kept(root: Path | None = None, pattern: str = "*.gz") -> list[Path]:
    """Files of records and reports under version control, as in `collect`."""
    return sorted((version_controlled(root) / KEPT).glob(pattern))


def collect(
    root: Path | None = None, more: Sequence[Path] = (), *, kept_only: bool = False
) -> list[Record]:
    """Records of all measurements of a project, oldest first; or of those alone that are kept.

    By default the project is the working folder, with what is kept in this package if that has
    nothing. `more` are further files of records, or of `python -m perf compare --json`; they must
    be readable, while any other bad file is left out, and a sentence says so.
    """
    records = [record for path in more for record in _read(path)]
    for path in (*([] if kept_only else measured(root)), *kept(root)):
        with left_out():
            records += _read(path)
    if not kept_only:
        records += asv_records((root or Path()) / ASV_RESULTS)
    # What is kept may have been copied from records that are here as well.
    return sorted(distinct(records), key=lambda record: record.timestamp)


def comparisons(
    root: Path | None = None, more: Sequence[Path] = (), *, kept_only: bool = False
) -> list[dict[str, Any]]:
    """Reports of ``python -m perf compare --json``, of the files of `collect`, oldest first.

    Of reports that compare the same on one machine the newest counts.
    """
    reports = [from_compare.report(path) for path in more if is_report(path)]
    for path in filter(is_report, (*kept(root), *([] if kept_only else measured(root)))):
        with left_out():
            reports.append(from_compare.report(path))
    return newest_reports(reports)


def newest_reports(reports: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest report of each identity, oldest first."""
    ordered = sorted(reports, key=lambda report: str(report["ended"]))
    newest = {from_compare.identity(report): report for report in ordered}
    return sorted(newest.values(), key=lambda report: str(report["ended"]))


def distinct(records: Iterable[Record]) -> list[Record]:
    """Each measurement once; of copies the last."""
    once = {
        (
            record.run,
            record.timestamp,
            record.what.model_dump_json(),
            record.versions.get("coffea"),
            record.machine.name,
        ): record
        for record in records
    }
    return list(once.values())


def is_report(path: Path) -> bool:
    """Whether a file is one of `compare` by its name, and not of records."""
    return path.name.endswith((".json", ".json.gz"))


def _read(path: Path) -> list[Record]:
    if is_report(path):
        return from_compare.records(from_compare.report(path))
    return record_file.read(path)
