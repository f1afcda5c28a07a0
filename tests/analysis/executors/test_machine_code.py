"""What numba compiled on one host is used on another, where it is sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from analysis.executors import machine_code

if TYPE_CHECKING:
    from pathlib import Path

CALLS: Final = """
import sys
from pathlib import Path
from analysis.executors import machine_code

file = Path(sys.argv[2])
if file.exists():
    machine_code.unpack(file.read_bytes())
from analysis.kernels.histogram import bin_of_compiled

assert bin_of_compiled(2.5, 4, 0.0, 4.0) == 3
if not file.exists():
    file.write_bytes(machine_code.packed())
print(sum(bin_of_compiled.stats.cache_hits.values()))
"""

COMPILES: Final = """
import sys
from pathlib import Path

from numba.core import event

from analysis.executors import open_executor, rehearsal
from analysis.runner.job import Job

with event.install_recorder("numba:compile") as before:
    rehearsal.rehearse()
assert before.buffer
with event.install_recorder("numba:compile") as after, open_executor("iterative") as executor:
    for implementation in rehearsal.IMPLEMENTATIONS:
        for variations in ("all", "nominal"):
            job = Job.of_ttbar(Path(sys.argv[1]), implementation, variations)
            job.inspect().run(executor, chunksize=500)
print(*{one.data["dispatcher"].py_func.__qualname__ for _, one in after.buffer})
"""


def test_without_a_cache_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert machine_code.packed() == b""
    machine_code.unpack(b"")
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.slow
def test_what_one_host_compiled_another_does_not(tmp_path: Path) -> None:
    sent = tmp_path / "sent"

    def hits(host: str) -> int:
        variables = {"NUMBA_CACHE_DIR": str(tmp_path / host), "PYTHONPATH": os.getcwd()}  # noqa: PTH109
        done = subprocess.run(
            [sys.executable, "-c", CALLS, host, str(sent)],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    assert hits("one") == 0
    assert sent.stat().st_size > 1000
    assert hits("two") > 0


@pytest.mark.slow
def test_a_worker_without_machine_code_waits_for_that_of_the_client_which_compiles_it(
    tmp_path: Path,
) -> None:
    code = (
        "from analysis.executors import machine_code, rehearsal\n"
        "rehearsal.prepare_forks(compiling=False)\n"
        "print(machine_code.is_there())\n"
        "print(len(machine_code.packed()) > 100_000)\n"
        "sent = rehearsal.compiled()\n"
        "print(machine_code.is_there(), len(sent) > 100_000, sent == rehearsal.compiled())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False", "True", "True", "True"]


@pytest.mark.slow
def test_after_a_rehearsal_nothing_is_compiled(
    tmp_path: Path, synthetic_fileset: dict[str, Any]
) -> None:
    """Otherwise each of many workers would compile it at the same time, in its first chunk."""
    name = "ttbar__nominal"
    (tmp_path / "fileset.json").write_text(json.dumps({name: synthetic_fileset[name]}))
    done = subprocess.run(
        [sys.executable, "-c", COMPILES, str(tmp_path / "fileset.json")],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
