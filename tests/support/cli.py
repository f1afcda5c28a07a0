"""The command lines in this process."""

from __future__ import annotations

import contextlib
import io
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.cli._app import app as analysis_app
from analysis.interruption import call
from perf.cli._app import app as perf_app

if TYPE_CHECKING:
    import typer


class Outcome(NamedTuple):
    """What a command did."""

    exit_code: int
    output: str
    error: str


def analysis(*arguments: Any) -> Outcome:
    """Run ``python -m analysis`` with these arguments, and catch what it prints."""
    return _run(analysis_app, "analysis", *arguments)


def perf(*arguments: Any) -> Outcome:
    """Run ``python -m perf`` with these arguments, and catch what it prints."""
    return _run(perf_app, "perf", *arguments)


def _run(app: typer.Typer, name: str, *arguments: Any) -> Outcome:
    output, error = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = [name, *map(str, arguments)]
    code = 0
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
            call(app)
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    return Outcome(code, output.getvalue(), error.getvalue())
