"""What every worker process is given, whichever engine starts it."""

from __future__ import annotations

import gc
import os
import warnings
from typing import TYPE_CHECKING, Final

from analysis.allocator import ALLOCATOR

if TYPE_CHECKING:
    from collections.abc import Mapping

FREEZE: Final = "COFFEA_SCALING_FREEZE"
"""Environment variable of a worker; 0 leaves out `gc.freeze`."""

HASH_SEED: Final = "6640"
"""PYTHONHASHSEED of all workers, so that what is made from a set has the same order in each: axes
of histograms above all, which could otherwise not be merged. It is the one that Dask gives its
workers, on a user's own cluster too."""


def environment(more: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Environment variables of a worker process: ours, and over them the user's; None removes."""
    given = {**ALLOCATOR, "PYTHONHASHSEED": HASH_SEED, **(more or {})}
    return {name: value for name, value in given.items() if value is not None}


def stock_environment(more: Mapping[str, str | None]) -> dict[str, str]:
    """The same for coffea's own executor, whose workers have the default allocator."""
    return environment({**dict.fromkeys((*ALLOCATOR, "PYTHONHASHSEED")), **more})


def warm() -> None:
    """Import what every chunk needs, and keep it out of garbage collections.

    A collection looks at every live object: with the analysis imported, 0.1 s and more. Warnings
    are off: they would reach the user's terminal from every worker.
    """
    warnings.simplefilter("ignore")
    import analysis.adl  # noqa: PLC0415
    import analysis.ttbar  # noqa: F401, PLC0415

    gc.collect()
    if os.environ.get(FREEZE) != "0":
        gc.freeze()
