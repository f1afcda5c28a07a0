"""A function of many items on threads of `coffea.compute`, and the sum of what it returns.

coffea.compute is in coffea's branch of that name and in no release. It needs no other part of
coffea: a folder that has it, and nothing else, can be put into a coffea that has it not. The
history runs this module in environments of any coffea, so it imports nothing of this project.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import coffea

FOLDER: Final = "COFFEA_SCALING_COMPUTE"
"""Environment variable that names a folder whose `compute` is coffea.compute."""

# Before what is imported of it.
if _named := os.environ.get(FOLDER):
    coffea.__path__.insert(0, _named)

from coffea.compute.backends.threaded import ThreadedBackend
from coffea.compute.errors import ErrorPolicy
from coffea.compute.protocol import WorkElement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True)
class _Sum:
    """A result that can be added, as coffea.compute wants it."""

    value: Any
    add: Callable[[Any, Any], Any]

    def __add__(self, other: _Sum) -> _Sum:
        return _Sum(self.add(self.value, other.value), self.add)


@dataclass(frozen=True)
class _Step:
    """An item, by its number among all: input of a step."""

    start: int
    item: Any

    @property
    def stop(self) -> int:
        return self.start + 1

    def __len__(self) -> int:
        return 1

    def load(self) -> Any:
        return self.item


@dataclass(frozen=True)
class _Work:
    """All items: a Computable."""

    function: Callable[[Any], Any]
    items: Sequence[Any]
    add: Callable[[Any, Any], Any]
    key: str = "coffea-scaling"

    def __len__(self) -> int:
        return len(self.items)

    def gen_steps(self) -> Iterator[WorkElement[_Sum]]:
        """Steps in their order; a generator, to which the backend may send a size in vain."""
        for number, item in enumerate(self.items):
            yield WorkElement(self.process, _Step(number, item))

    def process(self, item: Any) -> _Sum:
        """Call the function on an item."""
        return _Sum(self.function(item), self.add)


def threads(workers: int) -> ThreadedBackend:
    """A backend that processes so many items at a time, for as long as it is entered."""
    # One thread is at work on nothing but handing out steps: with one in all, none would be
    # processed, and the computation would not end.
    pool = partial(ThreadPoolExecutor, workers + 1)
    return ThreadedBackend(pool, cancel_on_exit=True)


def total(
    backend: Any,
    function: Callable[[Any], Any],
    items: Sequence[Any],
    add: Callable[[Any, Any], Any],
    merge_every: int,
) -> Any:
    """What a function returns of items, of which there must be one, added up two at a time.

    The first exception ends the computation, and is raised.
    """
    policy = ErrorPolicy(cancel_on=(Exception,))
    work = _Work(function, items, add)
    task = backend.compute(work, error_policy=policy, merge_every=merge_every)
    try:
        task.wait()
        return task.result().value
    except RuntimeError as error:
        raise error.__cause__ or error from None
    except BaseException:
        task.cancel()
        raise
