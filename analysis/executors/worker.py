"""What every worker process is given, whichever engine starts it."""

from __future__ import annotations

import gc
from typing import Final

ALLOCATOR: Final[dict[str, str]] = {}
"""Environment variables that set glibc's allocator; it reads them when a process starts."""


def warm() -> None:
    """Import what every chunk needs, and keep it out of garbage collections.

    A collection looks at every object that lives: with the analysis imported, 0.1 s and more.
    """
    import analysis.adl  # noqa: PLC0415
    import analysis.ttbar  # noqa: F401, PLC0415

    gc.collect()
    gc.freeze()
