"""Requests, delivered files, and checks that these are whole and current."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow.parquet as pq
import uproot

from analysis.errors import InputError
from analysis.files.digests import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

DIGESTS: Final = "sha256.json"
"""File beside the delivered ones: their digests, by file name."""


class Request(NamedTuple):
    """What to deliver of one data set.

    Attributes
    ----------
    name
        Name of the data set; also the title of the transform.
    dataset
        Paths or URLs of files, or any data set of ``servicex.dataset``.
    query
        Any query of ``servicex.query``.
    """

    name: str
    dataset: Any
    query: Any


@dataclass(frozen=True)
class Delivered:
    """All delivered files of one data set.

    Attributes
    ----------
    files
        Files in the client's cache, by name.
    events
        Number of events in each.
    cached
        Whether they were there from an earlier delivery.
    """

    files: tuple[Path, ...]
    events: tuple[int, ...]
    cached: bool


class DeliveryError(InputError):
    """A data set that was not delivered; trying again may help if it is `transient`."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


def count_events(path: Path) -> int:
    """Number of events of a delivered file, over all its trees; InputError if it is unreadable."""
    try:
        # The first bytes tell the format: ServiceX gives ROOT files any name.
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        if parquet:
            return int(pq.read_metadata(path).num_rows)
        with uproot.open({path: None}) as root:
            kinds = root.classnames(cycle=False)
            trees = [name for name, kind in kinds.items() if kind in {"TTree", "ROOT::RNTuple"}]
            return sum(int(root[name].num_entries) for name in trees)
    except Exception as error:
        msg = f"the delivered file {path} cannot be read: {error}"
        raise InputError(msg) from error


def digests_of(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each file, by file name."""
    return {path.name: digest_of(path) for path in paths}


def from_record(record: Any) -> Delivered | None:
    """The files of a transform in the client's cache; None unless all are as delivered."""
    paths = tuple(sorted(map(Path, record.file_list)))
    try:
        known = json.loads((Path(record.data_dir) / DIGESTS).read_text())
        if not paths or len(paths) != record.files or known != digests_of(paths):
            return None
        events = tuple(map(count_events, paths))
    except (InputError, OSError, ValueError):
        return None
    return Delivered(paths, events, cached=True)


def damaged(
    paths: Iterable[Path], digests: Mapping[str, str], results: Sequence[Mapping[str, Any]]
) -> Path | None:
    """A file whose size or digest is not what the endpoint reports."""
    made = [result for result in results if result["transform_status"] == "success"]
    # Every endpoint reports the size, only ours the digest.
    left = Counter((result["total-bytes"], result.get("sha256")) for result in made)
    has_digests = all(digest for _, digest in left)
    for path in paths:
        key = (path.stat().st_size, digests[path.name] if has_digests else None)
        left[key] -= 1
        if left[key] < 0:
            return path
    return None


def changed(sources: Sequence[str] | None, since: datetime) -> bool:
    """Whether a source file on this machine was written after a time."""
    local = (one.removeprefix("file://") for one in sources or () if "://" not in one[5:])
    paths = map(Path, local)
    return any(path.exists() and path.stat().st_mtime > since.timestamp() for path in paths)
