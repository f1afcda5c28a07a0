"""Histograms on disk: plain JSON, UHI JSON, ROOT and coffea's format, by the end of the file name.

Each holds the same, under the names that the AGC publishes: sums of weights and of squared
weights with underflow and overflow, of all events and of each channel, and the run's provenance.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import hist
import numpy as np
import pydantic
import uhi.io.json

from analysis.errors import InputError, brief
from analysis.files import output
from analysis.files.output import is_stream, whole
from analysis.histograms import (
    CHANNELS,
    PSEUDODATA,
    REGIONS,
    Name,
    known_names,
    numbers,
    plain,
)
from analysis.samples import CROSS_SECTIONS, NOMINAL

# What takes long to import is imported for the formats that need it.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

HISTOGRAMS: Final = "histograms"

_OF_HISTOGRAMS: Final = ("hist", "boost_histogram")
"""Packages, whose classes are in a file of coffea's format."""
_OF_ARRAYS: Final = ("dtype", "ndarray", "_frombuffer", "_reconstruct")
"""Of numpy's, beside them."""


def write(
    path: Path, histograms: Mapping[str, hist.Hist], about: Mapping[str, Any] | None = None
) -> None:
    """Write histograms, so that the file is there whole or not at all.

    Parameters
    ----------
    path
        ``.json``: numbers, as of `histograms.plain`. ``.uhi.json``: by name, a histogram of axes
        channel and observable in UHI's serialisation, which hist and boost-histogram read.
        ``.root``: a TH1D of the observable by name, and of each channel in a folder of its name.
        ``.coffea``: by name, as ``coffea.util.load`` reads them.
    histograms
        As of `histograms.named`.
    about
        More to write beside them, that JSON can hold; a TObjString each in ROOT. `read` takes
        ``names`` from it (as of `histograms.names`) and ``data``, the processes of real data.

    Raises
    ------
    InputError
        If the name has another end, or the file cannot be written.
    """
    wanted = _format(path)
    with whole(path) as part:
        wanted.write(part, histograms, about or {})


class Histogram(pydantic.BaseModel):
    """Contents of one histogram, with or without underflow and overflow."""

    edges: list[float] = pydantic.Field(min_length=2)
    values: list[float] = pydantic.Field(
        validation_alias=pydantic.AliasChoices("values", "contents")
    )
    variances: list[float] | None = None


class _Content(pydantic.BaseModel):
    """What is read of a file; other content is passed on."""

    histograms: dict[str, Histogram] = pydantic.Field(min_length=1)
    channels: dict[str, dict[str, Histogram]] = {}
    names: dict[str, Name] | None = None
    data: list[str] = []


@dataclass(frozen=True, eq=False)
class Run:
    """The histograms of a run."""

    source: str
    """Name of the file, for messages."""
    histograms: Mapping[Name, Histogram]
    """Of all events."""
    channels: Mapping[str, Mapping[Name, Histogram]]
    """Of each channel; empty for published histograms."""
    data: str
    """Process that is taken for data."""
    processes: tuple[str, ...]
    """Predicted processes, without real data and pseudodata: the AGC's five, then others by name."""
    content: Mapping[str, Any]
    """All content of the JSON format: `histograms.plain`, and what was written beside it."""


def read(path: Path, data: str = PSEUDODATA) -> Run:
    """Read histograms that `write` wrote, in any of its formats, or that the AGC published.

    Parameters
    ----------
    path
        The file.
    data
        Process that is taken for data.

    Raises
    ------
    InputError
        If there is no such file or it holds something else, or `data` is a prediction.
    """
    wanted = _format(path)
    try:
        content = wanted.read(path)
    except FileNotFoundError:
        msg = f"there is no {path}: write it with `python -m analysis run FILESET.json -o {path}`"
        raise InputError(msg) from None
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:  # Others are of the content.
            msg = f"{path} cannot be read: {error.strerror}"
            raise InputError(msg) from None
        msg = f"{path} does not hold the histograms of a run, make it anew: {brief(error)}"
        raise InputError(msg) from error
    return parse(content, str(path), data)


def parse(content: Any, source: str, data: str = PSEUDODATA) -> Run:
    """As `read`, for the content of a file."""
    # Published histograms are at the top level.
    if isinstance(content, dict) and HISTOGRAMS not in content:
        content = {HISTOGRAMS: content}
    try:
        parsed = _Content.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        msg = f"{source} does not hold the histograms of a run: at {where}: {first['msg']}"
        raise InputError(msg) from None
    names = parsed.names
    if names is None:
        # Without names, these are published histograms and the data.
        names = known_names()
        names |= {name.published: name for name in (Name(r, data, NOMINAL) for r in REGIONS)}
    if unknown := parsed.histograms.keys() - names.keys():
        msg = (
            f"{source} does not say which process {min(unknown)} is of: make it anew with "
            "`python -m analysis run`, or take it out"
        )
        raise InputError(msg)
    every = {names[name].process for name in parsed.histograms}
    predicted = every - {PSEUDODATA, *parsed.data, data}
    if data in CROSS_SECTIONS:
        msg = f"{data} is a process that the model predicts: name another as --data"
        raise InputError(msg)
    return Run(
        source,
        {names[name]: histogram for name, histogram in parsed.histograms.items()},
        {
            channel: {names[name]: histogram for name, histogram in of.items() if name in names}
            for channel, of in parsed.channels.items()
        },
        data,
        in_order(predicted),
        content,
    )


def in_order(processes: Collection[str]) -> tuple[str, ...]:
    """The AGC's processes in its order, then others by name."""
    return tuple(
        sorted(sorted(processes), key=lambda process: (*CROSS_SECTIONS, process).index(process))
    )


def inside(
    source: str, name: Name, what: str, given: Sequence[float], bins: int
) -> NDArray[np.float64]:
    """Contents of a histogram without underflow and overflow.

    InputError says that one is negative or not finite, or that there are not as many as bins.
    """
    where = f"{source}: {name.published}"
    contents = np.array(given, dtype=np.float64)
    if len(contents) == bins + 2:
        contents = contents[1:-1]
    if len(contents) != bins:
        msg = f"{where} has {len(given)} {what} for {bins} bins: with flow there are {bins + 2}"
        raise InputError(msg)
    for wrong, kind in ((~np.isfinite(contents), "not finite"), (contents < 0, "negative")):
        if wrong.any():
            number = int(np.flatnonzero(wrong)[0])
            msg = (
                f"{where} is {kind} in bin {number + 1} of {bins} ({what}: {contents[number]}): "
                "look for what weights its events so"
            )
            raise InputError(msg)
    return contents


def check(path: Path, names: Collection[str] = ()) -> None:
    """Raise InputError unless `write` can write histograms of these names to a file."""
    if _format(path).write is _write_root:
        for name in names:
            if {"/", ";"} & set(name):
                msg = (
                    f"{path}: a ROOT file has no histogram {name}, since / and ; are not part of "
                    "names there: write .json, .uhi.json or .coffea, or rename the process"
                )
                raise InputError(msg)
    output.check(path)


def _write_json(path: Path, histograms: Mapping[str, hist.Hist], about: Mapping[str, Any]) -> None:
    path.write_text(json.dumps({**about, **plain(histograms)}, indent=1) + "\n")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _write_uhi(path: Path, histograms: Mapping[str, hist.Hist], about: Mapping[str, Any]) -> None:
    content = {**about, HISTOGRAMS: dict(histograms)}
    path.write_text(json.dumps(content, default=uhi.io.json.default) + "\n")


def _read_uhi(path: Path) -> Any:
    content = json.loads(path.read_bytes(), object_hook=uhi.io.json.object_hook)
    return content | plain(
        {name: hist.Hist(histogram) for name, histogram in content[HISTOGRAMS].items()}
    )


def _write_root(path: Path, histograms: Mapping[str, hist.Hist], about: Mapping[str, Any]) -> None:
    import uproot

    with uproot.recreate(path) as file:
        for name, histogram in histograms.items():
            file[name] = histogram[{"channel": sum}]
            for channel in CHANNELS:
                file[f"{channel}/{name}"] = histogram[{"channel": channel}]
        for name, content in about.items():
            file[name] = json.dumps(content)


def _read_root(path: Path) -> Any:
    import uproot

    content: dict[str, Any] = {HISTOGRAMS: {}, "channels": {name: {} for name in CHANNELS}}
    with uproot.open({path: None}) as file:
        for key, kind in file.classnames(cycle=False).items():
            folder, _, name = key.rpartition("/")
            if kind.startswith("TH1"):
                into = content["channels"][folder] if folder else content[HISTOGRAMS]
                into[name] = numbers(file[key].to_hist())
            elif kind == "TObjString":
                content[name] = json.loads(str(file[key]))
    return content


def _write_coffea(
    path: Path, histograms: Mapping[str, hist.Hist], about: Mapping[str, Any]
) -> None:
    import coffea.util

    coffea.util.save({**about, HISTOGRAMS: dict(histograms)}, str(path))


def _read_coffea(path: Path) -> Any:
    import lz4.frame

    with lz4.frame.open(path) as file:
        content = _Unpickler(file).load()
    return content | plain(content[HISTOGRAMS])


class _Unpickler(pickle.Unpickler):
    """Reads histograms and no other objects: an ordinary pickle can run any code."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of this name, if it is one that histograms are made of."""
        if module.partition(".")[0] == "numpy" and name in _OF_ARRAYS:
            return super().find_class(module, name)
        if module.partition(".")[0] in _OF_HISTOGRAMS:
            found = super().find_class(module, name)
            # Not what such a module has imported.
            if isinstance(found, type) and found.__module__.partition(".")[0] in _OF_HISTOGRAMS:
                return found
        msg = f"it has a {module}.{name} in it, and histograms need none"
        raise pickle.UnpicklingError(msg)


class _Format(NamedTuple):
    """Writer and reader of one format."""

    write: Callable[[Path, Mapping[str, hist.Hist], Mapping[str, Any]], None]
    read: Callable[[Path], Any]


_FORMATS: Final = {
    ".uhi.json": _Format(_write_uhi, _read_uhi),
    ".json": _Format(_write_json, _read_json),
    ".root": _Format(_write_root, _read_root),
    ".coffea": _Format(_write_coffea, _read_coffea),
}
"""By the end of the file name; the first match counts."""


def _format(path: Path) -> _Format:
    if is_stream(path):  # /dev/stdout has no end of a name.
        return _FORMATS[".json"]
    for end, format_ in _FORMATS.items():
        if path.name.endswith(end):
            return format_
    msg = f"{path}: histograms are kept in files that end in {', '.join(_FORMATS)}: name it so"
    raise InputError(msg)
