"""The stages of an analysis, one after the other; what is done already is not done again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pydantic

from analysis.errors import InputError
from analysis.files.output import whole
from analysis.folders import alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

STATE: Final = "stages.json"
"""File that says which stages of a folder are done."""


@dataclass(frozen=True)
class Stage:
    """A step of an analysis.

    Attributes
    ----------
    name
        What it makes.
    act
        Makes it, and gives the files that it is in.
    about
        All that decides what is in them, besides the stages before it. JSON can hold it.
    """

    name: str
    act: Callable[[], Sequence[Path]]
    about: Mapping[str, Any] = field(default_factory=dict)


class Done(pydantic.BaseModel):
    """A stage that is done.

    Attributes
    ----------
    name
        Of the stage.
    key
        Of all that decided what it made.
    wall_seconds, cpu_seconds
        What it took; CPU time of this process and of those that it started and that ended.
    files
        What it made, by name: bytes, time of modification (ns) and inode.
    kept
        Whether that was in an earlier run.
    """

    name: str
    key: str
    wall_seconds: float
    cpu_seconds: float
    files: dict[str, tuple[int, int, int]]
    kept: bool = False

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(size for size, _, _ in self.files.values())


def advance(stages: Sequence[Stage], folder: Path) -> Iterator[Done]:
    """Do what is not done.

    A stage is done again if what decides it has changed, if one before it was done again, or if
    a file that it made is gone or was changed.

    Parameters
    ----------
    stages
        In their order.
    folder
        Where it is written down what is done, after each stage.

    Yields
    ------
    Done
        One for each stage, as it ends.

    Raises
    ------
    InputError
        If a stage does not make what it is to make, or another process is at work in the folder;
        and what stages raise.
    """
    with alone(folder):
        yield from _advance(stages, folder)


def _advance(stages: Sequence[Stage], folder: Path) -> Iterator[Done]:
    known = _read(folder / STATE)
    finished: list[Done] = []
    key = ""
    for stage in stages:
        key = _digest(key, stage)
        before = known.get(stage.name)
        if before is not None and before.key == key and before.files == _found(before.files):
            done = before.model_copy(update={"kept": True})
        else:
            known.clear()  # What comes after rests on what is made now.
            done = _do(stage, key)
        finished.append(done)
        _write(folder / STATE, finished)
        yield done


def _do(stage: Stage, key: str) -> Done:
    wall, cpu = time.perf_counter(), _cpu()
    made = [str(path) for path in stage.act()]
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    files = _found(made)
    if missing := [path for path in made if path not in files]:
        msg = f"the stage {stage.name} did not make {' and '.join(missing)}: run it again"
        raise InputError(msg)
    return Done(name=stage.name, key=key, wall_seconds=wall, cpu_seconds=cpu, files=files)


def _digest(before: str, stage: Stage) -> str:
    text = json.dumps([before, stage.name, stage.about], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _found(paths: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    found = {path: Path(path).stat() for path in paths if Path(path).is_file()}
    return {path: (one.st_size, one.st_mtime_ns, one.st_ino) for path, one in found.items()}


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _read(path: Path) -> dict[str, Done]:
    try:
        rows = json.loads(path.read_text())
        return {one.name: one for one in map(Done.model_validate, rows)}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        msg = f"{path} is damaged, remove it to do all stages again: {error}"
        raise InputError(" ".join(msg.split())) from error


def _write(path: Path, finished: Sequence[Done]) -> None:
    """So that it is there whole, whenever this is interrupted."""
    with whole(path) as part:
        rows = [one.model_dump(exclude={"kept"}) for one in finished]
        part.write_text(json.dumps(rows, indent=1))
