"""Transform one file by one selection: read, cut, slim and write. Runs in a worker process.

uproot interprets uproot-raw, with the language and defaults that ServiceX documents. FuncADL is
translated by func_adl_uproot, ServiceX's own generator, and the generated code is executed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from urllib.parse import urljoin

import awkward as ak
import pyarrow as pa
import pyarrow.parquet as pq
import uproot

from analysis.files import remote
from analysis.servicex.selection import (
    AWKWARD_FUNCTIONS,
    AXIS_ONE,
    SelectionError,
    funcadl_query,
    raw_queries,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from analysis.servicex.allowed_paths import Roots

FUNCADL_TREE: Final = "servicex"
"""Name that ServiceX gives the tree of a FuncADL query in ROOT files."""

BATCH_BYTES: Final = 100_000_000
"""Approximate memory of the columns of a batch of events."""

COMPRESSION: Final = uproot.ZSTD(1)

PATTERN: Final = re.compile(r"[*?\[\]]|^/.*/[a-z]*$")
"""A filter that may match nothing: a glob, or a regular expression between slashes."""


class Piece(NamedTuple):
    """Events of an output tree, or an object to copy."""

    name: str
    content: Any
    is_tree: bool = True


class Writer(Protocol):
    """Takes the pieces of one output file."""

    def write(self, piece: Piece) -> None:
        """Append events, or copy an object."""

    def close(self) -> None:
        """Finish the file."""


def check(codegen: str, selection: str) -> None:
    """Raise SelectionError if a selection cannot be run."""
    if codegen == "uproot-raw":
        raw_queries(selection)
    else:
        generated(selection)


def transform(codegen: str, selection: str, source: str, target: Path, result_format: str) -> int:
    """Apply a selection to a ROOT file (path or URL), and write the result to `target`.

    `codegen` and `result_format` are as in `messages.Submission`. Returns the number of events
    written, over all trees.
    """
    if codegen == "uproot-raw":
        pieces = read_raw(raw_queries(selection), source)
    else:
        pieces = read_funcadl(selection, source)
    writer: Writer = (
        ParquetWriter(target, add_treename=codegen == "uproot-raw")
        if result_format == "parquet"
        else RootWriter(target, rntuple=result_format == "root-rntuple")
    )
    events = 0
    try:
        for piece in pieces:
            events += len(piece.content) if piece.is_tree else 0
            writer.write(piece)
    finally:
        writer.close()
    return events


# --- reading


def confine(roots: Roots) -> None:
    """Follow no redirection of a server to files outside the roots, in this process.

    XRootD's client does not tell where it is redirected, so it follows none.
    """
    if not roots.urls or roots.follow:
        return
    os.environ["XRD_REDIRECTLIMIT"] = "0"
    import aiohttp  # noqa: PLC0415  (needed only here)
    import fsspec  # noqa: PLC0415

    async def look(_session: Any, _context: Any, asked: Any) -> None:
        roots.resolve(urljoin(str(asked.url), asked.response.headers["Location"]))

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(look)

    async def client(**options: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(**options, trace_configs=[trace])

    for protocol in ("http", "https"):
        fsspec.config.conf[protocol] = {"get_client": client}


def read_raw(queries: list[dict[str, Any]], source: str) -> Iterator[Piece]:
    """Events that queries of uproot-raw select, in batches."""
    with uproot.open({source: None}, **remote.options([source], remote.TIMEOUT)) as file:
        for query in queries:
            if names := query.get("copy_histograms"):
                for key in file.keys(filter_name=names, cycle=False):
                    yield Piece(key, file[key], is_tree=False)
                continue
            for name, output in query["treename"].items():
                try:
                    tree = file[name]
                except uproot.KeyInFileError:
                    if query.get("fail_on_missing_trees"):
                        msg = f"there is no tree {name}"
                        raise SelectionError(msg) from None
                    continue
                for batch in _batches(tree, query):
                    yield Piece(output, batch)


def _batches(tree: Any, query: Mapping[str, Any]) -> Iterator[ak.Array]:
    options = {
        key: query[key]
        for key in ("expressions", "cut", "filter_name", "filter_typename", "aliases")
        if key in query
    }
    for name in options.get("filter_name", ()):
        # uproot ignores a filter that matches nothing; a branch given by name must exist.
        if not PATTERN.search(name) and name not in tree:
            msg = f"there is no branch {name} in the tree {tree.name}"
            raise SelectionError(msg)
    options["language"] = _language(standard_axis=bool(query.get("use_standard_awkward_axis")))
    filters = {key: options[key] for key in options if key.startswith("filter")}
    # A number of events: given bytes, uproot cannot read by root:// (it passes numpy integers to
    # XRootD).
    step = max(1, int(tree.num_entries_for(BATCH_BYTES, **filters))) if tree.num_entries else 1
    some = False
    for batch in tree.iterate(step_size=step, **options):
        some = True
        yield batch
    # Without any event that passes there is still a tree with these columns.
    if not some:
        options.pop("cut", None)
        yield tree.arrays(entry_stop=0, **options)


def _language(*, standard_axis: bool) -> uproot.language.python.PythonLanguage:
    functions = {name: getattr(ak, name) for name in AWKWARD_FUNCTIONS}
    if not standard_axis:
        functions |= {name: _with_axis(functions[name], 1) for name in AXIS_ONE}
        functions["flatten"] = _with_axis(ak.flatten, 2)
    return uproot.language.python.PythonLanguage(
        {**uproot.language.python.PythonLanguage.default_functions, **functions}
    )


def _with_axis(function: Callable[..., Any], axis: int) -> Callable[..., Any]:
    def within_events(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **{"axis": axis, **keywords})

    return within_events


def generated(selection: str) -> str:
    """Source that func_adl_uproot generates for a selection, which is checked first."""
    from func_adl_uproot.translation import generate_python_source  # noqa: PLC0415

    tree = funcadl_query(selection)
    try:
        return str(generate_python_source(tree))
    except Exception as error:  # noqa: BLE001  (the generator raises anything)
        msg = f"FuncADL cannot be translated: {type(error).__name__}: {error}"
        raise SelectionError(msg) from None


def read_funcadl(selection: str, source: str) -> Iterator[Piece]:
    """Events that a FuncADL query selects."""
    import dask  # noqa: PLC0415  (not for uproot-raw)

    names: dict[str, Any] = {}
    exec(compile(generated(selection), "<func_adl_uproot>", "exec"), names)  # noqa: S102
    with dask.config.set(scheduler="synchronous"):
        events = names["run_query"](source)
    if not isinstance(events, ak.Array):
        msg = f"the query gives {type(events).__name__}, not a column for each event"
        raise SelectionError(msg)
    yield Piece(FUNCADL_TREE, events)


# --- writing


def columns(events: ak.Array) -> dict[str, ak.Array]:
    """Columns by name; an array without fields is one column without a name."""
    return {name: events[name] for name in events.fields} or {"": events}


class RootWriter:
    """ROOT files: TTrees or RNTuples."""

    def __init__(self, target: Path, *, rntuple: bool) -> None:
        # As a file object: uproot takes a colon in a name for a path inside the file.
        self._raw = target.open("w+b")
        self._file = uproot.recreate(self._raw, compression=COMPRESSION)
        self._rntuple = rntuple
        self._trees: dict[str, Any] = {}

    def write(self, piece: Piece) -> None:
        """Append events, or copy an object."""
        if not piece.is_tree:
            self._file[piece.name] = piece.content
            return
        batch = columns(ak.to_packed(piece.content))
        first = piece.name not in self._trees
        if self._rntuple:
            batch = {name or "value": column for name, column in batch.items()}
            table = ak.zip(batch, depth_limit=1)
            if first:
                self._trees[piece.name] = self._file.mkrntuple(piece.name, table.layout.form)
            self._trees[piece.name].extend(table)
            return
        if first:
            # `file[name] = {...}` would write an RNTuple.
            types = {name: column.type.content for name, column in batch.items()}
            self._trees[piece.name] = self._file.mktree(piece.name, types)
        if len(piece.content):
            self._trees[piece.name].extend(batch)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
        self._raw.close()


class ParquetWriter:
    """Parquet: one table for all trees, which must have the same columns."""

    def __init__(self, target: Path, *, add_treename: bool) -> None:
        self._target = target
        self._add_treename = add_treename
        self._writer: pq.ParquetWriter | None = None

    def write(self, piece: Piece) -> None:
        """Append events."""
        if not piece.is_tree:
            msg = "Cannot store histograms in a non-ROOT return file format"
            raise SelectionError(msg)
        events = piece.content
        table = ak.to_arrow_table(
            events if events.fields else ak.zip({"": events}, depth_limit=1), extensionarray=False
        )
        if self._add_treename:
            names = pa.array([piece.name] * len(table), pa.string())
            table = table.append_column("treename", names)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._target, table.schema, compression="zstd")
        try:
            self._writer.write_table(table)
        except ValueError:
            msg = "the trees have different columns, which do not fit into one Parquet file"
            raise SelectionError(msg) from None

    def close(self) -> None:
        """Finish the file."""
        if self._writer is None:
            pq.write_table(pa.table({}), self._target)
        else:
            self._writer.close()
