"""File sets: which files make up which data set, in every form that coffea's tools write.

`FileSet` is their only reader. It checks them with coffea's own models
(`coffea.dataset_tools.filespec`), and says in one sentence what is wrong.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pydantic
from coffea.dataset_tools.filespec import (
    CoffeaParquetFileSpecOptional,
    CoffeaROOTFileSpecOptional,
    DataGroupSpec,
    DatasetSpec,
    identify_file_format,
)
from coffea.processor.executor import _PROTECTED_NAMES
from uproot._util import file_object_path_split

from analysis.errors import InputError
from analysis.files import remote
from analysis.samples import NOMINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DEFAULT_TREE: Final = "Events"
CUT_IN_DELIVERY: Final = "cut_in_delivery"
"""Key of metadata: number of events of the original files that were not delivered, because they
cannot be selected (`analysis.delivery.fileset`)."""

KEYS: Final = frozenset(
    {"files", "metadata", "treename", "form", "compressed_form", "format", "did"}
)
"""Keys of a data set that coffea's tools write. The form of events is not used: each file has its
own."""

GZIP: Final = b"\x1f\x8b"


class Metadata(pydantic.BaseModel):
    """Metadata that the ttbar analysis reads; more is allowed and passed on.

    Real data (``isData``) need no cross section: an event weighs 1.
    """

    model_config = pydantic.ConfigDict(extra="allow", allow_inf_nan=False)

    process: str = pydantic.Field(min_length=1)
    variation: str = pydantic.Field(default=NOMINAL, min_length=1)
    xsec: float | None = pydantic.Field(default=None, gt=0)
    nevts: float | None = pydantic.Field(default=None, gt=0)
    isData: bool = False

    @pydantic.model_validator(mode="before")
    @classmethod
    def _data_is_a_process(cls, given: Any) -> Any:
        return {"process": "data", **given} if given.get("isData") is True else given

    @pydantic.model_validator(mode="after")
    def _weight_is_known(self) -> Self:
        if self.xsec is None and not self.isData:
            msg = 'simulated events need a cross section "xsec" in pb, real data "isData": true'
            raise ValueError(msg)
        if self.isData and self.variation != NOMINAL:
            msg = f"real data have no variation {self.variation}: leave it out"
            raise ValueError(msg)
        return self


@dataclass(frozen=True)
class ListedFile:
    """A file as it is listed; number of events and UUID if they are listed."""

    path: str
    """Absolute path, or URL."""
    tree: str = DEFAULT_TREE
    """Name of its tree or RNTuple; without meaning for Parquet."""
    steps: tuple[tuple[int, int], ...] | None = None
    """Ranges of events to process, in order; None for all."""
    events: int | None = None
    uuid: str | None = None

    @property
    def parquet(self) -> bool:
        """Whether it is a Parquet file, by its name."""
        return is_parquet(self.path)


@dataclass(frozen=True)
class Dataset:
    """Files with the same metadata."""

    files: tuple[ListedFile, ...]
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class FileSet(Mapping[str, Any]):
    """Data sets by name; as a mapping, in coffea's form.

    Attributes
    ----------
    datasets
        By name, in order.
    """

    datasets: Mapping[str, Dataset]

    def __getitem__(self, name: str) -> dict[str, Any]:
        dataset = self.datasets[name]
        return {
            "files": {
                file.path: file.tree
                if file.steps is None
                else {"object_path": file.tree, "steps": [list(step) for step in file.steps]}
                for file in dataset.files
            },
            "metadata": dict(dataset.metadata),
        }

    def __iter__(self) -> Iterator[str]:
        return iter(self.datasets)

    def __len__(self) -> int:
        return len(self.datasets)

    def __hash__(self) -> int:
        return hash(self.digest)

    @classmethod
    def of(
        cls,
        source: Mapping[str, Any] | DataGroupSpec,
        *,
        analysis: bool = False,
        tree: str = DEFAULT_TREE,
        folder: Path | None = None,
        name: str = "the file set",
    ) -> FileSet:
        """A file set of any form that coffea's tools write.

        Parameters
        ----------
        source
            ``{name: {"files": ..., "metadata": {...}}}``, or `DataGroupSpec`. ``files``, or all of
            a data set, is a list of paths or a dictionary of them. A path may be a pattern
            (``data/*.root``) and end in ``:TREE``; in a dictionary it leads to the name of the
            tree, or to ``{"object_path", "steps", "num_entries", "uuid"}``.
        analysis
            Whether it is for the ttbar analysis, whose `Metadata` are then checked and filled in;
            otherwise metadata may be anything.
        tree
            Tree of files that are listed without.
        folder
            Where relative paths are looked for first; then in the working folder.
        name
            What it is called in errors.

        Raises
        ------
        InputError
            If it has another form, or lists a file twice in one data set.
        """
        if isinstance(source, FileSet) and not analysis:
            return source
        if isinstance(source, DataGroupSpec):
            source = source.model_dump()
        if not isinstance(source, Mapping):
            msg = f"{name} is not a file set: it must be an object of data sets by name"
            raise InputError(msg)
        if not source:
            msg = f"{name} names no data set: add one"
            raise InputError(msg)
        datasets = {}
        for key, entry in source.items():
            try:
                dataset = _dataset(entry, tree, folder)
                if analysis:
                    known = Metadata.model_validate(dataset.metadata).model_dump()
                    dataset = replace(dataset, metadata=_known(known))
            except pydantic.ValidationError as error:
                msg = f"{name} is not a file set: in data set {key}: {_said(error)}"
                raise InputError(msg) from None
            except (ValueError, RuntimeError, AssertionError) as error:
                msg = f"{name} is not a file set: in data set {key}: {error}"
                raise InputError(" ".join(msg.split())) from None
            datasets[str(key)] = dataset
        return cls(datasets)

    @property
    def digest(self) -> str:
        """Digest of all content: names, files, steps, metadata."""
        content = [
            [name, [list(vars(file).values()) for file in dataset.files], dict(dataset.metadata)]
            for name, dataset in self.datasets.items()
        ]
        return hashlib.sha256(
            json.dumps(content, sort_keys=True, default=repr).encode()
        ).hexdigest()

    @property
    def data_format(self) -> str:
        """Format of all files as coffea's Runner calls it: ``root`` or ``parquet``."""
        formats = {file.parquet for dataset in self.datasets.values() for file in dataset.files}
        if len(formats) > 1:
            msg = "the file set mixes Parquet with ROOT files: make a file set of each"
            raise InputError(msg)
        return "parquet" if formats.pop() else "root"


def read_fileset(path: Path, *, analysis: bool = True, tree: str = DEFAULT_TREE) -> FileSet:
    """Read and check a file set.

    Parameters
    ----------
    path
        JSON, maybe compressed with gzip, in a form of `FileSet.of`. Relative paths in it are
        looked for beside it, then in the working folder.
    analysis, tree
        As of `FileSet.of`.

    Raises
    ------
    InputError
        If it cannot be read or has another form.
    """
    try:
        content = path.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
        source = json.loads(content, object_pairs_hook=_no_key_twice)
    except FileNotFoundError:
        msg = f"there is no file set {path}: make one with `python -m analysis make-data DIR`"
        raise InputError(msg) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        msg = f"the file set {path} is damaged, fetch it again: {error}"
        raise InputError(msg) from None
    except OSError as error:
        msg = f"the file set {path} cannot be read: {error.strerror}"
        raise InputError(msg) from None
    except RecursionError:
        msg = f"{path} is not a file set: it is nested too deeply"
        raise InputError(msg) from None
    except ValueError as error:  # no JSON, no text, or a key twice
        msg = f"{path} is not a file set: {error}"
        raise InputError(msg) from None
    return FileSet.of(
        source, analysis=analysis, tree=tree, folder=path.absolute().parent, name=str(path)
    )


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON allows a key twice, and Python then drops the first silently."""
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            msg = f"{key!r} stands twice in one object, of which one would be lost: rename one"
            raise ValueError(msg)
        content[key] = value
    return content


def _dataset(entry: Any, tree: str, folder: Path | None) -> Dataset:
    if isinstance(entry, DatasetSpec):
        entry = entry.model_dump()
    if isinstance(entry, list):
        entry = {"files": entry}
    if not isinstance(entry, Mapping):
        msg = "it must be a list of files, or an object with files and metadata"
        raise ValueError(msg)  # noqa: TRY004  (a wrong value of the file's, no wrong call)
    if "files" not in entry:
        if not entry or any(isinstance(value, list) for value in entry.values()):
            msg = 'it has no "files": list them'
            raise ValueError(msg)
        entry = {"files": entry}
    if unknown := entry.keys() - KEYS - {"files"}:
        msg = f'{", ".join(map(repr, sorted(unknown)))} is not known: leave it out, or put it into "metadata"'
        raise ValueError(msg)
    tree = entry.get("treename") or tree
    metadata = entry.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        msg = f'"metadata" must be an object, not {metadata!r}'
        raise ValueError(msg)  # noqa: TRY004
    if reserved := _PROTECTED_NAMES & metadata.keys():
        msg = (
            f'coffea itself says {", ".join(sorted(reserved))} of events: rename it in "metadata"'
        )
        raise ValueError(msg)
    files = tuple(_files(entry["files"], tree, folder))
    if not files:
        msg = "it has no files: add one, or leave it out"
        raise ValueError(msg)
    return Dataset(files, dict(metadata))


def _files(files: Any, tree: str, folder: Path | None) -> Iterator[ListedFile]:
    if not isinstance(files, (list, Mapping)):
        msg = f'"files" must be a list or an object, not {files!r}'
        raise ValueError(msg)  # noqa: TRY004
    pairs: Iterable[tuple[Any, Any]] = (
        files.items() if isinstance(files, Mapping) else ((path, None) for path in files)
    )
    spelled: dict[str, str] = {}
    for given, about in pairs:
        if not isinstance(given, (str, os.PathLike)) or not os.fspath(given):
            msg = f"{given!r} is not the path of a file"
            raise ValueError(msg)
        if about is not None and not isinstance(about, (str, Mapping)):
            msg = f"{given}: {about!r} is not the name of a tree"
            raise ValueError(msg)
        paths, split_tree = _find(os.fspath(given), folder)
        entry = about if isinstance(about, Mapping) else {}
        named = about if isinstance(about, str) else entry.get("object_path")
        for path in paths:
            same = os.path.realpath(path) if _is_local(path) else path
            if same in spelled:
                other = "" if spelled[same] == os.fspath(given) else f", as {spelled[same]} too"
                msg = f"{given} is listed twice{other}: its events would count twice, list it once"
                raise ValueError(msg)
            spelled[same] = os.fspath(given)
            yield _file(path, entry, named or split_tree or tree)


def _file(path: str, entry: Mapping[str, Any], tree: str) -> ListedFile:
    """A file, checked with coffea's model."""
    # A name of a tree says nothing of Parquet, and coffea's model refuses it.
    model, name = (
        (CoffeaParquetFileSpecOptional, None)
        if is_parquet(path)
        else (CoffeaROOTFileSpecOptional, tree)
    )
    try:
        spec = model(**{**entry, "object_path": name})
    except pydantic.ValidationError as error:
        msg = f"{path}: {_said(error)}"
        raise ValueError(msg) from None
    return ListedFile(path, tree, _steps(path, spec.steps), spec.num_entries, spec.uuid)


def is_parquet(path: str) -> bool:
    """Whether the name is that of a Parquet file; all others are ROOT files."""
    try:
        return "." in path.rpartition("/")[2] and identify_file_format(path) == "parquet"
    except RuntimeError:
        return False


def _find(given: str, folder: Path | None) -> tuple[list[str], str | None]:
    """Absolute paths or a URL, and a tree, that a listed path stands for."""
    given = given.removeprefix("file://")
    if not _is_local(given):
        path, tree = file_object_path_split(given)
        return [path], tree
    tree = None
    if not _places(given, folder):
        given, tree = file_object_path_split(given)
    places = _places(given, folder)
    if len({os.path.realpath(place) for place in places}) > 1:
        msg = f"{given} is both {places[0]} and {places[1]}: name it from / on"
        raise ValueError(msg)
    if places:
        place = places[0]
        if not os.path.isdir(place):  # noqa: PTH112
            return [place], tree
        if within := sorted(glob.glob(f"{glob.escape(place)}/*.parquet")):  # noqa: PTH207
            return within, tree
        msg = f"{place} is a folder: list its files, as {given}/*.root"
        raise ValueError(msg)
    if glob.has_magic(given):
        for place in _candidates(given, folder):
            if within := sorted(glob.glob(place, recursive=True)):  # noqa: PTH207
                return within, tree
        msg = f"there is no file {given}: correct the pattern"
        raise ValueError(msg)
    return [_candidates(given, folder)[0]], tree


def _is_local(path: str) -> bool:
    return remote.protocol_of(path) in {"", "file"}


def _candidates(given: str, folder: Path | None) -> list[str]:
    """Absolute paths that a listed path may mean, the likeliest first."""
    given = os.path.expanduser(given)  # noqa: PTH111
    folders = [folder, Path.cwd()] if folder else [Path.cwd()]
    return list(dict.fromkeys(os.path.normpath(base / given) for base in folders))


def _places(given: str, folder: Path | None) -> list[str]:
    return [place for place in _candidates(given, folder) if os.path.exists(place)]  # noqa: PTH110


def _steps(path: str, steps: list[list[int]] | None) -> tuple[tuple[int, int], ...] | None:
    if steps is None:
        return None
    joined: list[tuple[int, int]] = []
    for start, stop in steps:
        if stop < start:
            msg = f"{path}: the step from {start} to {stop} ends before it begins"
            raise ValueError(msg)
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]  # noqa: PLW2901
        joined.append((start, stop))
    return tuple(joined)


def _known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without unknown values, and without ``isData`` of simulated events."""
    return {k: v for k, v in metadata.items() if v is not None and (k, v) != ("isData", False)}


def _said(error: pydantic.ValidationError) -> str:
    """The first error of a model, in one sentence."""
    first = error.errors()[0]
    where = ".".join(str(key) for key in first["loc"])
    said = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"{where}: {said}" if where else said
