"""Merging of results, with an error that names the entry which cannot be merged."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Self

from coffea.processor.accumulator import add, iadd

from analysis.errors import ProcessorError, brief

if TYPE_CHECKING:
    from collections.abc import Callable


class Output:
    """Accumulator of some chunks, which coffea adds up on any executor."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __add__(self, other: Output) -> Output:
        return Output(self._merged(add, other))

    def __iadd__(self, other: Output) -> Self:
        self.value = self._merged(iadd, other)
        return self

    def _merged(self, merge: Callable[[Any, Any], Any], other: Output) -> Any:
        try:
            return merge(self.value, other.value)
        except Exception as error:
            where = ".".join(map(str, conflict(self.value, other.value) or ()))
            msg = (
                f"what the processor gave of two chunks cannot be merged"
                f"{f' at {where}' if where else ''}, give the same kind for every chunk: {brief(error, 300)}"
            )
            raise ProcessorError(msg) from error


def conflict(left: Any, right: Any) -> tuple[Any, ...] | None:
    """Keys of the first entry that cannot be added; None if all can."""
    if isinstance(left, MutableMapping) and isinstance(right, MutableMapping):
        for key in left:
            if key in right and (below := conflict(left[key], right[key])) is not None:
                return (key, *below)
    try:
        add(left, right)
    except Exception:  # noqa: BLE001  (what users' accumulators raise)
        return ()
    return None
