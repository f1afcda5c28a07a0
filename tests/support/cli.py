"""The command line in this process."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any, NamedTuple

from analysis.__main__ import main


class Outcome(NamedTuple):
    """What a command did."""

    exit_code: int
    output: str
    error: str


def analysis(*arguments: Any) -> Outcome:
    """Run ``python -m analysis`` with these arguments, and catch what it prints."""
    output, error = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["analysis", *map(str, arguments)]
    code = 0
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    return Outcome(code, output.getvalue(), error.getvalue())
