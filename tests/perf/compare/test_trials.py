"""Trials of `compare`: what is in the file is not made again, and the aim is judged as it is stated."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from analysis.errors import InputError
from perf.cli import _console
from perf.compare.benchmarks import KERNELS
from perf.compare.trials import KINDS, SPIN, Trial, Trials, busy
from perf.compare.trials_table import reached, systematic, table
from tests.support.process_helpers import wait_for


def test_trials_are_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = Trials(tmp_path / "trials.jsonl", tmp_path, tmp_path)
    fives = [Trial("compare", "five", number) for number in range(1, 21)]
    made = {
        "load": 2,
        "budget": 180.0,
        "resolution": 0.03,
        "only": list(KERNELS),
        "code": "now",
        "seconds": 1.0,
        "load_average": 2.0,
        "outcomes": {"trijet_pt-compiled": "slower", "ht-columnar": "no change"},
    }
    monkeypatch.setattr("perf.compare.trials.code", lambda: "now")
    lines = [json.dumps({**trial.key, **made}) for trial in fives]
    trials.path.write_text("\n".join([*lines[:19], lines[19][:30]]))
    assert trials.pending(fives) == fives[19:]
    assert reached(trials.done()) is None
    trials.path.write_text("\n".join(lines))
    assert trials.pending(fives) == []
    assert reached(trials.done()) is True
    assert table(trials.done()).row_count == 1
    wrong = json.loads(lines[0]) | {"outcomes": {"ht-columnar": "slower"}}
    trials.path.write_text("\n".join([json.dumps(wrong)] * 3 + lines[3:]))
    assert reached(trials.done()) is False
    # In one of twenty something else may be called faster; in two it may not.
    for number, want in ((1, True), (2, False)):
        one = json.loads(lines[0])
        one["outcomes"]["ht-columnar"] = "faster"
        trials.path.write_text("\n".join([json.dumps(one)] * number + lines[number:]))
        assert reached(trials.done()) is want
    assert Trials(trials.path, tmp_path, tmp_path, resolution=0.01).pending(fives) == fives
    monkeypatch.setattr("perf.compare.trials.code", lambda: "later")
    assert trials.pending(fives) == fives


def test_what_always_differs_is_told_from_noise() -> None:
    def trial(number: int, ratio: float) -> dict[str, Any]:
        member = {"cpu": {"effect": {"ratio": ratio}}}
        names = ("ht-compiled", "trijet_pt-compiled")
        return {
            "kind": "one",
            "number": number,
            "outcomes": dict.fromkeys(names, "no change"),
            "result": {"benchmarks": dict.fromkeys(names, member)},
        }

    found = systematic([trial(1, 1.001), trial(2, 1.003)])
    # Not of the kernel that is slowed.
    assert list(found) == ["ht-compiled"]
    assert found["ht-compiled"] == pytest.approx((0.002, 0.001))


def test_background_load_ends() -> None:
    def spinning() -> list[psutil.Process]:
        found = []
        for one in psutil.Process().children():
            # Another test may have left one that nobody has waited for.
            with suppress(psutil.ZombieProcess):
                found += [one] if SPIN in one.cmdline() else []
        return found

    with busy(2):
        # A process that has just begun may have no command line yet.
        wait_for("two busy processes", lambda: len(spinning()) == 2)
    assert not spinning()


def test_background_load_ends_with_its_parent() -> None:
    code = "from perf.compare.trials import busy\nwith busy(1): print('busy', flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    assert process.stdout.readline() == b"busy\n"
    (spinning,) = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    spinning.wait(timeout=60)


def test_unknown_kinds_are_told() -> None:
    with pytest.raises(InputError, match="--kinds must be some of one, five, none"):
        _console.choices("six", "--kinds", KINDS)


def test_trials_of_some_kernels_are_others_than_those_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perf.compare.trials.code", lambda: "now")
    conditions = {"load": 2, "budget": 180.0, "resolution": 0.03, "code": "now"}
    alone = Trials(tmp_path / "trials.jsonl", tmp_path, tmp_path, only=("trijet_pt-compiled",))
    trial = Trial("compare", "one", 1)
    made = {**trial.key, **conditions, "only": ["trijet_pt-compiled"]}
    alone.path.write_text(json.dumps(made) + "\n")
    assert alone.pending([trial]) == []
    # The kernel that is slowed has none beside it that is identical.
    more = {"seconds": 60.0, "outcomes": {"trijet_pt-compiled": "slower"}}
    shown = table([made | more])
    assert [list(column.cells) for column in shown.columns][7:10] == [["0"], ["-"], ["-"]]
    assert Trials(alone.path, tmp_path, tmp_path).pending([trial]) == [trial]
