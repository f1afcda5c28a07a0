"""Instructions that a benchmark takes, counted by valgrind's callgrind.

The count does not depend on what else the machine does: of a compiled kernel it is the same each
time, of a columnar one to some tenths of a percent. It is not time: what waits for memory takes
few instructions. Callgrind is switched on around one call by what pytest-codspeed has for it,
loaded by itself: neither pytest nor codspeed's service is needed for that.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from analysis.errors import InputError
from perf.compare.session import Process, WorkerError

if TYPE_CHECKING:
    from perf.compare.session import Benchmark, Side

CALLS: Final = 3
"""Counted one by one: of columnar code each takes a different number, by the state of its
caches and dictionaries."""

CPU: Final = {
    # The code that is counted must not depend on the machine, nor be more than valgrind knows.
    "NUMBA_CPU_NAME": "x86-64-v3",
    "NUMBA_CPU_FEATURES": "",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}

_TOTAL: Final = re.compile(r"^totals: (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Counts:
    """What was counted.

    Attributes
    ----------
    calls
        Instructions of each of some calls.
    """

    calls: tuple[int, ...]

    @property
    def instructions(self) -> int:
        """Of a call: the median."""
        return round(statistics.median(self.calls))


def missing() -> str | None:
    """Why nothing can be counted here; None if it can."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed: `make valgrind` on Debian"
    if hooks() is None:
        return "pytest-codspeed is not installed: `pip install pytest-codspeed`"
    return None


def require() -> None:
    """Raise InputError if nothing can be counted here."""
    if (why := missing()) is not None:
        msg = f"instructions cannot be counted: {why}"
        raise InputError(msg)


def hooks() -> Path | None:
    """The compiled module by which pytest-codspeed talks to callgrind; None without it."""
    spec = importlib.util.find_spec("pytest_codspeed")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "instruments" / "hooks"
    return next(iter(sorted(folder.glob("dist_instrument_hooks.*.so"))), None)


def count(benchmark: Benchmark, of: Side, calls: int = CALLS) -> Counts:
    """Count a benchmark on one side.

    Parameters
    ----------
    benchmark
        Single-threaded: callgrind runs one thread at a time.
    of
        Side. Its interpreter must be of the same version of Python as this one, for which the
        module of `hooks` is made.
    calls
        How many to count.

    Raises
    ------
    InputError
        If valgrind is not there, or the benchmark fails under it.
    """
    require()
    module = hooks()
    with tempfile.TemporaryDirectory(prefix="coffea-callgrind-") as made:
        out = Path(made) / "callgrind.out"
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
            "result": str(Path(made) / "result.npz"),
        }
        try:
            # Compiled for that CPU without valgrind, under which it takes fifty times as long.
            with Process(of, 0, environ=CPU) as process:
                process.call("open", **opening)
            with Process(of, 0, valgrind, CPU) as process:
                process.call("open", **opening)
                process.call("settle")
                process.call("count", name=benchmark.name, calls=calls, hooks=str(module))
        except WorkerError as error:
            msg = f"{benchmark.name} cannot be counted on {of.name}: {error}"
            raise InputError(msg) from error
        dumps = sorted(Path(made).glob("callgrind.out.*"), key=_number)
        counts = tuple(one for path in dumps if (one := _total(path)) is not None)
    if len(counts) != calls:
        msg = f"{benchmark.name}: callgrind counted {len(counts)} calls, not {calls}"
        raise InputError(msg)
    return Counts(counts)


def _total(path: Path) -> int | None:
    """Instructions of a dump; None if it is not of a call, but of the end of the process."""
    text = path.read_text(errors="replace")
    found = _TOTAL.search(text)
    return int(found.group(1)) if found and "Client Request" in text else None


def _number(path: Path) -> int:
    return int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0


def counted(benchmark: Benchmark, a: Side, b: Side) -> tuple[Counts | str, Counts | str]:
    """Counts of both sides; of a side where that fails the reason."""

    def one(of: Side) -> Counts | str:
        try:
            return count(benchmark, of)
        except InputError as error:
            return str(error)

    return one(a), one(b)
