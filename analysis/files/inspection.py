"""Inspection of input files: opened before any work, so that a bad one ends in one sentence.

Their numbers of events say which chunks there are; their identity says that a file is still the
same when a chunk of it is read.
"""

from __future__ import annotations

import hashlib
import math
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

import pyarrow.parquet as pq
import uproot

from analysis.errors import InputError, brief
from analysis.files import remote
from analysis.files.columns import missing_branches
from analysis.files.fileset import CUT_IN_DELIVERY, FileSet

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from analysis.files.fileset import Dataset, ListedFile

OPENING_THREADS: Final = 8
"""Files that are opened at the same time: most of it is waiting for servers."""


class Stamp(NamedTuple):
    """Identity of a local file, which changes when it is written to or replaced."""

    size: int
    changed: int
    """Time of modification in ns."""
    inode: int

    @classmethod
    def of(cls, path: str) -> Stamp | None:
        """Of a local file; None for a URL, or if there is no such file."""
        try:
            stat = os.stat(path.removeprefix("file://"))  # noqa: PTH116  (for every chunk)
        except OSError:
            return None
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)


@dataclass(frozen=True)
class File:
    """An input file that was opened and is usable; data set, path and tree as in the file set."""

    dataset: str
    path: str
    tree: str
    events: int
    """Number of events in it."""
    uuid: bytes
    """Of the ROOT file; every file that is written has another."""
    ttree: bool
    """Whether it holds a TTree, rather than an RNTuple or Parquet."""
    steps: tuple[tuple[int, int], ...] | None = None
    """Ranges of events to process; None for all."""
    stamp: Stamp | None = None
    """None for a file of a server."""

    @property
    def selected(self) -> int:
        """Number of events to process."""
        return self.events if self.steps is None else sum(b - a for a, b in self.steps)


@dataclass(frozen=True)
class LeftOut:
    """An input file that cannot be used, and why; its number of events, if that is known."""

    dataset: str
    path: str
    reason: InputError
    events: int | None


def inspect(
    fileset: Mapping[str, Any],
    branches: Collection[str | tuple[str, ...]],
    *,
    replacements: Mapping[str, str] | None = None,
    replaceable: bool = True,
    allow_empty: bool = False,
    bad: list[LeftOut] | None = None,
    timeout: float = remote.TIMEOUT,
) -> list[File]:
    """Open every file of a file set and check that it has the tree, events and branches.

    The result is in the order of the file set. Of a tuple of branches, any one is enough. Files
    that cannot be used are appended to `bad` and left out; without it, the first ends in an
    InputError that says what to do: to replace a missing branch if it is `replaceable`. `timeout` is
    in seconds, for each answer of a server.
    """
    fileset = FileSet.of(fileset)
    wanted = [
        [
            (replacements or {}).get(name, name)
            for name in ([branch] if isinstance(branch, str) else branch)
        ]
        for branch in branches
    ]
    todo = [
        (name, dataset, listed)
        for name, dataset in fileset.datasets.items()
        for listed in dataset.files
    ]
    beyond = remote.unreachable({listed.path for _, _, listed in todo}, timeout)

    def look(entry: tuple[str, Dataset, ListedFile]) -> File | LeftOut:
        name, dataset, listed = entry
        events = listed.events
        try:
            if listed.path in beyond:
                raise beyond[listed.path]
            file, found = _open(name, listed, timeout)
            events = file.events
            # A delivered file may have had no event worth delivering.
            empty = allow_empty or CUT_IN_DELIVERY in dataset.metadata
            _check(file, listed, found, wanted, replaceable=replaceable, allow_empty=empty)
        except InputError as error:
            return LeftOut(name, listed.path, error, events)
        return file

    with ThreadPoolExecutor(OPENING_THREADS) as threads:
        seen = list(threads.map(look, todo))
    left_out = [outcome for outcome in seen if isinstance(outcome, LeftOut)]
    files = [outcome for outcome in seen if isinstance(outcome, File)]
    if left_out and (bad is None or not files):
        raise left_out[0].reason
    if twice := _twice(files):
        raise InputError(twice)
    if bad is not None:
        bad.extend(left_out)
    return files


def _twice(files: Collection[File]) -> str:
    """Error sentence if two paths of a data set lead to one file; empty if none do."""
    seen: dict[tuple[str, Stamp], File] = {}
    for file in files:
        if file.stamp is not None:
            other = seen.setdefault((file.dataset, file.stamp), file)
            if other is not file:
                return (
                    f"{file.path} and {other.path} are the same file, whose events would count "
                    "twice: list it once"
                )
    return ""


def _open(dataset: str, listed: ListedFile, timeout: float) -> tuple[File, set[str]]:
    """A file, and the names of its branches."""
    path = listed.path
    if (
        remote.protocol_of(path) in {"", "file"}
        and not Path(path.removeprefix("file://")).exists()
    ):
        msg = f"{path}: there is no such file; correct the path in the file set"
        raise InputError(msg)
    try:
        # Before it is opened: what replaces it while it is looked at is then another.
        stamp = None if remote.protocol_of(path) in remote.PORTS else Stamp.of(path)
        seen = (
            _look_at_parquet(path) if listed.parquet else _look_at_root(path, listed.tree, timeout)
        )
    except InputError:
        raise
    except Exception as error:
        raise InputError(unreadable(path, error)) from error
    known = (seen.events, seen.uuid, seen.ttree, listed.steps, stamp)
    return File(dataset, path, listed.tree, *known), seen.branches


def _check(
    file: File,
    listed: ListedFile,
    branches: set[str],
    wanted: list[list[str]],
    *,
    replaceable: bool,
    allow_empty: bool,
) -> None:
    """Whether a file can be used as it was listed."""
    beyond = file.steps is not None and file.steps[-1][1] > file.events
    other = listed.uuid and not listed.parquet and listed.uuid != str(UUID(bytes=file.uuid))
    if beyond or other or (listed.events is not None and listed.events != file.events):
        msg = f"{file.path} is not the file that was listed: preprocess the file set again"
        raise InputError(msg)
    if not file.events:
        if allow_empty:
            return  # Nothing will be read of it, so that no branch is missed.
        msg = (
            f"{file.path}: the tree {file.tree} has no events; "
            "leave the file out or pass --allow-empty"
        )
        raise InputError(msg)
    missing = [names[0] for names in wanted if branches.isdisjoint(names)]
    if missing:
        msg = f"{file.path}: {missing_branches(missing, branches, replaceable=replaceable)}"
        raise InputError(msg)


def unreadable(path: str, error: BaseException, events: str = "") -> str:
    """One sentence about a file, or events of it, that could not be read."""
    if remote.protocol_of(path) in remote.PORTS:
        said = remote.explain(path, repr(error))
        return f"{events} could not be read: {said}" if events else said
    which = f"{path}: {events} could not" if events else f"{path} cannot"
    return f"{which} be read, fetch it again or leave it out: {brief(error)}"


def changed(path: str) -> str:
    """One sentence about a file that is not the one that was inspected."""
    if "://" not in path and not os.path.exists(path):  # noqa: PTH110
        return (
            f"{path} is gone, or a worker on {socket.gethostname()} does not see it: workers need "
            "files by the same path, nothing is used"
        )
    return f"{path} was replaced or written to during the run: nothing is used, run it again"


def chunks(files: Collection[File], chunksize: int) -> list[tuple[File, int, int]]:
    """Chunks of each file, of equal size and about `chunksize` events, as coffea makes them.

    A file without events has one only if its data set has no other events: the result then has
    what the processor returns for no events.
    """
    if chunksize < 1:
        msg = f"a chunk cannot have {chunksize} events: ask for at least one"
        raise InputError(msg)
    filled = {file.dataset for file in files if file.selected}
    found = []
    for file in files:
        if not file.selected and file.dataset in filled:
            continue
        for start, stop in file.steps or ((0, file.events),):
            parts = max(round((stop - start) / chunksize), 1)
            size = math.ceil((stop - start) / parts) or 1
            found += [
                (file, begin, min(begin + size, stop))
                for begin in range(start, stop, size) or [start]
            ]
    return found


def processed(
    fileset: Mapping[str, Any],
    files: Collection[File],
    left_out: Collection[LeftOut] = (),
    lost: Mapping[str, int] | None = None,
) -> FileSet:
    """The file set without the files that are left out, and without data sets that have no others.

    ``nevts``, to which a sample is normalised, is scaled by the fraction of events that were
    processed; `lost` has numbers of other events by data set. A file whose number of events is
    unknown counts as the mean of the others.
    """
    left = {}
    for name, dataset in FileSet.of(fileset).datasets.items():
        used = {file.path: file for file in files if file.dataset == name}
        if not used:
            continue
        known = [file.events for file in used.values()]
        known += [
            file.events for file in left_out if file.dataset == name and file.events is not None
        ]
        unknown = len(dataset.files) - len(known)
        total = sum(known) * (1 + unknown / len(known))
        done = sum(file.selected for file in used.values()) - (lost or {}).get(name, 0)
        metadata = dict(dataset.metadata)
        if done < total:
            metadata |= {
                key: metadata[key] * done / total
                for key in ("nevts", CUT_IN_DELIVERY)
                if metadata.get(key) is not None
            }
        left[name] = replace(
            dataset,
            files=tuple(file for file in dataset.files if file.path in used),
            metadata=metadata,
        )
    return FileSet(left)


class _Seen(NamedTuple):
    """What is known of a file once it is open."""

    events: int
    uuid: bytes
    branches: set[str]
    ttree: bool


def _look_at_root(path: str, tree: str, timeout: float) -> _Seen:
    with uproot.open({path: None}, **remote.options([path], timeout)) as file:
        size = file.file.source.num_bytes
        if size is not None and size < file.file.fEND:
            msg = (
                f"{path} is truncated: it has {size} of {file.file.fEND} bytes; "
                "fetch it again or leave it out"
            )
            raise InputError(msg)
        trees = {
            name.partition(";")[0]: kind == "TTree"
            for name, kind in file.classnames().items()
            if kind in {"TTree", "ROOT::RNTuple"}
        }
        if tree not in trees:
            msg = (
                f"{path} has no tree {tree}: correct the file set, "
                f"it has {', '.join(sorted(trees)) or 'no tree at all'}"
            )
            raise InputError(msg)
        found = file[tree]
        branches = set(found.keys(recursive=False))
        return _Seen(int(found.num_entries), file.file.uuid.bytes, branches, trees[tree])


def _look_at_parquet(path: str) -> _Seen:
    if remote.protocol_of(path) in remote.PORTS:
        msg = f"{path}: Parquet is read from local files only: fetch it first"
        raise InputError(msg)
    with pq.ParquetFile(path) as file:
        # A Parquet file has no identity of its own: coffea takes its path.
        identity = hashlib.md5(path.encode(), usedforsecurity=False).digest()
        branches = set(file.schema_arrow.names)
        return _Seen(file.metadata.num_rows, identity, branches, ttree=False)
