"""The command line of the analysis: ``python -m analysis`` and ``coffea-analysis``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from analysis import allocator, interruption

# Signals are heeded, and libraries find a home, before anything is imported that takes long.
# ruff: noqa: PLC0415


def main(*, alone: bool = False) -> None:
    """Run the command line and exit; an InputError is one sentence and exit status 2.

    A process that is `alone` the command, and can be started again, settles its allocator.
    """
    interruption.listen()
    if alone:
        allocator.settle()

    from analysis import folders

    folders.settle()

    from analysis.cli._app import app

    interruption.call(app)


def script() -> None:
    """As `main`, for ``coffea-analysis``, which works beside a user's own folder `analysis`.

    The user's modules are found in the working folder, as with ``python -m``, but after ours, in
    worker processes too.
    """
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    with suppress(FileNotFoundError):  # a folder that is gone
        sys.path.append(str(Path.cwd()))
    main(alone=True)


if __name__ == "__main__":
    main(alone=True)
