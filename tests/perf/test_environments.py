"""Environments hold what their version asks for, and nothing that another one left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from analysis.errors import InputError
from perf import environments
from perf.environments import (
    CLONE_VARIABLE,
    PINS,
    differences,
    environment,
    releases,
)
from perf.exact_environment import MARK
from perf.programs import uv_program
from tests.support.toy_repository import commit as commit_all
from tests.support.toy_repository import git

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "made-up"
version = "{version}"
dependencies = [{dependencies}]
"""


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> str:
    """uv, where it is installed and finds packages."""
    try:
        program = uv_program()
    except InputError as error:
        pytest.skip(str(error))
    target = tmp_path_factory.mktemp("probe")
    probe = subprocess.run(
        [program, "pip", "install", "--dry-run", "--target", str(target), "toolz"],
        capture_output=True,
        text=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"no package index can be reached: {probe.stderr.strip()[-200:]}")
    return program


def write(folder: Path, version: str, *dependencies: str) -> None:
    (folder / "made_up").mkdir(parents=True, exist_ok=True)
    (folder / "made_up" / "__init__.py").write_text(f"VERSION = {version!r}\n")
    listed = ", ".join(f'"{one}"' for one in dependencies)
    (folder / "pyproject.toml").write_text(PROJECT.format(version=version, dependencies=listed))


def commit(folder: Path, version: str, *dependencies: str) -> None:
    write(folder, version, *dependencies)
    commit_all(folder, f"v{version}")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repository of a project with three commits, of which the last cannot be installed."""
    folder = tmp_path_factory.mktemp("clone")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    commit(folder, "1", "toolz==1.0.0")
    commit(folder, "2")
    commit(folder, "3", "toolz==0.0.0.1")
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of environments."""
    return tmp_path_factory.mktemp("environments")


@pytest.mark.usefixtures("uv")
def test_no_dependency_is_left_over_from_another_commit(clone: Path, kept: Path) -> None:
    first = environment(f"v1@{clone}", folder=kept)
    second = environment(f"v2@{clone}", folder=kept)
    assert first.installed == {"made-up": "1", "toolz": "1.0.0"}
    assert second.installed == {"made-up": "2"}
    assert differences(first.installed, second.installed) == {
        "made-up": ("1", "2"),
        "toolz": ("1.0.0", None),
    }
    for env in (first, second):
        said = subprocess.run(
            [env.python, "-c", "import made_up; print(made_up.VERSION)"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.strip() == env.installed["made-up"]


@pytest.mark.usefixtures("uv")
def test_the_first_import_finds_bytecode(
    clone: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing would be compiled in each import that is measured where none is written."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    env = environment(f"v1@{clone}", folder=kept)
    said = subprocess.run(
        [env.python, "-c", "import made_up, toolz; print(made_up.__cached__, toolz.__cached__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    cached = [Path(one) for one in said.stdout.split()]
    assert [one.is_file() for one in cached] == [True, True]


def test_an_environment_is_made_once_and_anew_when_it_was_changed(
    clone: Path, kept: Path, uv: str
) -> None:
    env = environment(f"v2@{clone}", folder=kept)
    mark = env.python.parents[1] / MARK
    made = mark.stat().st_mtime_ns
    assert environment(f"v2@{clone}", folder=kept) == env
    assert mark.stat().st_mtime_ns == made

    subprocess.run(
        [uv, "pip", "install", "--quiet", "--python", str(env.python), "toolz"], check=True
    )
    assert environment(f"v2@{clone}", folder=kept).installed == {"made-up": "2"}
    assert mark.stat().st_mtime_ns > made

    # As an interrupted installation leaves it.
    mark.unlink()
    assert environment(f"v2@{clone}", folder=kept) == env
    assert mark.exists()


@pytest.mark.usefixtures("uv")
def test_what_cannot_be_installed_says_why_and_leaves_nothing(clone: Path, kept: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be installed: .*toolz==0\.0\.0\.1"):
        environment(f"v3@{clone}", folder=kept)
    assert not [
        one
        for one in kept.iterdir()
        if one.is_dir() and git(clone, "rev-parse", "v3")[:10] in one.name
    ]


@pytest.mark.usefixtures("uv")
def test_pins_fix_all_but_the_project(clone: Path, kept: Path, tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("toolz==0.12.1\n")
    installed = [
        environment(f"{ref}@{clone}", folder=kept, pins=str(pins)).installed
        # The third asks for what does not exist.
        for ref in ("v1", "v2", "v3")
    ]
    assert installed == [{"made-up": str(n), "toolz": "0.12.1"} for n in (1, 2, 3)]


@pytest.mark.usefixtures("uv")
def test_a_checkout_is_what_it_holds_now(kept: Path, tmp_path: Path) -> None:
    write(tmp_path, "4")
    first = environment(str(tmp_path), folder=kept)
    assert environment(str(tmp_path), folder=kept) == first
    (tmp_path / "made_up" / "__init__.py").write_text("VERSION = 'changed'\n")
    second = environment(str(tmp_path), folder=kept)
    assert second.python != first.python
    assert second.installed == first.installed == {"made-up": "4"}


@pytest.mark.slow
@pytest.mark.usefixtures("uv")
def test_a_release_has_its_pins_and_nothing_else() -> None:
    # In the folder where the history keeps it: made once, not for each test run.
    env = environment("2026.9.0")
    lines = (PINS / "2026.9.0.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert len(env.installed) == len(pins)
    assert {name: env.installed[name] for name in ("coffea", "awkward", "numpy")} == {
        name: pins[name] for name in ("coffea", "awkward", "numpy")
    }


def test_a_bare_commit_is_looked_up_in_the_clone_that_is_named(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CLONE_VARIABLE, str(clone))
    with pytest.raises(InputError, match=f"{clone} has no commit 'nosuch'"):
        environment("nosuch")


@pytest.mark.parametrize(
    ("version", "pins", "said"),
    [
        ("1.2.3", None, r"no pins of coffea 1\.2\.3: use one of 0\.7\.22, .*2026\.9\.0"),
        ("2026.9.0", "1.2.3", r"no pins of coffea 1\.2\.3"),
        ("main@/nowhere/at/all", None, "no clone at /nowhere/at/all"),
        (".", "2026.9.0", "--pins cannot be combined with '.'"),
    ],
)
def test_bad_versions_are_one_sentence(version: str, pins: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        environment(version, pins=pins)


def test_this_interpreter_is_a_version() -> None:
    env = environment(".")
    assert env.installed["coffea"]
    assert env.installed["coffea-scaling"]


def test_every_release_of_the_history_has_pins_and_a_date() -> None:
    known = releases()
    assert len(known) == 12
    assert sorted(known.values()) == list(known.values())
    assert json.loads(environments.DATES.read_text()).keys() == known.keys()
    for release in known:
        python, pins = environments._read_pins(PINS / f"{release}.txt")
        assert python == "3.11"
        assert pins["coffea"] == f"coffea=={release}"


IMPORTS = """
import builtins, importlib, pkgutil, sys
from importlib.metadata import packages_distributions

distributions, original, found = packages_distributions(), builtins.__import__, set()

def imported(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and (globals or {}).get("__name__", "").startswith(("analysis.", "perf.")):
        found.update(distributions.get(name.partition(".")[0], ()))
    return original(name, globals, locals, fromlist, level)

builtins.__import__ = imported
module = importlib.import_module(sys.argv[1])
for one in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
    importlib.import_module(one.name)
print(*found)
"""
"""Prints the distributions that our modules import when one, and all in it, is imported."""


@pytest.mark.parametrize("module", ["analysis.kernels", "perf.history.workloads"])
def test_what_runs_in_environments_of_releases_needs_what_all_of_them_have(module: str) -> None:
    """`compare` and the history run our code there, where only coffea's dependencies are."""
    pins = [
        {
            str(canonicalize_name(line.partition("==")[0]))
            for line in path.read_text().splitlines()
            if "==" in line
        }
        for path in PINS.glob("*.txt")
    ]
    # Kernels need awkward 2, as coffea does since 2023.
    known = set.intersection(*(one for one in pins if "awkward-cpp" in one)) | {"coffea-scaling"}
    assert {"awkward", "numba", "coffea"} <= known
    found = subprocess.check_output([sys.executable, "-c", IMPORTS, module], text=True).split()
    assert "numba" in found or module != "analysis.kernels"
    assert {str(canonicalize_name(name)) for name in found} <= known
