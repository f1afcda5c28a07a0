"""Instructions that a benchmark takes, counted by valgrind's callgrind.

The count does not depend on what else the machine does: it repeats exactly for a compiled kernel,
and within some tenths of a percent for a columnar one. It is not time: code that waits for memory
takes few instructions. A compiled module of pytest-codspeed switches callgrind on around one call;
it is loaded by itself, without pytest and codspeed's service.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from analysis.errors import InputError
from perf.compare.session import Process
from perf.compare.worker import LAYOUT
from perf.measure.fresh_process import ProcessError

if TYPE_CHECKING:
    from perf.compare.benchmarks import Benchmark
    from perf.compare.sides import Side

CALLS: Final = 3
"""Calls counted one by one: columnar code takes a different number in each, by the state of its
caches and dictionaries."""

CPU: Final = {
    # How many instructions copy an array depends on where it lies.
    LAYOUT: "0",
    # The code must not depend on the machine, nor have instructions that valgrind does not know.
    "NUMBA_CPU_NAME": "x86-64-v3",
    "NUMBA_CPU_FEATURES": "",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}

_TOTAL: Final = re.compile(r"^totals: (\d+)", re.MULTILINE)


Counts = tuple[int, ...]
"""Instructions of each of some calls."""


def missing() -> str | None:
    """Why instructions cannot be counted here; None if they can."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed: `make valgrind` on Debian"
    if hooks() is None:
        return "pytest-codspeed is not installed: `pip install pytest-codspeed`"
    return None


def require() -> None:
    """InputError if instructions cannot be counted here."""
    if (why := missing()) is not None:
        msg = f"instructions cannot be counted: {why}"
        raise InputError(msg)


def hooks() -> Path | None:
    """The compiled module by which pytest-codspeed controls callgrind; None without it."""
    spec = importlib.util.find_spec("pytest_codspeed")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "instruments" / "hooks"
    return next(iter(sorted(folder.glob("dist_instrument_hooks.*.so"))), None)


def count(benchmark: Benchmark, side: Side, calls: int = CALLS) -> Counts:
    """Count calls of a single-threaded benchmark (callgrind runs one thread at a time) on a side.

    The side's interpreter must be of this one's version of Python, which the module of `hooks` is
    made for. InputError if valgrind is missing, or the benchmark fails under it.
    """
    require()
    module = hooks()
    with tempfile.TemporaryDirectory(prefix="coffea-callgrind-") as scratch:
        out = Path(scratch) / "callgrind.out"
        valgrind = [
            "valgrind",
            "--tool=callgrind",
            "--quiet",
            "--instr-atstart=no",
            "--cache-sim=no",
            f"--callgrind-out-file={out}",
        ]
        opening = {
            "name": benchmark.name,
            "spec": benchmark.spec,
            "result": str(Path(scratch) / "result.npz"),
        }
        try:
            # Compiled for that CPU first: under valgrind this takes fifty times as long.
            with Process(side, 0, environ=CPU) as process:
                process.call("open", **opening)
            with Process(side, 0, valgrind, CPU) as process:
                process.call("open", **opening)
                process.call("freeze_gc")
                process.call("count", name=benchmark.name, calls=calls, hooks=str(module))
        except ProcessError as error:
            msg = f"{benchmark.name} cannot be counted on {side.name}: {error}"
            raise InputError(msg) from error
        dumps = sorted(Path(scratch).glob("callgrind.out.*"), key=_number)
        counts = tuple(total for path in dumps if (total := _total(path)) is not None)
    if len(counts) != calls:
        msg = f"{benchmark.name}: callgrind counted {len(counts)} calls, not {calls}"
        raise InputError(msg)
    return counts


def _total(path: Path) -> int | None:
    """Instructions of a dump; None for the dump at the end of the process."""
    text = path.read_text(errors="replace")
    total = _TOTAL.search(text)
    return int(total.group(1)) if total and "Client Request" in text else None


def _number(path: Path) -> int:
    return int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0


def counted(benchmark: Benchmark, a: Side, b: Side) -> tuple[Counts | str, Counts | str]:
    """Counts of both sides; the reason where it fails."""

    def of_side(side: Side) -> Counts | str:
        try:
            return count(benchmark, side)
        except InputError as error:
            return str(error)

    return of_side(a), of_side(b)
