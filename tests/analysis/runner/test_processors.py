"""A processor of the user's own is found by name, and a wrong name ends in one sentence."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import coffea.util
import pytest
from coffea.nanoevents import BaseSchema, NanoAODSchema
from coffea.processor import ProcessorABC

from analysis.errors import InputError
from analysis.runner import processors
from tests.support.cli import analysis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULE = '''
import awkward as ak
import hist
from coffea.processor import ProcessorABC

WINDOW = (60.0, 120.0)

def mass(pairs):
    return (pairs["0"] + pairs["1"]).mass

class Dimuons(ProcessorABC):
    """Opposite-sign pairs of muons in a window of mass: a processor unlike any of the suite's."""

    def __init__(self, bins=30, minimum=5.0):
        self.bins, self.minimum = bins, minimum

    def process(self, events):
        muons = events.Muon[events.Muon.pt > self.minimum]
        pairs = ak.combinations(muons, 2)
        pairs = pairs[pairs["0"].charge * pairs["1"].charge < 0]
        masses = ak.flatten(mass(pairs))
        inside = masses[(masses > WINDOW[0]) & (masses < WINDOW[1])]
        name = events.metadata["dataset"]
        filled = hist.Hist.new.StrCat([], growth=True, name="dataset").Reg(
            self.bins, *WINDOW, name="mass").Weight()
        filled.fill(dataset=name, mass=inside, weight=0.5)
        return {"mass": filled, "pairs": {name: len(inside)}, "events": len(events)}

    def postprocess(self, accumulator):
        accumulator["done"] = 1
        return accumulator

def jets(events):
    return {"jets": int(ak.count(events.Jet.pt))}

def flat(events):
    return {"jets": int(ak.sum(events.nJet))}

made = Dimuons(bins=3)
nothing = 42
'''


@pytest.fixture
def unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's, in a folder that only this process imports from."""
    (tmp_path / "unseen_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "unseen_module"
    sys.modules.pop("unseen_module", None)


def test_class_instance_and_function(unseen: str) -> None:
    one = processors.load(f"{unseen}:Dimuons", {"bins": 7})
    assert isinstance(one, ProcessorABC)
    assert vars(one)["bins"] == 7
    assert vars(processors.load(f"{unseen}:made"))["bins"] == 3
    assert callable(processors.load(f"{unseen}:jets"))


@pytest.mark.parametrize(
    ("spec", "arguments", "sentence"),
    [
        ("unseen_module", None, "is named as package.module:Class"),
        ("no_such_module:X", None, "no_such_module cannot be imported: ModuleNotFoundError"),
        ("unseen_module:Nope", None, "unseen_module has no Nope"),
        ("unseen_module:Dimuons", {"colour": 1}, "cannot be made: TypeError"),
        ("unseen_module:nothing", None, "is no processor"),
    ],
)
def test_wrong_names(unseen: str, spec: str, arguments: Any, sentence: str) -> None:
    del unseen
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        processors.load(spec, arguments)
    assert "\n" not in str(caught.value)


def test_schemas() -> None:
    assert processors.schema("BaseSchema") is BaseSchema
    assert processors.schema("coffea.nanoevents:NanoAODSchema") is NanoAODSchema
    with pytest.raises(InputError, match=r"no schema Nano: use one of .*PFNanoAODSchema"):
        processors.schema("Nano")


@pytest.mark.parametrize("executor", ["iterative", "futures"])
def test_command_runs_it_and_saves_what_it_gives(
    unseen: str, executor: str, synthetic: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.coffea"
    outcome = analysis(
        *("run", synthetic / "fileset.json", "--processor", f"{unseen}:Dimuons"),
        *("--arguments", '{"bins": 12}', "--executor", executor, "--chunksize", 1000),
        *("--output", output),
    )
    assert outcome.exit_code == 0, outcome.error
    result = coffea.util.load(output)
    assert result["events"] == 36_000
    assert result["done"] == 1
    assert result["mass"].axes[1].size == 12
    pairs = sum(result["pairs"].values())
    assert pairs > 0
    assert result["mass"].sum(flow=True).value == 0.5 * pairs
    assert [path.name for path in tmp_path.glob("*out*")] == ["out.coffea"]


@pytest.mark.parametrize("extra", [[], ["--trace"]])
def test_other_schema_function_and_file_list(
    unseen: str, extra: list[str], synthetic: Path, tmp_path: Path
) -> None:
    paths = sorted(str(path) for path in synthetic.glob("*ttbar*nominal*.root"))
    assert paths
    fileset = tmp_path / "fileset.json"
    fileset.write_text(f'{{"plain": {paths!r}}}'.replace("'", '"'))
    results = []
    for schema, name in (("BaseSchema", "flat"), ("NanoAODSchema", "jets")):
        output = tmp_path / f"{name}.coffea"
        outcome = analysis(
            *("run", fileset, "--processor", f"{unseen}:{name}", "--schema", schema),
            *("--output", output, *extra),
        )
        assert outcome.exit_code == 0, outcome.error
        results.append(coffea.util.load(output)["jets"])
    assert results[0] == results[1] > 1000


def test_wrong_arguments_of_the_command(unseen: str, synthetic: Path, tmp_path: Path) -> None:
    common = ("run", synthetic / "fileset.json", "--output", tmp_path / "out.coffea")
    for more, sentence in (
        (
            ("--processor", f"{unseen}:jets", "--arguments", "bins=1"),
            "--arguments must be a JSON object, got",
        ),
        (
            ("--processor", f"{unseen}:jets", "--arguments", "[1]"),
            "--arguments must be a JSON object",
        ),
        (("--option", "retries"), "--option takes KEY=VALUE"),
        (("--option", "colour=1"), "no option 'colour': it has chunk_timeout, modules"),
    ):
        outcome = analysis(*common, *more)
        assert outcome.exit_code == 2
        assert sentence in outcome.error.replace("\n", " ")
