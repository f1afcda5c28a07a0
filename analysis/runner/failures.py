"""Errors of a run: one sentence that names the file, the events and the cause."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cloudpickle
import uproot
from coffea.nanoevents import mapping

from analysis.errors import (
    ChangedError,
    ChunkError,
    InputError,
    ProcessorError,
    UnreadableError,
    WorkerLostError,
    brief,
)
from analysis.files import baskets, bulk, inspection, kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coffea.processor.executor import WorkItem

    from analysis.runner.counting import Tally

READING: Final = str(Path(mapping.__file__).parent)
"""Code of coffea that reads columns of events, when the processor first uses them."""

AHEAD: Final = (str(Path(uproot.__file__).parent), bulk.__file__, baskets.__file__, kept.__file__)
"""Code that reads preloaded branches, when events are made."""

OURS: Final = frozenset(
    str(Path(__file__).with_name(f"{name}.py")) for name in ("chunks", "counting")
)
"""Code between coffea's Runner and the user's."""


def chunk_error(item: WorkItem, error: BaseException) -> ChunkError:
    """The error of a chunk that failed: reading or processor, in one sentence."""
    causes = list(_causes(error))
    if changed := next((cause for cause in causes if isinstance(cause, ChangedError)), None):
        return changed
    # coffea raises "Failed to open file", "Failed creating nanoevents" or "Failed processing
    # file" from the original error.
    opening = str(error).startswith("Failed to open")
    cause = causes[1] if len(causes) > 1 else error
    details = "".join(traceback.format_exception(cause))
    where = f"events {item.entrystart} to {item.entrystop}"
    if isinstance(cause, InputError):
        msg = f"{item.filename}: {where} could not be processed: {cause}"
        return ProcessorError(msg, details)
    if opening or any(_is_reading(other, str(error)) for other in causes[1:]):
        return UnreadableError(inspection.unreadable(item.filename, cause, where), details)
    line = _line_of(cause)
    said = f"{_described(cause)}{f' ({line})' if line else ''}"
    return ProcessorError(f"{item.filename}: {where} could not be processed: {said}", details)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _is_reading(error: BaseException, stage: str) -> bool:
    """Whether an exception was raised where coffea reads events, not in the user's code."""
    # The only code of the user's where events are made is the schema.
    place = AHEAD if stage.startswith("Failed creating") else READING
    return any(
        frame.filename.startswith(place) for frame in traceback.extract_tb(error.__traceback__)
    )


def _line_of(error: BaseException) -> str:
    """Line of the user's code that an exception came from: the last one outside of packages."""
    packages = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((*packages, "<")) and frame.filename not in OURS:
            return f"{Path(frame.filename).name}, line {frame.lineno}"
    return ""


def explain(error: Exception, tally: Tally, processor: Any) -> InputError:
    """The error that ends a run, in one sentence; with the results of a recoverable executor."""
    if isinstance(error, InputError):
        explained = error
    elif isinstance(error, WorkerLostError):
        explained = InputError(fatal(error, tally))
    else:
        explained = InputError(_reason(error, processor))
    if (partial := getattr(error, "partial_output", None)) is not None:
        explained.partial_output = partial["out"]  # type: ignore[attr-defined]
    return explained


def _reason(error: BaseException, processor: Any) -> str:
    """One sentence about an error of coffea or an engine, not of a chunk."""
    if "pickle" in str(error) and (attribute := unpicklable(processor)):
        return f"the processor cannot be sent to workers: {attribute}: make it in process()"
    return f"the run failed: {_described(error)}"


def _described(error: BaseException) -> str:
    name = type(error).__name__
    return f"{name}: {brief(error, 300)}" if str(error) else name


def unpicklable(processor: Any) -> str:
    """The first attribute of a processor that cannot be pickled, and why; empty if all can."""
    for name, value in getattr(processor, "__dict__", {}).items():
        try:
            cloudpickle.dumps(value)
        except Exception as error:  # noqa: BLE001  (whatever an object's own pickling raises)
            return f"its attribute {name} ({type(value).__name__}): {brief(error, 300)}"
    return ""


def fatal(error: WorkerLostError, tally: Tally) -> str:
    """One sentence about workers that died, which names the likely chunk."""
    suspects = tally.unfinished()
    if not suspects:
        return f"the run failed: {error}; no chunk was at work then, run it again"
    chunk, times = suspects[0]
    return (
        f"{chunk} could not be processed: {error}, {times} of them at this chunk; if memory is "
        "short ask for smaller chunks or fewer workers, else look for a crash in the processor"
    )
