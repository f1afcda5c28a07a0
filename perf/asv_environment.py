"""asv's environments: one for each commit, made whole by uv.

asv itself has one environment for all commits, and removes only the project from it. What an
older commit needed stays there, hides what a newer one forgot to ask for, and makes the result of
a comparison depend on its order. Here each commit has an environment of its own, in which one
resolution put the commit, what it asks for, and what the suite asks for.

This module is loaded by asv (``plugins`` in asv.conf.json), wherever that is installed: it imports
nothing that asv does not bring along. It must not stand in `perf/benchmarks`, which is imported
where asv is not.
"""

from __future__ import annotations

import json
import os
import platform
import time
import tomllib
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asv import environment, util
from asv.console import log
from asv.machine import Machine, MachineCollection

from analysis.errors import InputError
from perf import programs
from perf.exact_environment import Environment, Recipe, existing, make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asv.config import Config
    from asv.repo import Repo

TOOL: Final = "uv-exact"
"""``environment_type`` in asv.conf.json."""

INSTALLED: Final = "installed"
"""Folder, beside asv's results, that says what was installed for each commit."""

DAY: Final = "dependencies_of"
SUITE: Final = "with_suite"
"""Keys in asv.conf.json: the day that all dependencies are of; whether environments also have what
the suite asks for."""

EXTRAS: Final = ("parsl",)
"""Extras of the suite: engines of executors that uv installs in seconds."""

MACHINE_VARIABLE: Final = "PERF_MACHINE"
"""As in `perf.measure`: environment variable that names the machine."""

BYTES_A_GIGABYTE: Final = 2**30

ROOT: Final = Path(__file__).resolve().parent.parent


def setup() -> None:
    """Name the machine for asv, which would ask at a terminal; called by asv."""
    name = os.environ.get(MACHINE_VARIABLE) or platform.node()
    Machine.hardcoded_machine_name = name
    path = Path(MachineCollection.get_machine_file_path())
    if name not in (json.loads(path.read_text()) if path.is_file() else {}):
        MachineCollection.save(name, machine(name))


def machine(name: str) -> dict[str, str]:
    """What asv tells this machine by: a new kernel or some bytes of memory start no new curve."""
    about: dict[str, str] = Machine.get_defaults()
    memory = f"{round(float(about['ram']) / BYTES_A_GIGABYTE)} GB" if about["ram"] else ""
    return about | {"machine": name, "os": platform.system(), "ram": memory}


def suite_requirements() -> list[str]:
    """Requirements of the suite without coffea, which is what is measured."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for name in EXTRAS for one in extras[name])]
    return [one for one in wanted if not one.startswith("coffea")]


class Exact(environment.Environment):
    """A commit's environment; asv has one of these for all commits, and it changes between them."""

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
        self._installed: dict[str, str] = {}
        self._path = str(self._common)
        try:
            programs.uv_program()
        except InputError as error:
            raise environment.EnvironmentUnavailable(str(error)) from None

    @classmethod
    def matches(cls, python: str) -> bool:
        """Whether there may be such a Python: uv finds or fetches it."""
        return python[:1].isdigit()

    # --- what asv asks

    def check_presence(self) -> bool:
        """Whether the folder of environments exists: that is all that is set up for all commits."""
        return self._common.is_dir()

    def _setup(self) -> None:
        self._common.mkdir(parents=True, exist_ok=True)

    @property
    def installed_commit_hash(self) -> str | None:
        """The commit that benchmarks run on now."""
        return self._commit

    def _get_installed_commit_hash(self) -> None:
        """No commit is installed when asv starts."""

    def install_project(self, conf: Config, repo: Repo, commit_hash: str) -> None:
        """Change to the environment of a commit, made unless it exists; ProcessError if uv fails."""
        if self._commit != commit_hash:
            self._commit = None
            recipe = Recipe(
                name=f"{commit_hash[:12]}-{self._day or 'newest'}",
                python=self._python,
                project=str(conf.project),
                requirements=tuple(self._asked()),
                before=self._day,
                source=(Path(self._build_root), commit_hash),
            )
            made = existing(recipe, self._common) or self._make(recipe, repo)
            self._path = str(made.python.parents[1])
            self._global_env_vars["ASV_ENV_DIR"] = self._path
            self._installed = made.installed
            self._commit = commit_hash
            self._set_commit_hash(commit_hash)
        self._note(commit_hash)

    def run(self, args: Sequence[str], **kwargs: Any) -> Any:
        """Run the environment's Python; UserError where asv has installed in another process."""
        if self._commit is None:
            msg = "environments are made one at a time: leave out -j"
            raise util.UserError(msg)
        return self.run_executable("python", args, **kwargs)

    def _make(self, recipe: Recipe, repo: Repo) -> Environment:
        assert recipe.source is not None
        commit = recipe.source[1]
        self.checkout_project(repo, commit)
        log.info(f"Installing {repo.get_decorated_hash(commit, 8)} with all that it asks for")
        # The variables are those of asv's matrix that are for building.
        uv = partial(programs.uv, timeout=self._install_timeout, variables=self.build_env_vars)
        try:
            return make(recipe, self._common, uv)
        except InputError as error:
            log.error(str(error))
            raise util.ProcessError(["uv"], 1, "", str(error)) from error

    def _asked(self) -> list[str]:
        """Requirements of asv, of its matrix and of the suite, as uv writes them."""
        wanted = {**self._requirements, **self._base_requirements}
        ours = [
            f"{name.removeprefix('pip+')}=={version}" if version else name.removeprefix("pip+")
            for name, version in wanted.items()
            if name.removeprefix("pip+") not in {"build", "hatchling"}
        ]
        return [*ours, *(suite_requirements() if self._suite else ())]

    def _note(self, commit: str) -> None:
        """Write beside asv's results what they were measured with, and how busy the machine was."""
        path = self._notes / f"{commit[:12]}-{self.hashname[:8]}.json"
        before: dict[str, Any] = {}
        with suppress(OSError, ValueError, RecursionError):
            before = json.loads(path.read_text())
        loads = before.get("loads", []) if before.get("installed") == self._installed else []
        now = datetime.now(UTC).isoformat(timespec="seconds")
        note = {
            "commit": commit,
            "python": self._python,
            "environment": self.name,
            "dependencies_of": self._day,
            "installed": self._installed,
            "loads": [*loads, [now, os.getloadavg()[0]]],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
        part.write_text(json.dumps(note, indent=1))
        part.replace(path)
