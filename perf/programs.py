"""git and uv, run without what this process was started with; a failure is one sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from analysis.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HIDDEN: Final = (
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX"),
    *("UV_PROJECT_ENVIRONMENT", "UV_CONSTRAINT", "UV_OVERRIDE"),
)
"""Environment variables that must not leak into another environment."""

LONGEST_REASON: Final = 600
"""Characters of a program's message that are repeated."""


def git(
    where: Path | None, *arguments: str | Path, variables: Mapping[str, str] | None = None
) -> str:
    """Output of git in a clone, of whatever user: whoever names a clone has its code run."""
    at = ["-C", str(where)] if where else []
    command = ["git", "-c", "safe.directory=*", *at, *map(str, arguments)]
    return run(command, "git", variables=variables).strip()


def commit(clone: Path, name: str) -> str:
    """Hash of a commit, tag or branch of a clone, or of its origin."""
    if not clone.is_dir():
        msg = f"there is no clone at {clone}: name the folder of one"
        raise InputError(msg)
    reason: InputError | None = None
    for ref in (name, f"origin/{name}"):
        try:
            return git(clone, "rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}")
        except InputError as error:
            reason = reason or error
    msg = f"{clone} has no commit {name!r} ({reason}): fetch it, or name another version"
    raise InputError(msg)


def uv(
    *arguments: str,
    what: str,
    timeout: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Output of uv; `what` begins the message if it fails, or takes more seconds than `timeout`."""
    return run([uv_program(), *arguments], what, timeout=timeout, variables=variables)


def uv_program() -> str:
    """Path of uv: that of this environment, which need not be on the PATH, or another."""
    beside = Path(sys.executable).parent / "uv"
    program = str(beside) if beside.is_file() else shutil.which("uv")
    if program is None:
        msg = "uv is not installed, which makes environments: `pip install uv`"
        raise InputError(msg)
    return program


def run(
    command: Sequence[str],
    what: str,
    *,
    timeout: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Output of a program; InputError that begins with `what` and repeats its words if it fails."""
    environ = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    environ["UV_NO_PROGRESS"] = "1"
    # A commit that is not there is to be an error, and no question to an absent user.
    environ["GIT_TERMINAL_PROMPT"] = "0"
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**environ, **(variables or {})},
            timeout=timeout,
        )
    except FileNotFoundError:
        msg = f"{what}: {command[0]} is not installed"
        raise InputError(msg) from None
    except subprocess.TimeoutExpired:
        msg = f"{what}: it took longer than {timeout:.0f} s"
        raise InputError(msg) from None
    if done.returncode:
        msg = f"{what}: {_reason(done.stderr or done.stdout)}"
        raise InputError(msg)
    return done.stdout


def _reason(output: str) -> str:
    """What a program said when it failed, in one line."""
    lines = [re.sub(r"^\W+", "", line).strip() for line in output.splitlines()]
    lines = [line for line in lines if line and not line.startswith("warning:")]
    if "Traceback (most recent call last):" in lines:
        lines = lines[-1:]
    text = " ".join(lines) or "it did not say why"
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."
