"""Shapes of inputs: so many files of so many events each, made of one file set without copying.

A law of what a run costs needs inputs that differ. Files are listed again under another data set if
there are too few, and cut by `steps`: neither changes what a chunk costs.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from analysis.errors import InputError
from analysis.files import output

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from analysis.runner.job import Inspected
    from perf.scaling.worker import Configuration


class Shape(NamedTuple):
    """An input: number of files, and of events in each."""

    files: int
    events: int

    def __str__(self) -> str:
        return f"{self.files}x{self.events}"


def parse(texts: Sequence[str]) -> list[Shape]:
    """Shapes of texts such as ``16x250000``."""
    shapes = []
    for text in texts:
        files, _, events = text.partition("x")
        if not (files.isdecimal() and events.isdecimal() and int(files) and int(events)):
            msg = f"--shapes must be FILESxEVENTS with commas between them, as 16x250000: got {text!r}"
            raise InputError(msg)
        shapes.append(Shape(int(files), int(events)))
    return list(dict.fromkeys(shapes))


def for_each_worker(
    text: str, configurations: Sequence[Configuration]
) -> list[tuple[Shape | None, Configuration]]:
    """The input of each configuration, if one worker has that of `text`: as many files times workers."""
    shapes = parse([text])
    return [
        (shape._replace(files=shape.files * one.workers), one)
        for shape in shapes
        for one in configurations
    ]


def write(inspected: Inspected, shape: Shape, path: Path) -> Path:
    """Write a file set of this shape, of the files that have enough events.

    Raises
    ------
    InputError
        If none has.
    """
    files = [file for file in inspected.files if file.events >= shape.events]
    if not files:
        msg = f"no file has {shape.events:,} events: take smaller ones with --shapes"
        raise InputError(msg)
    fileset: dict[str, dict[str, dict[str, object]]] = {}
    for number in range(shape.files):
        again, index = divmod(number, len(files))
        file = files[index]
        dataset = fileset.setdefault(
            f"{file.dataset}, again {again}" if again else file.dataset,
            {"files": {}, "metadata": dict(inspected.job.fileset[file.dataset]["metadata"])},
        )
        steps = [[0, shape.events]]
        dataset["files"][file.path] = {"object_path": file.tree, "steps": steps}
    path.parent.mkdir(parents=True, exist_ok=True)
    with output.whole(path) as part:
        part.write_text(json.dumps(fileset))
    return path


def sample(
    shapes: Sequence[Shape | None], configurations: Sequence[Configuration], count: int, seed: int
) -> list[tuple[Shape | None, Configuration]]:
    """So many pairs of each executor, with every shape, chunk size and number of workers in turn.

    Chunk sizes that make the same chunks of a shape are one.
    """
    rng = random.Random(seed)
    chosen: list[tuple[Shape | None, Configuration]] = []
    for engine in dict.fromkeys(one.engine for one in configurations):
        members = [one for one in configurations if one.engine == engine]
        every = itertools.product(shapes, members)
        pairs = list({(shape, _same(shape, one)): (shape, one) for shape, one in every}.values())
        rng.shuffle(pairs)
        used: Counter[object] = Counter()
        for _ in range(min(count, len(pairs))):
            # What was taken least often, of each of the three.
            pair = min(pairs, key=lambda pair: sum(used[level] for level in _levels(*pair)))
            pairs.remove(pair)
            used.update(_levels(*pair))
            chosen.append(pair)
    return chosen


def _same(shape: Shape | None, configuration: Configuration) -> str:
    """What pairs that are run in the same way have in common, beside the shape."""
    if shape is None:
        return str(configuration)
    parts = max(1, round(shape.events / configuration.chunksize))
    return str(configuration.model_copy(update={"chunksize": parts}))


def _levels(shape: Shape | None, configuration: Configuration) -> tuple[object, ...]:
    return shape, ("workers", configuration.workers), ("chunksize", configuration.chunksize)
