"""Any place: any user, no home, an install that cannot be written to, odd names, two at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analysis import folders
from analysis.errors import InputError
from analysis.synthetic import write_fileset
from analysis.workflow import Stage, advance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[2]
STRANGER = 54321
"""A user that no list of users has."""


def _as_stranger() -> list[str]:
    """How to run as that user; as ourselves where we may not. It reads all, and writes nothing."""
    if os.geteuid() or shutil.which("setpriv") is None:
        return []
    plain = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    # Python may be root's own.
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    for found in ([*plain, *reading], plain):
        if not subprocess.run(
            [*found, sys.executable, "-c", "import analysis"],
            cwd=ROOT,
            check=False,
            capture_output=True,
        ).returncode:
            return found
    return []


@pytest.fixture
def odd() -> Iterator[Path]:
    """A folder of odd names, which anyone may write to; those of pytest are only for its user."""
    with tempfile.TemporaryDirectory(prefix="coffea für alle ") as name:
        folder = Path(name)
        for one in (folder, folder / "tmp ü"):
            one.mkdir(exist_ok=True)
            one.chmod(0o777)
        yield folder


@pytest.fixture
def run(odd: Path) -> Run:
    """Run Python as a stranger without a home, in a folder of odd names."""
    prefix = _as_stranger()
    caches = list((ROOT / "analysis").glob("**/__pycache__/numba-*"))

    def call(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C",
            "TMPDIR": str(odd / "tmp ü"),
            "PYTHONPATH": str(ROOT),
            **variables,
        }
        done = subprocess.run(
            [*prefix, sys.executable, *map(str, arguments)],
            cwd=odd,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert not (odd / "~").exists()
        return done

    # What is compiled already spares a minute; that it can be compiled there is a test of its own.
    own = odd / "tmp ü" / f"coffea-scaling-{STRANGER if prefix else os.getuid()}"
    own.mkdir(mode=0o700)
    for cache in caches:
        shutil.copytree(cache, own / ".cache" / "coffea-scaling" / cache.name)
    if prefix:
        for one in (own, *own.rglob("*")):
            os.chown(one, STRANGER, STRANGER)
    return call


COMMANDS = """
import json, sys
from analysis.__main__ import main

for arguments in json.loads(sys.argv[1]):
    print("command", arguments[0], file=sys.stderr)
    sys.argv = ["analysis", *arguments]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.mark.slow
def test_the_analysis_for_a_stranger_without_a_home(run: Run, odd: Path) -> None:
    """The main commands, with an install and a home that are not there to be written to."""
    commands = [
        ["make-data", "Data", "--events", "500"],
        ["run", "Data/fileset.json", "-o", "Data/h ü.json"],
        ["fit", "Data/h ü.json", "-o", "fit.json", "--no-ranking"],
        ["plot", "Data/h ü.json", "-o", "Bilder ü", "--fit", "fit.json"],
    ]
    # In one process: four would import everything four times.
    done = run("-c", COMMANDS, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert said == [f"command {name}" for name, *_ in commands]
    assert json.loads((odd / "fit.json").read_text())["poi"] == "ttbar_norm"
    assert list((odd / "Bilder ü").glob("postfit_*.png"))


ENGINE = """
import sys
from analysis.errors import NotInstalledError
from analysis.executors import open_executor

def one(item):
    return {"n": 1}

if __name__ == "__main__":
    try:
        with open_executor(sys.argv[1], status=False) as executor:
            print(executor([1, 2, 3], one, None))
    except NotInstalledError as error:
        print(error)
"""


@pytest.mark.parametrize(
    "name",
    [
        "futures",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("dask", "parsl", "spark")),
    ],
)
def test_an_engine_for_a_stranger(name: str, run: Run, odd: Path) -> None:
    """A user without a name and a home, and folders that shells and Java divide or cannot read."""
    script = odd / "script ü.py"
    script.write_text(ENGINE)
    before = set((odd / "tmp ü").iterdir())
    done = run(script, name)
    assert done.returncode == 0, done.stderr
    if "openjdk" in done.stdout or "pip install" in done.stdout:
        pytest.skip(done.stdout)
    assert done.stdout.strip() == "({'n': 3}, 0)"
    assert set((odd / "tmp ü").iterdir()) == before


NAMES = """
import sys
from analysis.__main__ import main

for name in sys.argv[1:]:
    sys.argv = ["analysis", "plot", name, "-o", "pictures"]
    try:
        main()
    except SystemExit as end:
        print(end.code)
"""


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        # A terminal that knows no umlauts: they are escaped.
        ({"PYTHONIOENCODING": "ascii"}, b"f\\xfcr"),
        # A locale that is not UTF-8: files and names are, all the same.
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "für".encode()),
    ],
)
def test_names_that_the_locale_does_not_have(
    variables: dict[str, str], shown: bytes, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NAMES, "für", b"f\xfcr"],
        cwd=tmp_path,
        env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"2\n2\n", done.stderr
    said = done.stderr.splitlines()
    assert len(said) == 2
    for line, expected in zip(said, (shown, b"f\\udcfcr"), strict=True):
        assert line.startswith(b"error: " + expected), line


LOOP = """
from analysis.kernels._compile import loop
@loop
def double(x):
    return 2 * x
assert double(21) == 42
print(list(double.stats.cache_misses), double.stats.cache_path if double.stats.cache_path else "")
"""


def test_loops_are_compiled_where_only_the_temporary_folder_can_be_written(
    run: Run, odd: Path
) -> None:
    """Once; where nothing can be written, each time. Without a home none is made up."""
    package = odd / "package"
    package.mkdir()
    (package / "loops.py").write_text(LOOP)
    package.chmod(0o555)
    for home in ({}, {"HOME": "/"}):
        done = run(package / "loops.py", **home)
        assert done.returncode == 0, done.stderr
    kept = list((odd / "tmp ü").rglob("*.nbi"))
    assert [path for path in kept if "loops.double" in path.name]
    done = run(package / "loops.py", TMPDIR="/proc", NUMBA_CACHE_DIR="/proc/none")
    assert done.returncode == 0, done.stderr


def test_who_is_on_no_list_of_users_is_given_a_name(run: Run) -> None:
    """Parsl and servicex ask for it."""
    code = "import getpass, analysis.folders as place; place.settle(); print(getpass.getuser())"
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_home_is_given_only_to_who_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folders.own_folder.cache_clear()
    own = tmp_path / f"coffea-scaling-{os.getuid()}"
    try:
        monkeypatch.setenv("HOME", str(tmp_path))
        folders.settle()
        assert os.environ["HOME"] == str(tmp_path)
        for none in ("/nonexistent", "relative"):
            monkeypatch.setenv("HOME", none)
            folders.settle()
            assert os.environ["HOME"] == str(own)
        assert own.stat().st_mode & 0o777 == 0o700
    finally:
        folders.own_folder.cache_clear()


def test_a_folder_that_others_can_write_to_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machine code is read from it: who else writes to it could run anything as us."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    name = f"coffea-scaling-{os.getuid()}"
    taken, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    taken.mkdir()
    taken.chmod(0o777)
    for _ in range(2):
        folders.own_folder.cache_clear()
        try:
            assert folders.own_folder() not in {taken, elsewhere}
        finally:
            folders.own_folder.cache_clear()
        if not taken.is_symlink():
            taken.rename(elsewhere)
            elsewhere.chmod(0o700)
            taken.symlink_to(elsewhere)


# --- two at once


def test_two_make_data_in_one_folder(tmp_path: Path) -> None:
    """The second says so, and the first ends well; who finds all there already may read it."""
    options = {"events": 20, "seed": 1, "processes": ["wjets"]}
    with folders.alone(tmp_path):
        with pytest.raises(InputError, match="another process is at work in") as caught:
            write_fileset(tmp_path, **options)  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == []
    assert "\n" not in str(caught.value)
    first = write_fileset(tmp_path, **options)  # type: ignore[arg-type]
    with folders.alone(tmp_path):
        assert write_fileset(tmp_path, **options) == first  # type: ignore[arg-type]


def test_two_analyses_in_one_folder(tmp_path: Path) -> None:
    def stage(name: str) -> Stage:
        def write() -> list[Path]:
            (tmp_path / name).touch()
            return [tmp_path / name]

        return Stage(name, write)

    stages = [stage("one"), stage("two")]
    first = advance(stages, tmp_path)
    next(first)
    with pytest.raises(InputError, match="another process is at work in"):
        list(advance(stages, tmp_path))
    assert len(list(first)) == 1
    assert [one.kept for one in advance(stages, tmp_path)] == [True, True]


def test_a_folder_is_free_when_who_had_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; from analysis.folders import alone\n"
        "with alone(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, check=False)
    assert process.returncode < 0
    with folders.alone(tmp_path):
        pass
