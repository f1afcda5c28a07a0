"""Histograms on disk: plain JSON, UHI JSON, ROOT and coffea's format.

The end of the file's name says which. Each holds the same, under the names that the AGC
publishes: the sums of weights and of squared weights with underflow and overflow, of all events
and of each channel, and beside them what the run says of itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import hist
import uhi.io.json

from analysis import output
from analysis.errors import InputError
from analysis.histograms import CHANNELS, numbers, plain
from analysis.output import is_stream, whole

# What takes long to import is imported for the formats that need it.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HISTOGRAMS: Final = "histograms"


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
        More to write beside them, that JSON can hold; a TObjString each in ROOT.

    Raises
    ------
    InputError
        If the name has another end, or the file cannot be written.
    """
    wanted = _format(path)
    with whole(path) as part:
        wanted.write(part, histograms, about or {})


def read(path: Path) -> dict[str, Any]:
    """Read histograms that `write` wrote, in any of its formats.

    Parameters
    ----------
    path
        The file; one of coffea's format can run code as it is read, as any pickle can.

    Returns
    -------
    dict
        What the JSON format has: ``histograms`` and ``channels`` as of `histograms.plain`, and
        what was written beside them.

    Raises
    ------
    InputError
        If there is no such file or it holds something else.
    """
    wanted = _format(path)
    try:
        content = wanted.read(path)
        found, channels = content[HISTOGRAMS], content["channels"]
    except FileNotFoundError:
        msg = f"there is no {path}: write it with `python -m analysis run FILESET.json -o {path}`"
        raise InputError(msg) from None
    except Exception as error:
        msg = f"{path} does not hold the histograms of a run, make it anew: {_brief(error)}"
        raise InputError(msg) from error
    if not (found and channels):
        msg = f"{path} does not hold the histograms of a run: give the output of one"
        raise InputError(msg)
    return content  # type: ignore[no-any-return]


def check(path: Path) -> None:
    """Whether `write` can write a file, found out before the work.

    Raises
    ------
    InputError
        If the end of its name is that of no format, or as of `output.check`.
    """
    _format(path)
    output.check(path)


def _write_json(path: Path, histograms: Mapping[str, hist.Hist], about: Mapping[str, Any]) -> None:
    path.write_text(json.dumps({**about, **plain(histograms)}, indent=1) + "\n")


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def _write_uhi(path: Path, histograms: Mapping[str, hist.Hist], about: Mapping[str, Any]) -> None:
    content = {**about, HISTOGRAMS: dict(histograms)}
    path.write_text(json.dumps(content, default=uhi.io.json.default) + "\n")


def _read_uhi(path: Path) -> Any:
    content = json.loads(path.read_text(), object_hook=uhi.io.json.object_hook)
    return content | plain({name: hist.Hist(one) for name, one in content[HISTOGRAMS].items()})


def _write_root(path: Path, histograms: Mapping[str, hist.Hist], about: Mapping[str, Any]) -> None:
    import uproot

    with uproot.recreate(path) as file:
        for name, one in histograms.items():
            file[name] = one[{"channel": sum}]
            for channel in CHANNELS:
                file[f"{channel}/{name}"] = one[{"channel": channel}]
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
    import coffea.util

    content = coffea.util.load(str(path))
    return content | plain(content[HISTOGRAMS])


class _Format(NamedTuple):
    """How one format is written and read."""

    write: Callable[[Path, Mapping[str, hist.Hist], Mapping[str, Any]], None]
    read: Callable[[Path], Any]


_FORMATS: Final = {
    ".uhi.json": _Format(_write_uhi, _read_uhi),
    ".json": _Format(_write_json, _read_json),
    ".root": _Format(_write_root, _read_root),
    ".coffea": _Format(_write_coffea, _read_coffea),
}
"""By the end of a file's name; the first that fits."""


def _format(path: Path) -> _Format:
    if is_stream(path):  # /dev/stdout has no end of a name.
        return _FORMATS[".json"]
    for end, one in _FORMATS.items():
        if path.name.endswith(end):
            return one
    msg = f"{path}: histograms are kept in files that end in {', '.join(_FORMATS)}: name it so"
    raise InputError(msg)


def _brief(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]
