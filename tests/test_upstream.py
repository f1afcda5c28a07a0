"""Findings for other projects: each is reproduced, and its patch is for what is installed."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import pytest

FOLDER: Final = Path(__file__).parents[1] / "reports" / "upstream"
NAMES: Final = sorted(path.parent.name for path in FOLDER.glob("*/reproduce.py"))
PATCHES: Final = sorted(path.parent.name for path in FOLDER.glob("*/change.patch"))
ROW: Final = re.compile(r"(?P<before>[\d.]+) +(?P<after>[\d.]+)  (?P<over>\S.*?) +3 +\d+ +\d+$")
CODECS: Final = {"zstd", "zlib", "lz4", "lzma"}
LIBRARY: Final = "VALUE = 1\nOTHER = 2\n"
PATCH: Final = "--- a/src/toy_library.py\n+++ b/src/toy_library.py\n@@ -1,2 +1,2 @@\n"
TOY: Final = """
import toy_library

WHAT, UNIT = "a toy", "units"

def make(folder, *, quick):
    pass

def turns(folder, side):
    while True:
        yield toy_library.VALUE, {result}
"""


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("upstream_measure", FOLDER / "measure.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def texts(name: str) -> tuple[str, str]:
    """What is done and its unit, as a reproduction says them."""
    source = ast.parse((FOLDER / name / "reproduce.py").read_text())
    said = {
        node.targets[0].id: node.value.value
        for node in source.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    return str(said["WHAT"]), str(said["UNIT"])


def run(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "measure.py"), name, "--quick"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def toy(folder: Path, result: str) -> subprocess.CompletedProcess[str]:
    """Reproduce a finding about a library of one file, whose VALUE a patch changes from 1 to 2."""
    shutil.copy(FOLDER / "measure.py", folder)
    (folder / "toy_library.py").write_text(LIBRARY)
    (folder / "finding").mkdir()
    (folder / "finding" / "reproduce.py").write_text(TOY.format(result=result))
    (folder / "finding" / "change.patch").write_text(
        PATCH + "-VALUE = 1\n+VALUE = 2\n OTHER = 2\n"
    )
    return run(folder, "finding")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_finding_is_reproduced_with_equal_results(name: str) -> None:
    done = run(FOLDER, name)
    assert not done.returncode, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(name)]
    if any("not installed" in row for row in rows) and name != "codec_table":
        pytest.skip(rows[-1])
    if name == "codec_table":
        measured = [row.split() for row in rows[1:] if "not installed" not in row]
        assert {row[1] for row in measured} == CODECS
        assert all(" to " in " ".join(row) for row in measured)
        return
    (row,) = rows
    found = ROW.search(row)
    assert found, row
    # What is counted, not timed, is there before and gone after.
    if name in {"as_completed", "ascii_hash", "cache_cycle"}:
        assert float(found["before"]) > 0.4
        assert float(found["after"]) < float(found["before"]) / 4


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_is_for_what_is_installed(name: str, measure: ModuleType) -> None:
    for module, diff in measure.hunks(FOLDER / name / "change.patch").items():
        package, *parts = module.split(".")
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).parent.joinpath(*parts).with_suffix(".py").read_text()
        changed = measure.patched(source, diff)
        ast.parse(changed)
        assert changed.count("\n") - source.count("\n") == sum(
            (line[:1] == "+") - (line[:1] == "-") for line in diff
        )


def test_pages_name_every_finding() -> None:
    table = (FOLDER / "README.md").read_text()
    for name in NAMES:
        assert f"({name}/README.md)" in table, name
        assert f"measure.py {name}" in (FOLDER / name / "README.md").read_text(), name


def test_effects_are_written_into_the_table_of_the_page(
    measure: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and texts of any length: columns, not words, tell them apart."""
    shutil.copy(FOLDER / "README.md", tmp_path)
    monkeypatch.setattr(measure, "HERE", tmp_path)
    rows = [
        measure.row(name, *texts(name), (2.0, 1.0), over, rounds=9, faults=(10, 8))
        for name, over in (
            ("memory_map", (0.5, 0.4, 0.6)),
            ("preloaded_arrays", (0.5, 0.4, 0.6)),
            ("as_completed", None),
        )
    ]
    measure.write("\n".join([*measure.heading(), *rows, ""]))
    page = (tmp_path / "README.md").read_text()
    effects = dict(re.findall(r"\((\w+)/README\.md\).*\| (.*) \|$", page, re.MULTILINE))
    assert effects["memory_map"] == "2.0 to 1.0 ms of CPU: 0.500 (0.400 to 0.600)"
    assert effects["preloaded_arrays"] == effects["memory_map"]
    assert effects["as_completed"] == "2.0 to 1.0 sleeps"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "codec_table"])
def test_texts_fit_their_columns(name: str) -> None:
    what, unit = texts(name)
    assert len(what) <= 64
    assert len(unit) <= 10


def test_only_the_side_with_the_change_has_it_and_nothing_is_left(tmp_path: Path) -> None:
    done = toy(tmp_path, "'the same'")
    assert not done.returncode, done.stderr
    found = ROW.search(done.stdout.splitlines()[-1])
    assert found, done.stdout
    assert (float(found["before"]), float(found["after"])) == (1, 2)
    assert found["over"] == "2.000 (2.000 to 2.000)"
    assert (tmp_path / "toy_library.py").read_text() == LIBRARY
    # Nor does a compiled file have the change.
    code = "import toy_library; print(toy_library.VALUE)"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=tmp_path, text=True) == "1\n"


@pytest.mark.parametrize("result", ["toy_library.VALUE", "1 // (toy_library.VALUE - 2)"])
def test_sides_whose_results_differ_or_that_fail_are_not_compared(
    tmp_path: Path, result: str
) -> None:
    done = toy(tmp_path, result)
    assert done.returncode
    assert "results differ" in done.stderr
    assert "after/before" in done.stdout.splitlines()[-1]


def test_a_patch_of_another_release_is_refused(measure: ModuleType) -> None:
    diff = ["@@ -1,2 +1,2 @@", "-VALUE = 1", "+VALUE = 2", " OTHER = 2"]
    assert measure.patched(LIBRARY, diff) == "VALUE = 2\nOTHER = 2\n"
    with pytest.raises(
        ValueError, match="expects 'VALUE = 1' in line 1, where there is 'VALUE = 3'"
    ):
        measure.patched(LIBRARY.replace("1", "3"), diff)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [12]),
        ({"a": 1}, {"b": 1}),
        (np.zeros(2, np.int32), np.zeros(2, np.int64)),
        (np.zeros((1, 2)), np.zeros((2, 1))),
    ],
)
def test_different_results_have_different_digests(
    measure: ModuleType, one: Any, other: Any
) -> None:
    assert measure.digest(one) == measure.digest(one)
    assert measure.digest(one) != measure.digest(other)


def test_the_ratio_is_of_pairs(measure: ModuleType) -> None:
    # The machine becomes slower all the time, and the ratio stays.
    before = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert measure.ratio(before, [value / 2 for value in before]) == (0.5, 0.5, 0.5)
    middle, low, high = measure.ratio([1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert middle == 3
    assert 1 <= low < 3 < high <= 5
