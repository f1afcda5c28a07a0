"""The command lines in this process."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.__main__ import main
from analysis.interruption import call
from perf.cli._app import app

if TYPE_CHECKING:
    from collections.abc import Callable


class Outcome(NamedTuple):
    """What a command did."""

    exit_code: int
    output: str
    error: str


def analysis(*arguments: Any) -> Outcome:
    """Run ``python -m analysis`` with these arguments, and catch what it prints."""
    return _run(main, "analysis", *arguments)


def perf(*arguments: Any) -> Outcome:
    """Run ``python -m perf`` with these arguments, and catch what it prints."""
    return _run(lambda: call(app), "perf", *arguments)


def _run(command: Callable[[], None], name: str, *arguments: Any) -> Outcome:
    output, error = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = [name, *map(str, arguments)]
    code = 0
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
            command()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    return Outcome(code, output.getvalue(), error.getvalue())
