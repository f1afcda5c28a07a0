"""All records of a project, wherever the measurements left them.

pytest-benchmark, the claims, the scaling runs and the history write records themselves; results of
asv and of comparisons are made into records as they are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from analysis.errors import InputError
from perf.records import record_file
from perf.records.from_asv import asv_records
from perf.records.from_compare import compared
from perf.records.unreadable import left_out
from perf.records.void import version_controlled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perf.records.record_file import Record

PLACES: Final = (".perf/*.jsonl", ".perf/compare/*.json")
"""Files of records, and reports of `compare`, below the root directory of a project."""

ARCHIVE: Final = "history/*.jsonl.gz"
"""Files of records under version control, in the folder `perf` of a project."""

ASV_RESULTS: Final = ".asv/results"


def archived(root: Path | None = None) -> list[Path]:
    """Archived files of records of a project, as in `collect`."""
    return sorted(version_controlled(root).glob(ARCHIVE))


def collect(root: Path | None = None, more: Sequence[Path] = ()) -> list[Record]:
    """Records of all measurements of a project, oldest first.

    By default the project is the working folder, with the archive of this package if that has
    none. `more` are further files of records, or of `python -m perf compare --json`; they must be
    readable, while any other bad file is left out, and a sentence says so.
    """
    here = root or Path()
    if not here.is_dir():
        msg = f"there is no folder {here}: name that of the project"
        raise InputError(msg)
    records = [record for path in more for record in _read(path)]
    for path in (
        *(path for place in PLACES for path in sorted(here.glob(place))),
        *archived(root),
    ):
        with left_out():
            records += _read(path)
    records += asv_records(here / ASV_RESULTS)
    # The archive may have been made of records that are here as well.
    once = {
        (
            record.run,
            record.timestamp,
            record.what.model_dump_json(),
            record.versions.get("coffea"),
        ): record
        for record in records
    }
    return sorted(once.values(), key=lambda record: record.timestamp)


def _read(path: Path) -> list[Record]:
    return compared(path) if path.suffix == ".json" else record_file.read(path)
