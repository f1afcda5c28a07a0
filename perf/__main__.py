"""The command line of the suite: ``python -m perf`` and ``coffea-perf``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

try:
    from analysis import interruption
except ImportError:
    import analysis

    shadow = next(iter(getattr(analysis, "__path__", [analysis.__file__])))
    sys.stderr.write(
        f"error: {shadow} hides the package analysis of coffea-scaling: run `coffea-perf`, "
        "or `python -m perf` in another folder\n"
    )
    sys.exit(2)

# Signals are heeded, and libraries find a home, before anything is imported that takes long.
# ruff: noqa: PLC0415


def main() -> None:
    """Run the command line and exit; an InputError is one sentence and exit status 2."""
    interruption.listen()

    from analysis import folders

    folders.settle()

    from perf.cli._app import app

    interruption.call(app, "what a campaign has measured is kept")


def script() -> None:
    """As `main`, for ``coffea-perf``: see `analysis.__main__.script`."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    sys.path.append(str(Path.cwd()))
    main()


if __name__ == "__main__":
    main()
