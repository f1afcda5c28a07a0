"""The digest of a result, by which records say that results are equal."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from perf.records.plain import Histogram, Rows, State, awkward_parts, is_a, plain

if TYPE_CHECKING:
    from collections.abc import Callable


def result_digest(result: Any) -> str:
    """Hexadecimal SHA-256 of a result: the same for equal content, to the last bit.

    Neither memory layout, byte order, the order of a dict nor that in which a growing axis met its
    categories changes it. TypeError for a result that has no such identity: an object of any class
    but numbers, text, lists, dicts, numpy and awkward arrays and histograms.
    """
    total = hashlib.sha256()
    _feed(total.update, result)
    return total.hexdigest()


def _feed(update: Callable[[bytes], None], result: Any) -> None:
    match plain(result):
        case dict() as content:
            update(f"dict {len(content)}\n".encode())
            for key in sorted(content, key=repr):
                update(f"{key!r}\n".encode())
                _feed(update, content[key])
        case Histogram() as content:
            _feed(update, {**content._asdict(), "axes": list(content.axes)})
        case Rows() | State() | set():
            msg = f"a {type(result).__name__} has no digest"
            raise TypeError(msg)
        case list() | tuple():
            update(f"list {len(result)}\n".encode())
            for entry in result:
                _feed(update, entry)
        case np.ndarray() if result.dtype.names:
            _feed(
                update, {name: np.ascontiguousarray(result[name]) for name in result.dtype.names}
            )
        case np.ndarray() if result.dtype.kind in "biufc":
            little = np.ascontiguousarray(result, result.dtype.newbyteorder("<"))
            update(f"array {little.dtype.str} {little.shape}\n".encode())
            update(little.tobytes())
        case bool() | int() | float() | str() | bytes() | None | np.generic():
            update(f"{type(result).__name__} {result!r}\n".encode())
        case _ if is_a(result, "awkward", "Array"):
            _feed(update, awkward_parts(result))
        case _:
            msg = f"a {type(result).__name__} has no digest"
            raise TypeError(msg)
