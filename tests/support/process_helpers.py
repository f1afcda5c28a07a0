"""What tests of engines share: a run over jets that takes little, and the processes it may leave."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psutil
from coffea.processor import IterativeExecutor

from tests.support.faults import KillsAlways, Plain
from tests.support.jobs import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.runner.result import Result

NAME = "ttbar__nominal"
CHUNK = 500
PATIENCE = 120.0
"""Seconds after which something that must happen is taken not to: far above what it takes."""


def process(
    fileset: dict[str, Any], processor: Any, executor: Any, chunksize: int = CHUNK
) -> Result:
    """Run over the jets of a file set: eight chunks of ttbar, four a file."""
    return run(fileset, processor, executor, ["Jet_pt"], chunksize=chunksize)


_plain: dict[str, Any] = {}


def plain(fileset: dict[str, Any]) -> Any:
    """What a run over the jets has to give."""
    key = repr(fileset)
    if key not in _plain:
        _plain[key] = process(fileset, Plain(), IterativeExecutor(status=False)).accumulated
    return _plain[key]


def kills_at_the_second_file() -> KillsAlways:
    """A processor that the first file does not suspect."""
    killer = KillsAlways()
    killer.bad = "nominal_1"
    return killer


def one_sentence(error: BaseException) -> str:
    """What an error says, for a user to read."""
    text = str(error)
    assert "\n" not in text
    assert "Traceback" not in text
    assert len(text) < 800
    return text


def children() -> set[int]:
    """Live child processes, but for the resource tracker that Python keeps for its lifetime."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "resource_tracker" not in " ".join(child.cmdline())
    }


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Wait until `condition()` is true."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"{what} did not happen"
        time.sleep(0.05)
