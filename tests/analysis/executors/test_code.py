"""Workers run the code that the client has, as it has it now, in its folder and environment."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.errors import InputError
from tests.analysis.executors.conftest import GIVEN, PROCESSES, slow_but_quick, total

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coffea.processor.executor import ExecutorBase

pytestmark = pytest.mark.parametrize(
    "engine", slow_but_quick(PROCESSES), indirect=True, scope="package"
)


class Session:
    """A user's folder with modules; in a notebook they are edited and reloaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, source: str) -> None:
        path = self.folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()

    def edit(self, name: str, source: str) -> None:
        """Edit, and reload."""
        self.write(name, source)
        importlib.reload(sys.modules[name])


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.syspath_prepend(tmp_path)
    # The second source of a second has the same time and size: its bytecode would be the first's.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield Session(tmp_path)
    for name in set(sys.modules) - before:
        if (file := getattr(sys.modules[name], "__file__", None)) and str(tmp_path) in file:
            del sys.modules[name]


def test_a_module_that_is_edited_and_reloaded(executor: ExecutorBase, session: Session) -> None:
    session.write("cuts", "def f(item):\n    return {'n': 1}\n")
    cuts = importlib.import_module("cuts")
    assert total(executor, cuts.f) == {"n": 40}
    session.edit("cuts", "def f(item):\n    return {'n': 200}\n")
    assert total(executor, cuts.f) == {"n": 8000}
    session.edit("cuts", "def f(item):\n    return {'n': 3}\n")
    assert total(executor, cuts.f) == {"n": 120}


def test_modules_that_it_imports_and_packages(executor: ExecutorBase, session: Session) -> None:
    """At its top, within a function, relatively, and what this process has not imported."""
    session.write("pack.__init__", "from .deep import DEEP\n")
    session.write("pack.deep", "DEEP = 1\n")
    session.write("pack.lazy", "def late():\n    return 10\n")
    session.write(
        "ours",
        """
        import threading
        from functools import lru_cache
        import pack

        LOCK = threading.Lock()  # which cannot be pickled

        @lru_cache
        def cached():
            from pack.lazy import late
            return late()

        class Process:
            def __init__(self, scale):
                self.scale = scale

            def process(self, item):
                with LOCK:
                    return {"n": self.scale * (pack.DEEP + cached())}
        """,
    )
    ours = importlib.import_module("ours")
    assert "pack.lazy" not in sys.modules
    assert total(executor, ours.Process(1).process) == {"n": 40 * 11}
    session.write("pack.lazy", "def late():\n    return 20\n")
    assert total(executor, ours.Process(1).process) == {"n": 40 * 21}
    session.edit("pack.deep", "DEEP = 2\n")
    importlib.reload(sys.modules["pack"])
    assert total(executor, ours.Process(2).process) == {"n": 2 * 40 * 22}


def test_constants_that_are_set_in_a_notebook(executor: ExecutorBase, session: Session) -> None:
    session.write(
        "config",
        """
        import numpy as np
        CUT, BINS, OPTIONS = 1, np.arange(3), {"years": [2018]}
        def f(item):
            return {"n": CUT + int(BINS.sum()) + len(OPTIONS["years"])}
        """,
    )
    config: Any = importlib.import_module("config")
    assert total(executor, config.f) == {"n": 40 * 5}
    config.CUT = 7
    config.BINS[0] = 100
    config.OPTIONS["years"].append(2017)
    assert total(executor, config.f) == {"n": 40 * 112}


def test_edited_but_not_reloaded(executor: ExecutorBase, session: Session) -> None:
    session.write("early", "def f(item):\n    return {'n': 1}\n")
    early = importlib.import_module("early")
    session.write("early", "# edited\ndef f(item):\n    return {'n': 2}\n")
    # What this process has is not known any more.
    with pytest.raises(InputError, match=r"early.py was edited after early was imported: reload"):
        total(executor, early.f)
    importlib.reload(early)
    assert total(executor, early.f) == {"n": 80}
    # Now it is.
    session.write("early", "def f(item):\n    return {'n': 3}\n")
    assert total(executor, early.f) == {"n": 80}
    importlib.reload(early)
    assert total(executor, early.f) == {"n": 120}


def test_a_session_after_another_on_warm_workers(executor: ExecutorBase, session: Session) -> None:
    """And classes of what is merged, on workers too, come from the module of this session."""
    for number in (1, 2):
        session.write(
            "sums",
            f"""
            from coffea.processor import AccumulatorABC
            class Sum(AccumulatorABC):
                def __init__(self, n=0):
                    self.n = n
                def identity(self):
                    return Sum()
                def add(self, other):
                    self.n += other.n
            def f(item):
                return Sum({number})
            """,
        )
        sums = importlib.import_module("sums")
        small = executor.copy(fan_in=2)
        assert total(small, sums.f).n == 40 * number
        assert type(total(small, sums.f)) is sums.Sum
        del sys.modules["sums"]


def test_what_stays_is_not_imported_again(executor: ExecutorBase, session: Session) -> None:
    """A module keeps what it has in a worker, unless it, or what it imports, changes."""
    session.write(
        "keeps",
        """
        import os
        from collections import Counter
        CALLS = Counter()
        def f(item):
            CALLS["calls"] += 1
            return {"most": {(os.getpid(), CALLS["calls"])}}
        """,
    )
    session.write("other", "X = 1\n")
    keeps: Any = importlib.import_module("keeps")
    importlib.import_module("other")
    if type(executor).__module__.endswith("taskvine"):
        pytest.skip("a process is forked for each batch")
    counts = []
    for number in range(2):
        session.edit("other", f"X = {number}\n")
        counts.append(dict(sorted(total(executor, keeps.f)["most"])))
    assert sum(counts[0].values()) == 40
    assert sum(counts[1][pid] for pid in counts[1]) > 40


def test_modules_of_this_package_are_compared(
    executor: ExecutorBase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are not sent; who edits one and reloads it has to start workers again."""
    changed = tmp_path / "errors.py"
    module = importlib.import_module("analysis.errors")
    assert module.__spec__ is not None
    source = Path(str(module.__spec__.origin)).read_text()
    assert total(executor, _one) == {"n": 40}
    changed.write_text(f"{source}\nMORE = 1\n")
    spec = importlib.util.spec_from_file_location("analysis.errors", changed)
    monkeypatch.setattr(module, "__spec__", spec)  # as `importlib.reload` does
    with pytest.raises(InputError, match=r"started with another analysis\.errors than this"):
        total(executor, _one)
    monkeypatch.undo()
    assert total(executor, _one) == {"n": 40}


# --- folder, environment, path


def _look(item: int, names: tuple[str, ...]) -> dict[str, set[Any]]:  # noqa: ARG001
    return {"folder": {os.getcwd()}, "variables": {tuple(map(os.environ.get, names))}}  # noqa: PTH109


def test_folder_and_variables(
    executor: ExecutorBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("SET_LATER", "HOME", *GIVEN, "MALLOC_ARENA_MAX")
    look = partial(_look, names=names)
    before = total(executor, look)
    assert before["folder"] == {os.getcwd()}  # noqa: PTH109
    ((_, home, given, arenas),) = before["variables"]
    assert [given] == list(GIVEN.values())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SET_LATER", "now")
    monkeypatch.delenv("HOME")
    # Workers were started with these.
    for name in GIVEN:
        monkeypatch.setenv(name, "not this")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "77")
    assert total(executor, look) == {
        "folder": {str(tmp_path)},
        "variables": {("now", None, given, arenas)},
    }
    monkeypatch.undo()
    assert total(executor, look) == before
    assert home is not None


def test_path_and_relative_files(
    executor: ExecutorBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def f(item: int) -> dict[str, int]:  # noqa: ARG001
        name = "found_" + "later"  # which cannot be known before
        with open("number.txt") as file:  # noqa: PTH123
            return {"n": importlib.import_module(name).N * int(file.read())}

    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "found_later.py").write_text("N = 3\n")
    (tmp_path / "number.txt").write_text("5")
    with pytest.raises((FileNotFoundError, InputError, RuntimeError)):
        total(executor, f)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("modules")
    assert total(executor, f) == {"n": 40 * 15}


def test_a_folder_that_workers_do_not_have(
    executor: ExecutorBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert total(executor, _one) == {"n": 40}
    monkeypatch.chdir(tmp_path)


def _one(item: int) -> dict[str, int]:  # noqa: ARG001
    return {"n": 1}
