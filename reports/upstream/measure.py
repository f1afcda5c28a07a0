"""Measure what a change of another project is worth: before and after, in turns.

    python measure.py [NAME ...] [--quick] [--write]

Each folder beside this file has a `reproduce.py`. `make(folder, quick)` writes data, if any, and the
generator `turns(folder, side)` does the same work again and again, and gives what it cost and its
result. Every side works in a process of its own. The side with the change has `change.patch`
applied to the installed package while it is imported; no installed file is written. Results are
compared first; then every round gives each side a turn, in random order.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import CodeType, ModuleType

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))  # as with PYTHONSAFEPATH
PAIRS = 3
"""Of processes, one for each side: where a process has its memory makes some per cent."""
ROUNDS = 9
SECONDS = 4.0
"""Rounds of a pair, and seconds after which it begins none but the first three."""
CONFIDENCE = 0.99
RESAMPLES = 2_000
ROW = re.compile(
    r"^(\w+) +.{64} (.{10}) +([\d.]+) +([\d.]+)  (\S.*?) +\d+ +\d+ +\d+$", re.MULTILINE
)
HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
PACKAGES = (
    *("uproot", "awkward", "coffea", "distributed", "loky", "pyarrow", "numpy"),
    *("cramjam", "zstandard", "lz4", "isal", "deflate", "zlib-ng", "backports.zstd"),
)


SIDES = ("before", "after")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Give the milliseconds of CPU of a call, in all threads of this process, and its result."""
    gc.collect()
    begin = time.process_time()
    result = call()
    return (time.process_time() - begin) * 1e3, result


def nanoaod(
    path: Path, events: int, compression: object, *, baskets: int = 8, flags: int = 0
) -> None:
    """Write made-up NanoAOD: three collections, a few columns, and flags as of triggers."""
    import awkward as ak
    import uproot

    rng = np.random.default_rng(1)

    def numbers(size: int) -> Any:
        # NanoAOD keeps 10 bits of a mantissa.
        drawn = rng.exponential(30.0, size).astype(np.float32)
        return (drawn.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)

    def collection(count: int, mean: float) -> Any:
        each = rng.poisson(mean, count)
        total = int(each.sum())
        columns: dict[str, Any] = {
            name: numbers(total) for name in ("pt", "eta", "phi", "mass", "btag")
        }
        columns["quality"] = rng.choice(np.array([-1, 1], np.int32), total)
        return ak.unflatten(ak.zip(columns), each)

    def part(count: int) -> dict[str, Any]:
        means = {"Jet": 8.0, "Muon": 1.0, "Electron": 0.7}
        return {
            **{name: collection(count, mean) for name, mean in means.items()},
            "MET_pt": numbers(count),
            "MET_phi": numbers(count),
            "run": np.ones(count, np.uint32),
            "luminosityBlock": np.ones(count, np.uint32),
            "event": np.arange(count, dtype=np.uint64),
            **{f"HLT_path{number}": rng.random(count) < 0.01 for number in range(flags)},
        }

    with uproot.recreate(path, compression=compression) as file:
        tree = file.mktree("Events", part(events // baskets))
        for _ in range(baskets - 1):
            tree.extend(part(events // baskets))


def patched(source: str, diff: Sequence[str]) -> str:
    """Apply the hunks of one file to its text, or say that they are not of this text."""
    old = source.splitlines()
    new: list[str] = []
    at = 0
    for line in diff:
        if begin := HUNK.match(line):
            new += old[at : int(begin[1]) - 1]
            at = int(begin[1]) - 1
        elif line[:1] == "+":
            new.append(line[1:])
        else:
            if old[at] != line[1:]:
                msg = (
                    f"the patch expects {line[1:]!r} in line {at + 1}, where there is {old[at]!r}"
                )
                raise ValueError(msg)
            new += old[at : at + 1] if line[:1] == " " else []
            at += 1
    return "\n".join([*new, *old[at:], ""])


def hunks(patch: Path) -> dict[str, list[str]]:
    """Give the hunks of a patch by the module that they change."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in patch.read_text().splitlines():
        if line.startswith("--- a/"):
            name = line[6:].removeprefix("src/").removesuffix(".py").replace("/", ".")
        elif not line.startswith("+++ b/"):
            found.setdefault(name, []).append(line)
    return found


class Patched(SourceFileLoader):
    """Compiles a module with a change, past the cache of compiled files."""

    diff: Sequence[str] = ()

    def get_code(self, _fullname: str) -> CodeType:
        """Compile the changed text."""
        text = patched(Path(self.path).read_text(), self.diff)
        return compile(text, self.path, "exec", dont_inherit=True)


class Change:
    """Finder of modules that a patch changes."""

    def __init__(self, patch: Path) -> None:
        self.hunks = hunks(patch)

    def find_spec(
        self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find such a module where it is installed."""
        if name not in self.hunks:
            return None
        found = PathFinder.find_spec(name, path)
        if found is None or found.origin is None:
            return None
        loader = Patched(name, found.origin)
        loader.diff = self.hunks[name]
        return importlib.util.spec_from_file_location(name, found.origin, loader=loader)


def digest(result: Any) -> str:
    """Digest results, of which equal ones have equal digests.

    Without copies: what the allocator learns of them would change what is measured.
    """
    if hasattr(result, "layout"):
        import awkward as ak

        form, length, buffers = ak.to_buffers(result)
        return digest([form.to_json(), length, buffers])
    if isinstance(result, Mapping):
        return digest([(name, digest(result[name])) for name in sorted(result)])
    if isinstance(result, list | tuple):
        return digest("".join(map(digest, result)))
    if isinstance(result, np.ndarray):
        whole = hashlib.sha256(f"{result.dtype}{result.shape}".encode())
        whole.update(np.ascontiguousarray(result).data)
    else:
        whole = hashlib.sha256(repr(result).encode())
    return whole.hexdigest()


def work(name: str, side: str, folder: Path) -> None:
    """Do a turn for each line of standard input, and answer with its cost and the result."""
    # What libraries print goes to standard error.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        patch = HERE / name / "change.patch"
        if side == "after" and patch.exists():
            sys.meta_path.insert(0, Change(patch))
        turns = importlib.import_module(f"{name}.reproduce").turns(folder, side)
        with contextlib.closing(turns):
            for _ in sys.stdin:
                begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                cost, result = next(turns)
                faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin
                print(json.dumps([digest(result), cost, faults]), file=answers, flush=True)
                del result


def ratio(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """Median of ratios of the rounds, and an interval at CONFIDENCE by the bootstrap."""
    each = np.asarray(after) / np.asarray(before)
    drawn = np.random.default_rng(1).choice(each, size=(RESAMPLES, len(each)))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.median(drawn, axis=1), [tail, 100 - tail])
    return float(np.median(each)), float(low), float(high)


Turn = tuple[str, float, float]
"""Digest of the result, cost, and page faults."""


def pair(name: str, folder: Path, rounds: int, seed: int) -> Iterator[dict[str, Turn]]:
    """Start a process for each side and give turns of rounds, the first of which warms up."""
    # What the allocator is told outside would be part of what is measured, and coffea orders
    # collections by the hashes of their names.
    environment = {one: value for one, value in os.environ.items() if "MALLOC" not in one}
    environment["PYTHONHASHSEED"] = "0"
    command = [sys.executable, __file__, name, "--folder", str(folder), "--side"]
    with contextlib.ExitStack() as stack:
        workers = {
            side: stack.enter_context(
                subprocess.Popen(
                    [*command, side],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )
            for side in SIDES
        }

        def turn(side: str) -> Turn:
            asked, answered = workers[side].stdin, workers[side].stdout
            assert asked is not None
            assert answered is not None
            asked.write("turn\n")
            asked.flush()
            result, cost, faults = json.loads(answered.readline() or f'["{side} failed", 0, 0]')
            return result, cost, faults

        rng = np.random.default_rng(seed)
        begin = time.monotonic()
        for number in range(rounds + 1):
            if number > 3 and time.monotonic() - begin > SECONDS:
                break
            yield {str(side): turn(side) for side in rng.permutation(SIDES)}
        for worker in workers.values():
            worker.communicate()


def turns_of(name: str, folder: Path, *, quick: bool) -> dict[str, list[Turn]]:
    """Give the turns of all rounds, whose results are equal."""
    found: dict[str, list[Turn]] = {side: [] for side in SIDES}
    results: set[str] = set()
    for seed in range(1 if quick else PAIRS):
        for number, turns in enumerate(pair(name, folder, 3 if quick else ROUNDS, seed)):
            results |= {turn[0] for turn in turns.values()}
            if len(results) > 1:
                msg = f"{name}: results differ: {turns}"
                raise RuntimeError(msg)
            for side in SIDES if number else ():
                found[side].append(turns[side])
    return found


def lines(name: str, *, quick: bool) -> Iterator[str]:
    """Reproduce one finding and give its lines of the table."""
    try:
        module = importlib.import_module(f"{name}.reproduce")
    except ModuleNotFoundError as error:
        yield f"{name:<18} not installed: {error.name}"
        return
    with tempfile.TemporaryDirectory(prefix="upstream-") as folder:
        if hasattr(module, "table"):
            yield from module.table(Path(folder), quick=quick)
            return
        if hasattr(module, "make"):
            module.make(Path(folder), quick=quick)
        found = turns_of(name, Path(folder), quick=quick)
    costs = {side: [turn[1] for turn in turns] for side, turns in found.items()}
    over = ratio(costs["before"], costs["after"]) if min(costs["before"]) > 0 else None
    medians = [float(np.median(costs[side])) for side in SIDES]
    faults = [int(np.median([turn[2] for turn in found[side]])) for side in SIDES]
    yield row(
        name, module.WHAT, module.UNIT, medians, over, rounds=len(found["before"]), faults=faults
    )


def row(
    name: str,
    what: str,
    unit: str,
    costs: Sequence[float],
    over: tuple[float, float, float] | None,
    *,
    rounds: int,
    faults: Sequence[int],
) -> str:
    """Give a row of the table, which `ROW` reads."""
    told = "{:.3f} ({:.3f} to {:.3f})".format(*over) if over else "-"
    return (
        f"{name:<18} {what:<64} {unit:<10} {costs[0]:>8.1f} {costs[1]:>8.1f}  {told:<22} "
        f"{rounds:>6} {faults[0]:>8} {faults[1]:>8}"
    )


def heading() -> Iterator[str]:
    """Say where and with what, and what the columns are."""
    cpu = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else None
    kind = model[1] if model else platform.machine()
    yield f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} x {kind}"
    versions = []
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    yield ", ".join(versions)
    yield (
        "Results are equal. Medians of the rounds; after over before with an interval of 99 %; "
        "page faults of a turn before and after."
    )
    yield ""
    yield (
        f"{'finding':<18} {'what is done':<64} {'unit':<10} {'before':>8} {'after':>8}"
        f"  {'after/before':<22} rounds   faults before, after"
    )


def write(measured: str) -> None:
    """Keep what was measured, and put effects into the table of the page."""
    (HERE / "measured.txt").write_text(measured)
    page = HERE / "README.md"
    text = page.read_text()
    for name, unit, before, after, over in ROW.findall(measured):
        effect = f"{before} to {after} {unit.strip()}" + (f": {over}" if over != "-" else "")
        cell = re.compile(rf"(\({name}/README\.md\).*\| )[^|]*( \|)$", re.MULTILINE)
        text = cell.sub(rf"\g<1>{effect}\g<2>", text)
    page.write_text(text)


def main() -> None:
    """Reproduce the findings that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a folder; all, if none is named")
    parser.add_argument("--quick", action="store_true", help="little data and three rounds")
    parser.add_argument("--write", action="store_true", help="to measured.txt and README.md")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write and asked.names:
        parser.error("what is written is the table of all findings: name none with --write")
    if asked.side:
        work(asked.names[0], asked.side, asked.folder)
        return
    names = asked.names or sorted(one.parent.name for one in HERE.glob("*/reproduce.py"))
    printed = []
    for line in chain(heading(), *(lines(name, quick=asked.quick) for name in names)):
        print(line, flush=True)
        printed.append(line)
    if asked.write:
        write("\n".join([*printed, ""]))


if __name__ == "__main__":
    main()
