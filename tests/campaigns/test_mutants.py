"""The proofs see faults: a few mutants of each kind here, all of them by `make mutants`."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from analysis.kernels import IMPLEMENTATIONS, KERNELS
from perf.records.store import PLACES
from tests.analysis.kernels.test_kernels import (
    test_known_events_have_the_known_answer as known_events,
)
from tests.campaigns import mutants

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_a_mutant_of_each_kind_is_seen() -> None:
    # In a process of its own: it forks, which a process with threads must not.
    command = [sys.executable, "-m", "tests.campaigns.mutants", "--quick", "largest"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "survive" in ended.stdout
    assert "100.0%" in ended.stdout
    assert "\npython -m tests.campaigns.mutants --quick largest\npython 3" in ended.stdout
    assert " cores, " in ended.stdout


def test_what_kernels_share_has_tests_of_its_own() -> None:
    for row, (_, module, names) in mutants.HELPERS.items():
        modules = [importlib.import_module(name) for name in mutants.proofs_in(row)]
        proofs = {name for name, _ in mutants.proofs_of(row, modules)}
        assert all(any(proof.startswith(name) for proof in proofs) for name in names)
        assert bool(module) == bool(names)


def test_a_survivor_is_reported() -> None:
    key = "count._count: no such change"
    found = {"count": {key: "", "another": "a proof"}}
    assert mutants.faults(found, quick=True) == [f"survives, unlisted: count.{key}"]
    assert "NOT JUSTIFIED" in mutants.report(found)
    assert "50.0%" in mutants.report(found)
    # What was not looked at is not passed over.
    assert "Not looked at here: electrons, muons, jets," in mutants.report(found)


def test_lines_on_survivors_name_mutants_that_there_are() -> None:
    for row, reasons in mutants.listed().items():
        keys = {one.key for one in mutants.mutants(row)}
        assert set(reasons) <= keys
        assert all(reasons.values())


def test_mutants_change_one_thing_and_undo_it() -> None:
    before = inspect.getsource(KERNELS["regions"].module)
    changed = []
    for one in mutants.mutants("regions"):
        changed.append(one.key)
        tree = one.tree
    assert len(changed) == len(set(changed)) > 20
    assert ast.dump(tree) == ast.dump(ast.parse(before))
    assert any("n_jets >= jets_min  ->  n_jets > jets_min" in key for key in changed)


@pytest.fixture
def wrapped_wrongly() -> Iterator[None]:
    """The fault that three equal implementations hid: pi - dphi in all of them."""
    module = KERNELS["cleaning"].module
    source = inspect.getsource(module)
    assert source.count("2 * math.pi - dphi") == 2  # one serves two implementations
    source = source.replace("2 * math.pi - dphi", "math.pi - dphi")
    source = source.replace(
        "from analysis.kernels._compile import loop", "from numba import njit as loop"
    )
    wrong = ModuleType(module.__name__)
    exec(source, vars(wrong))  # noqa: S102
    sys.modules[module.__name__] = wrong
    yield
    sys.modules[module.__name__] = module


@pytest.mark.usefixtures("wrapped_wrongly")
def test_one_fault_in_all_implementations_is_seen() -> None:
    for implementation in IMPLEMENTATIONS:
        with pytest.raises(AssertionError):
            known_events(KERNELS["cleaning"], implementation)


def test_outcomes_are_no_records() -> None:
    path = mutants.DONE.relative_to(mutants.ROOT)
    assert not [place for place in PLACES if path.match(place)]
