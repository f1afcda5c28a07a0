"""A file set delivered: the events and columns of the ttbar analysis, as a file set to run on."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.delivery import queries
from analysis.delivery.client import TIMEOUT, Delivered, Request, deliver
from analysis.errors import InputError, NotInstalledError
from analysis.files import inspection
from analysis.files.fileset import CUT_IN_DELIVERY, FileSet, read_fileset
from analysis.files.output import check, write_json
from analysis.servicex.transform import FUNCADL_TREE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

QUERIES: Final = ("uproot-raw", "func-adl")
PRIVATE: Final = ".servicex"
"""Folder in the output for the client's cache and the state of the local endpoint."""
PARQUET: Final = ".parquet"
TREENAME: Final = "treename"
"""Column that ServiceX adds to the Parquet files of uproot-raw."""
SUFFIXES: Final = {"parquet": PARQUET, "root-ttree": ".root", "root-rntuple": ".root"}


def deliver_fileset(
    path: Path,
    output: Path,
    *,
    query: str = "uproot-raw",
    data_format: str = "parquet",
    config: Path | None = None,
    backend: str | None = None,
    replacements: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
    workers: int = 2,
    ignore_cache: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Deliver what the ttbar analysis needs of a file set.

    Parameters
    ----------
    path
        The file set.
    output
        Folder for the delivered files and their ``fileset.json``.
    query
        ``uproot-raw`` or ``func-adl``.
    data_format
        ``parquet``, ``root-ttree`` or ``root-rntuple``.
    config, backend
        A servicex.yaml and the name of a deployment in it. Without both a local endpoint is
        started, which may read the folders and servers of the file set.
    replacements
        Branch to read in place of another.
    timeout
        Seconds that the delivery may take.
    workers
        Files that the local endpoint transforms at a time.
    ignore_cache
        Whether to transform files again that were delivered before.
    progress
        Whether to show progress; by default if there is a terminal.

    Returns
    -------
    dict
        The delivered file set. In the metadata of each data set ``nevts`` is the number of events
        to normalise to, and ``cut_in_delivery`` the number of events that were not delivered.

    Raises
    ------
    InputError
        If a file cannot be used, or is not delivered whole.
    """
    if query not in QUERIES:
        msg = f"there is no query {query}: use one of {', '.join(QUERIES)}"
        raise InputError(msg)
    fileset = read_fileset(path)
    _check_whole(fileset)
    is_local = config is None and backend is None
    events = _count(fileset, replacements, must_open=is_local)
    make = queries.uproot_raw if query == "uproot-raw" else queries.funcadl
    requests = {}
    for title, (name, tree) in _titles(fileset).items():
        listed = fileset[name]["files"].items()
        sources = [_absolute(source) for source, own in listed if own == tree]
        requests[title] = (name, tree, Request(title, sources, make(tree, replacements)))
    folders = _folders(fileset)
    private = _prepared(output, path, folders.values())

    @contextmanager
    def local() -> Iterator[Path]:
        try:
            from analysis.servicex.server import serving  # noqa: PLC0415
        except ImportError as error:
            msg = f"the local ServiceX needs the extra `servicex`: {error}"
            raise NotInstalledError(msg) from None
        paths = [source for _, _, request in requests.values() for source in request.dataset]
        # Servers that the user has named may redirect: some know only where a file lies.
        with serving(
            private / "endpoint", allow=_allowed(paths), workers=workers, follow=True
        ) as endpoint:
            yield endpoint.config

    delivered = deliver(
        [request for _, _, request in requests.values()],
        data_format=data_format,
        config=config,
        backend=backend,
        local=local if is_local else None,
        cache=private / "cache",
        timeout=timeout,
        ignore_cache=ignore_cache,
        progress=progress,
    )
    # An earlier delivery must not pass for this one while its files are replaced.
    (output / "fileset.json").unlink(missing_ok=True)
    written: dict[str, Any] = {}
    for name, dataset in fileset.items():
        folder = output / folders[name]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files: dict[str, str] = {}
        kept = 0
        for title, (own, tree, _) in requests.items():
            if own != name:
                continue
            kept += sum(delivered[title].events)
            new_tree = FUNCADL_TREE if query == "func-adl" and data_format != "parquet" else tree
            for target in _placed(delivered[title], folder, len(files), SUFFIXES[data_format]):
                files[str(target)] = new_tree
        if kept > events[name]:
            msg = f"{name}: {kept} events were delivered of {events[name]}: correct its nevts"
            raise InputError(msg)
        written[name] = {
            **dataset,
            "files": files,
            "metadata": {
                "nevts": events[name],
                **dataset["metadata"],
                CUT_IN_DELIVERY: events[name] - kept,
            },
        }
    write_json(output / "fileset.json", written)
    return written


def _prepared(output: Path, fileset: Path, folders: Iterable[str]) -> Path:
    """Make the private folder in the output, unless the output has other files in the way."""
    private = output.resolve() / PRIVATE
    there = [output / name for name in folders if (output / name).exists()]
    if there and not private.exists():
        msg = f"{there[0]} is there, and of no earlier delivery: name another folder"
        raise InputError(msg)
    try:
        private.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        msg = f"{output} cannot be written to: {error.strerror}"
        raise InputError(msg) from None
    check(output / "fileset.json", inputs=[fileset])
    return private


def _check_whole(fileset: FileSet) -> None:
    for dataset in fileset.datasets.values():
        for file in dataset.files:
            if file.steps is not None:
                msg = f"{file.path}: ServiceX delivers whole files: list it without its steps"
                raise InputError(msg)


def _count(
    fileset: Mapping[str, Any], replacements: Mapping[str, str] | None, *, must_open: bool
) -> dict[str, int]:
    """Events of each data set before any cut: from its files, or from its metadata."""
    if must_open:
        files = inspection.inspect(
            fileset, queries.columns(), replacements=replacements, allow_empty=True
        )
        return {
            name: sum(file.events for file in files if file.dataset == name) for name in fileset
        }
    # A deployment may have files that this machine cannot open.
    counts = {}
    for name, dataset in fileset.items():
        if "nevts" not in dataset["metadata"]:
            msg = (
                f"{name} has no nevts in its metadata: give the number of events in its files, "
                "which delivered files do not tell"
            )
            raise InputError(msg)
        counts[name] = int(dataset["metadata"]["nevts"])
    return counts


def _titles(fileset: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Data set and tree by title of the request: distinct titles, whatever the names."""
    titles: dict[str, tuple[str, str]] = {}
    for name, dataset in fileset.items():
        trees = sorted(set(dataset["files"].values()))
        for tree in trees:
            title = name if len(trees) == 1 else f"{name}, {tree}"
            while title in titles:
                title += "_"
            titles[title] = (name, tree)
    return titles


def _folders(names: Iterable[str]) -> dict[str, str]:
    """Folder name of each data set: distinct and valid, whatever the names."""
    folders: dict[str, str] = {}
    for name in names:
        folder = re.sub(r"[^\w.+-]", "_", name).lstrip(".") or "_"
        while folder in folders.values():
            folder += "_"
        folders[name] = folder
    return folders


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).absolute())


def _allowed(paths: list[str]) -> list[str]:
    """Folders and servers that a local endpoint must be allowed to read for these paths."""
    allowed = set()
    for path in paths:
        scheme, separator, rest = path.partition("://")
        if separator and scheme != "file":
            allowed.add(f"{scheme}://{rest.partition('/')[0]}/")
        else:
            # Of a link the folder of its target, which is what is read.
            allowed.add(str(Path(rest if separator else path).resolve().parent))
    return sorted(allowed)


def _placed(delivered: Delivered, folder: Path, start: int, suffix: str) -> Iterator[Path]:
    """Put delivered files under short names into a folder, as hard links where possible."""
    for number, source in enumerate(delivered.files, start):
        target = folder / f"{number}{suffix}"
        if suffix != PARQUET or not _without_treename(source, target):
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)
        yield target.absolute()


def _without_treename(source: Path, target: Path) -> bool:
    """Copy a Parquet file without its tree name, which is text: coffea cannot read text.

    False, and no copy, if it has none.
    """
    with pq.ParquetFile(source) as file:
        names = [name for name in file.schema_arrow.names if name != TREENAME]
        if len(names) == len(file.schema_arrow.names):
            return False
        schema = pa.schema([file.schema_arrow.field(name) for name in names])
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for group in range(file.num_row_groups):
                writer.write_table(file.read_row_group(group, columns=names).cast(schema))
    return True
