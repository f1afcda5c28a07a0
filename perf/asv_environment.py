"""asv's environments: one for each commit, made whole by uv.

asv itself has one environment for all commits, and takes away of it the project alone. What an
older commit needed stays there, hides what a newer one forgot to ask for, and makes the result of
a comparison depend on its order. Here a commit has an environment of its own, in which one
resolution put the commit, what it asks for, and what the suite asks for; none is ever changed.

This module is loaded by asv (``plugins`` in asv.conf.json), wherever that is installed: it
imports nothing else. It must not stand in `perf/benchmarks`, which is imported where asv is not.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
import tomllib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asv import environment, util
from asv.console import log
from asv.machine import Machine, MachineCollection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asv.config import Config
    from asv.repo import Repo

TOOL: Final = "uv-exact"
"""``environment_type`` in asv.conf.json."""

INSTALLED: Final = "installed"
"""Folder, beside asv's results, of what was installed for each commit."""

DAY: Final = "dependencies_of"
SUITE: Final = "with_suite"
"""Keys in asv.conf.json: the day of which all dependencies are; whether environments have what the
suite asks for, too."""

EXTRAS: Final = ("parsl",)
"""Of the suite: engines of executors that uv installs in seconds."""

MACHINE_VARIABLE: Final = "PERF_MACHINE"
"""As in `perf.measure.clocks`: names the machine, where its own name changes."""

BYTES_A_GIGABYTE: Final = 2**30

ROOT: Final = Path(__file__).resolve().parent.parent


def setup() -> None:
    """Name the machine for asv, which would ask at a terminal; called by asv.

    Of what asv tells machines apart by, the version of the kernel and each byte of memory are
    left out: a new one would start a new curve.
    """
    name = os.environ.get(MACHINE_VARIABLE) or platform.node()
    Machine.hardcoded_machine_name = name
    path = Path(MachineCollection.get_machine_file_path())
    if name not in (json.loads(path.read_text()) if path.is_file() else {}):
        MachineCollection.save(name, machine(name))


def machine(name: str) -> dict[str, str]:
    """What asv says of this machine."""
    found: dict[str, str] = Machine.get_defaults()
    memory = f"{round(float(found['ram']) / BYTES_A_GIGABYTE)} GB" if found["ram"] else ""
    return found | {"machine": name, "os": platform.system(), "ram": memory}


def suite_requirements() -> list[str]:
    """What the suite asks for, but for coffea: that is what is measured."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for name in EXTRAS for one in extras[name])]
    return [one for one in wanted if not one.startswith("coffea")]


class Exact(environment.Environment):
    """A commit's environment; asv has one of these for all commits, and it changes between them.

    Parameters
    ----------
    conf, python, requirements, tagged_env_vars
        As asv gives them: configuration, version of Python, and what the matrix says.

    Raises
    ------
    EnvironmentUnavailable
        If there is no uv.
    """

    tool_name = TOOL
    matches_python_fallback = False

    def __init__(
        self,
        conf: Config,
        python: str,
        requirements: dict[str, str],
        tagged_env_vars: dict[Any, str],
    ) -> None:
        # asv names an environment while it makes it.
        self._requirements = requirements
        super().__init__(conf, python, requirements, tagged_env_vars)
        self._common = Path(conf.env_dir, self.dir_name).absolute()
        self._notes = Path(conf.results_dir).parent / INSTALLED
        self._day: str | None = os.environ.get("UV_EXCLUDE_NEWER") or getattr(conf, DAY, None)
        self._suite: bool = getattr(conf, SUITE, True)
        self._commit: str | None = None
        self._path = str(self._common)
        try:
            # Beside asv, too: an environment need not be activated to run what is in it.
            places = [Path(sys.executable).parent, *os.environ.get("PATH", "").split(os.pathsep)]
            self._uv: str = util.which("uv", [str(one) for one in places])
        except OSError:
            msg = "there is no uv: install it with `pip install uv`"
            raise environment.EnvironmentUnavailable(msg) from None

    @classmethod
    def matches(cls, python: str) -> bool:
        """Whether there may be such a Python: uv finds or fetches it."""
        return python[:1].isdigit()

    # --- what asv asks

    def check_presence(self) -> bool:
        """Whether there is anything to begin with: a folder is enough."""
        return self._common.is_dir()

    def _setup(self) -> None:
        self._common.mkdir(parents=True, exist_ok=True)

    @property
    def installed_commit_hash(self) -> str | None:
        """The commit that benchmarks run on now."""
        return self._commit

    def _get_installed_commit_hash(self) -> None:
        """Nothing is in use when asv starts."""

    def install_project(self, conf: Config, repo: Repo, commit_hash: str) -> None:  # noqa: ARG002
        """Change to the environment of a commit; make it, if it is not there.

        Raises
        ------
        ProcessError
            If uv cannot build or install the commit; asv shows what uv said.
        """
        if self._commit != commit_hash:
            self._commit = None
            folder = self._common / f"{commit_hash[:12]}-{self._day or 'newest'}"
            self._path = str(folder)
            self._global_env_vars["ASV_ENV_DIR"] = self._path
            mark = folder / "installed.json"
            if not mark.is_file():
                self.checkout_project(repo, commit_hash)
                shutil.rmtree(folder, ignore_errors=True)
                installed = self._make(folder, commit_hash, repo)
                mark.write_text(json.dumps(installed, indent=1))
            self._commit = commit_hash
            self._set_commit_hash(commit_hash)
        self._note(commit_hash)

    def run(self, args: Sequence[str], **kwargs: Any) -> Any:
        """Run the environment's Python.

        Raises
        ------
        UserError
            If no commit was chosen, as where asv installs in another process.
        """
        if self._commit is None:
            msg = "environments are made one at a time: leave out -j"
            raise util.UserError(msg)
        return self.run_executable("python", args, **kwargs)

    # --- how it is done

    def _make(self, folder: Path, commit: str, repo: Repo) -> dict[str, str]:
        """Make the environment of what is checked out; versions of all that is in it."""
        name = repo.get_decorated_hash(commit, 8)
        log.info(f"Building {name}")
        # No installed wheel is used again: uv knows a folder by its date.
        wheels = folder / "wheel"
        self._call("build", "--wheel", "--no-progress", "--out-dir", wheels, self._build_root)
        (wheel,) = wheels.glob("*.whl")
        log.info(f"Installing {name} with all that it asks for")
        self._call(
            "venv", "--quiet", "--no-project", "--allow-existing", "--python", self._python, folder
        )
        python = folder / "bin" / "python"
        self._call(
            "pip",
            "install",
            "--no-progress",
            # Imports are measured: uv leaves bytecode to whoever imports first, if he may write it.
            "--compile-bytecode",
            "--python",
            python,
            *(("--exclude-newer", self._day) if self._day else ()),
            wheel,
            *self._asked(),
        )
        listed = self._call("pip", "list", "--format", "json", "--python", python)
        return {one["name"]: one["version"] for one in json.loads(listed)}

    def _asked(self) -> list[str]:
        """Requirements of asv, of its matrix and of the suite, as uv writes them."""
        wanted = {**self._requirements, **self._base_requirements}
        ours = [
            f"{name.removeprefix('pip+')}=={version}" if version else name.removeprefix("pip+")
            for name, version in wanted.items()
            if name.removeprefix("pip+") not in {"build", "hatchling"}
        ]
        return [*ours, *(suite_requirements() if self._suite else ())]

    def _call(self, *arguments: object) -> str:
        # What surrounds asv must not decide where uv installs.
        surrounding = {"VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "CONDA_PREFIX"}
        clean = {name: value for name, value in os.environ.items() if name not in surrounding}
        found: str = util.check_output(
            [self._uv, *map(str, arguments)],
            timeout=self._install_timeout,
            env=clean | self.build_env_vars,
        )
        return found

    def _note(self, commit: str) -> None:
        """Write beside asv's results what they were measured with, and how busy the machine was."""
        path = self._notes / f"{commit[:12]}-{self.hashname[:8]}.json"
        installed = json.loads((Path(self._path) / "installed.json").read_text())
        before: dict[str, Any] = {}
        with suppress(OSError, ValueError, RecursionError):
            before = json.loads(path.read_text())
        loads = before.get("loads", []) if before.get("installed") == installed else []
        now = datetime.now(UTC).isoformat(timespec="seconds")
        found = {
            "commit": commit,
            "python": self._python,
            "environment": self.name,
            "dependencies_of": self._day,
            "installed": installed,
            "loads": [*loads, [now, os.getloadavg()[0]]],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
        part.write_text(json.dumps(found, indent=1))
        part.replace(path)
