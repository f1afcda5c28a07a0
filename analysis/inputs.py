"""Input files: looked at before any work is done, so that bad ones end in one sentence.

What is learnt by opening them (number of events, identity) is given to coffea's Runner, which
then opens each file only to process it.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow.parquet as pq
import pydantic
import uproot
from coffea.processor.executor import FileMeta

from analysis import remote
from analysis.columns import missing_branches
from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

PARQUET: Final = ".parquet"
DEFAULT_TREE: Final = "Events"
CUT_IN_DELIVERY: Final = "cut_in_delivery"
"""In metadata: how many events of the original files are not in these, because none of them can
be selected (`analysis.delivery.fileset`)."""
OPENING_THREADS: Final = 8
"""Files opened at once: remote files are waited for side by side."""


class Metadata(pydantic.BaseModel):
    """What a file set says of a data set to the ttbar analysis; more is allowed and passed on."""

    model_config = pydantic.ConfigDict(extra="allow")

    process: str
    variation: str = "nominal"
    xsec: float = pydantic.Field(gt=0)
    nevts: float | None = pydantic.Field(default=None, gt=0)


class Dataset(pydantic.BaseModel):
    """One data set of a file set, in coffea's form."""

    model_config = pydantic.ConfigDict(extra="forbid")

    files: dict[str, str] = pydantic.Field(min_length=1)
    metadata: dict[str, Any] = {}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _one_form(cls, given: Any, info: pydantic.ValidationInfo) -> Any:
        """Other forms of coffea: a list of files, with the tree named beside it or nowhere."""
        if isinstance(given, list):
            given = {"files": given}
        if isinstance(given, dict) and isinstance(files := given.get("files"), list):
            tree = given.get("treename") or (info.context or {}).get("tree", DEFAULT_TREE)
            rest = {key: value for key, value in given.items() if key != "treename"}
            return {**rest, "files": dict.fromkeys(files, tree)}
        return given


class AnalysisDataset(Dataset):
    """A data set with what the ttbar analysis needs to know of it."""

    metadata: Metadata  # type: ignore[assignment]


@dataclass(frozen=True)
class File:
    """One input file that was opened and found usable."""

    dataset: str
    path: str
    tree: str
    events: int
    uuid: bytes
    ttree: bool
    """Whether it holds a TTree, rather than an RNTuple or Parquet."""


def read_fileset(path: Path, *, analysis: bool = True, tree: str = DEFAULT_TREE) -> dict[str, Any]:
    """Read and check a file set.

    Parameters
    ----------
    path
        JSON of coffea's form: ``{name: {"files": {path: tree}, "metadata": {"process",
        "variation", "xsec", "nevts"}}}``; ``variation`` defaults to nominal, ``nevts`` to the
        number of events in the files. ``files``, or all of a data set, may be a list of paths.
    analysis
        Whether it is for the ttbar analysis; otherwise metadata may be anything.
    tree
        Tree of files that are listed without.

    Returns
    -------
    dict
        The same, defaults filled in.

    Raises
    ------
    InputError
        If it cannot be read or has another form.
    """
    datasets: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(
        dict[str, AnalysisDataset] if analysis else dict[str, Dataset]
    )
    try:
        fileset = datasets.validate_json(path.read_bytes(), context={"tree": tree})
    except FileNotFoundError:
        msg = f"there is no file set {path}: make one with `python -m analysis make-data DIR`"
        raise InputError(msg) from None
    except OSError as error:
        msg = f"the file set {path} cannot be read: {error.strerror}"
        raise InputError(msg) from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        msg = f"{path} is not a file set: at {where}: {first['msg']}"
        raise InputError(msg) from None
    if not fileset:
        msg = f"the file set {path} names no data set: add one"
        raise InputError(msg)
    return {name: one.model_dump(exclude_none=True) for name, one in fileset.items()}


def data_format(fileset: Mapping[str, Any]) -> str:
    """Format of all files as coffea's Runner calls it: ``root`` or ``parquet``.

    Raises
    ------
    InputError
        If they are not all of one format.
    """
    formats = {
        "parquet" if path.endswith(PARQUET) else "root"
        for dataset in fileset.values()
        for path in dataset["files"]
    }
    if len(formats) > 1:
        msg = "the file set mixes Parquet with ROOT files: make a file set of each"
        raise InputError(msg)
    return formats.pop()


def inspect(
    fileset: Mapping[str, Any],
    branches: Collection[str | tuple[str, ...]],
    *,
    replacements: Mapping[str, str] | None = None,
    allow_empty: bool = False,
    bad: list[InputError] | None = None,
    timeout: float = remote.TIMEOUT,
) -> list[File]:
    """Open every file and check that it holds what is read.

    Parameters
    ----------
    fileset
        Of coffea's form.
    branches
        Branches that will be read; of a tuple any one will do.
    replacements
        Branch to read in the place of another.
    allow_empty
        Whether a tree may have no events.
    bad
        Told what is wrong with files that cannot be used, which are then left out.
    timeout
        Seconds that a server of files may take to answer.

    Returns
    -------
    list[File]
        In the order of the file set.

    Raises
    ------
    InputError
        Names the first file that is missing, truncated, damaged, empty, or without the tree or
        a branch, and says what to do.
    """
    wanted = [
        [(replacements or {}).get(name, name) for name in ([one] if isinstance(one, str) else one)]
        for one in branches
    ]
    todo = [
        (name, path, tree)
        for name, dataset in fileset.items()
        for path, tree in dataset["files"].items()
    ]

    beyond = remote.unreachable({path for _, path, _ in todo}, timeout)

    def look(one: tuple[str, str, str]) -> File | InputError:
        _, path, _ = one
        try:
            if path in beyond:
                raise beyond[path]
            # A delivered file may have had no event worth delivering.
            empty = allow_empty or CUT_IN_DELIVERY in fileset[one[0]].get("metadata", {})
            return _inspect_one(*one, wanted, allow_empty=empty, timeout=timeout)
        except InputError as error:
            return error

    with ThreadPoolExecutor(OPENING_THREADS) as threads:
        seen = list(threads.map(look, todo))
    errors = [one for one in seen if isinstance(one, InputError)]
    files = [one for one in seen if isinstance(one, File)]
    if errors and (bad is None or not files):
        raise errors[0]
    if bad is not None:
        bad.extend(errors)
    return files


def _inspect_one(
    dataset: str,
    path: str,
    tree: str,
    wanted: list[list[str]],
    *,
    allow_empty: bool,
    timeout: float,
) -> File:
    if (
        remote.protocol_of(path) in {"", "file"}
        and not Path(path.removeprefix("file://")).exists()
    ):
        msg = f"{path}: there is no such file; correct the path in the file set"
        raise InputError(msg)
    try:
        if path.endswith(PARQUET):
            seen = _look_at_parquet(path)
        else:
            seen = _look_at_root(path, tree, timeout)
    except InputError:
        raise
    except Exception as error:
        raise InputError(unreadable(path, error)) from error
    missing = [names[0] for names in wanted if seen.branches.isdisjoint(names)]
    if missing:
        msg = f"{path}: {missing_branches(missing, seen.branches)}"
        raise InputError(msg)
    if not (seen.events or allow_empty):
        msg = f"{path}: the tree {tree} has no events; leave the file out or pass --allow-empty"
        raise InputError(msg)
    return File(dataset, path, tree, seen.events, seen.uuid, seen.ttree)


def unreadable(path: str, error: BaseException) -> str:
    """One sentence on a file whose reading failed."""
    if remote.protocol_of(path) in remote.PORTS:
        return remote.explain(path, repr(error))
    reason = " ".join(str(error).split()) or type(error).__name__
    if len(reason) > 160:
        reason = f"{reason[:160]}..."
    return f"{path} cannot be read, fetch it again or leave it out: {reason}"


def processed(
    fileset: Mapping[str, Any], files: Collection[File], lost: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """What is left of a file set, when files or some of their events are left out.

    Parameters
    ----------
    fileset
        Of coffea's form.
    files
        Those of its files that are used.
    lost
        Events that were not processed, by data set.

    Returns
    -------
    dict
        Data sets of which something is left. ``nevts``, to which a sample is normalised, is taken
        in proportion: to the events, and to the files where the events of one are not known.
    """
    left = {}
    for name, dataset in fileset.items():
        used = [file for file in files if file.dataset == name]
        events = sum(file.events for file in used)
        if not used:
            continue
        share = len(used) / len(dataset["files"])
        if gone := (lost or {}).get(name, 0):
            share *= 1 - gone / events
        metadata = dataset["metadata"]
        if share < 1:
            scaled = {
                key: metadata[key] * share for key in ("nevts", CUT_IN_DELIVERY) if key in metadata
            }
            metadata = {**metadata, **scaled}
        left[name] = {
            **dataset,
            "files": {file.path: file.tree for file in used},
            "metadata": metadata,
        }
    return left


class _Seen(NamedTuple):
    """What opening a file tells of it."""

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


def metadata_cache(
    fileset: Mapping[str, Any], files: Collection[File]
) -> dict[FileMeta, dict[str, Any]]:
    """What coffea's Runner would learn by opening the files, in the form of its cache."""
    return {
        FileMeta(file.dataset, file.path, file.tree): {
            **fileset[file.dataset]["metadata"],
            "numentries": file.events,
            "uuid": file.uuid,
        }
        for file in files
    }
