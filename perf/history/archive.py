"""The archive: the history under version control, which `perf.publish.site` publishes."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import InputError
from analysis.files import output
from perf.history import table
from perf.history.campaign import notes_path
from perf.records import record_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perf.records.record_file import Record


def write(path: Path, folder: Path) -> list[Path]:
    """Compress the last campaign with each pins of a file of results into a folder.

    The files are ``releases.jsonl.gz`` (dependencies of the time) and ``stack-PINS.jsonl.gz``, with
    the notes of each beside it; they replace earlier ones.
    """
    if not folder.is_dir():
        msg = f"there is no folder {folder}: call this in a clone of the project, or name one"
        raise InputError(msg)
    every = {
        str(record.what.parameters.get("stack", ""))
        for record in record_file.read(path)
        if "campaign" in record.what.parameters
    }
    written = []
    for pins in sorted(every) or [""]:
        records, notes = table.last(path, pins)
        name = f"stack-{Path(pins).name.removesuffix('.txt')}" if pins else "releases"
        archive = folder / f"{name}.jsonl.gz"
        with output.whole(archive) as part:
            part.write_bytes(_compressed(records))
        notes.path = notes_path(archive)
        notes.path.unlink(missing_ok=True)
        notes.write()
        written.append(archive)
    return written


def _compressed(records: Iterable[Record]) -> bytes:
    """Compressed lines of records; the same records give the same bytes."""
    lines = "".join(record.model_dump_json() + "\n" for record in records)
    return gzip.compress(lines.encode(), mtime=0)
