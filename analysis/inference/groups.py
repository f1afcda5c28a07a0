"""Which parameters can be moved at once, so that derivatives need few predictions.

Each ``staterror`` parameter scales one bin, and a model has one for most bins. One prediction in
which all of them are moved tells what each does: 13 instead of 34 for the model of this analysis.

Curtis, Powell and Reid, IMA J. Appl. Math. 13 (1974) 117.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyhf

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Groups(NamedTuple):
    """Groups of the parameters of a model."""

    members: tuple[NDArray[np.intp], ...]
    """Indices of parameters, no two of which change the same expected number."""
    changes: NDArray[np.bool_]
    """Parameters x expected data, auxiliary data included: False where one never changes the other."""


_KNOWN: Final[WeakKeyDictionary[Any, Groups]] = WeakKeyDictionary()


def groups(pdf: Any) -> Groups:
    """Group the parameters of pyhf's model."""
    if pdf not in _KNOWN:
        _KNOWN[pdf] = _find(pdf)
    return _KNOWN[pdf]


def _find(pdf: Any) -> Groups:
    nominal = np.array(pdf.config.suggested_init(), dtype=float)

    def expected(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        tensor = pyhf.tensorlib.astensor(parameters.tolist())
        return np.asarray(pyhf.tensorlib.to_numpy(pdf.expected_data(tensor)))

    here = expected(nominal)
    changes = np.ones((len(nominal), len(here)), dtype=bool)
    for name, kind in pdf.config.modifiers:
        if kind == "staterror":
            for index in range(len(nominal))[pdf.config.par_slice(name)]:
                changed = (
                    expected(np.where(np.arange(len(nominal)) == index, 1.1, nominal)) != here
                )
                # In a bin of which nothing is expected here, it may change something elsewhere.
                if np.count_nonzero(changed[: pdf.config.nmaindata]) == 1:
                    changes[index] = changed
    members: list[list[int]] = []
    for index, changed in enumerate(changes):
        for group in members:
            if not changes[group][:, changed].any():
                group.append(index)
                break
        else:
            members.append([index])
    return Groups(tuple(map(np.array, members)), changes)
