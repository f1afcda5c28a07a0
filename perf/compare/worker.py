"""The process that `compare` starts in a side's environment: opens benchmarks and calls them.

This file is run as a script by an interpreter that has coffea, awkward and numba of any version
and nothing of this project, so it imports no more than it must. It reads a command a line, in
JSON, and answers each with a line. It ends when its input or its parent ends.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import hashlib
import importlib
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# What is imported late is measured, or of packages that a side need not have.
# ruff: noqa: PLC0415

COPIES: Final = 8
"""Copies of the arguments of a kernel in each process."""

PR_SET_PDEATHSIG: Final = 1
"""Option of Linux: a signal when the parent ends (prctl(2))."""

DISPLACEMENTS: Final = 512
"""Most blocks of memory that a process takes and never uses: half a megabyte, on average."""

PAGE: Final = 4096
ALIGNMENT: Final = 16
"""Bytes of a page of memory, and alignment in bytes of what malloc returns."""

LAYOUT: Final = "COFFEA_SCALING_LAYOUT"
"""Variable that makes layouts in memory the same in every process; without it each draws its own."""

WAIT_SECONDS: Final = 0.1
"""Longest sample in wall seconds, unless one call is longer."""

WARM_CALLS: Final = 2
"""Calls before those whose instructions are counted: caches are filled then."""

PREFIX: Final = "bench_"
"""Prefix of the names of functions that are benchmarks of a user's file."""


def _imported(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# As a script it uses the module of its own checkout, whatever `perf` a side has.
plain: Any = (
    importlib.import_module("perf.records.plain")
    if __name__ == "perf.compare.worker"
    else _imported("plain_of_compare", Path(__file__).parents[1] / "records" / "plain.py")
)

FORMS: Final = ("Histogram", "Rows", "State")
"""Classes of `plain`."""


# --- values as arrays, which both environments can read


def dump(value: Any, path: Path) -> str:
    """Write whatever a processor may return as plain arrays (.npz); returns their SHA-256.

    TypeError if the value holds an object that cannot be pickled either.
    """
    import numpy as np

    arrays: dict[str, Any] = {}
    tree = json.dumps(_plain(value, arrays))
    digest = hashlib.sha256(tree.encode())
    for array in arrays.values():
        digest.update(str(array.dtype).encode() + np.ascontiguousarray(array).tobytes())
    with path.open("wb") as file:
        np.savez(file, tree=np.array(tree), **arrays)
    return digest.hexdigest()


def load(path: Path, copies: int = 1) -> list[Any]:
    """Read copies of what `dump` wrote, each elsewhere in memory.

    The classes of `plain` stand for those of packages.
    """
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        tree = json.loads(str(file["tree"]))
        arrays = {name: file[name] for name in file.files if name != "tree"}
    return [
        _rebuilt(tree, {name: _elsewhere(array) for name, array in arrays.items()})
        for _ in range(copies)
    ]


def _elsewhere(array: Any) -> Any:
    """A copy that begins anywhere in a page, aligned like malloc's.

    Where arrays lie relative to each other changes the time of a loop by several percent, as long
    as a process lives. With several copies in each process this averages out.
    """
    import numpy as np

    room = np.empty(array.nbytes + PAGE, np.uint8)
    begin = random.randrange(0, PAGE, ALIGNMENT)
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def displaced() -> list[bytes]:
    """Blocks of memory: while they are kept, what is allocated lies elsewhere in its page.

    Otherwise it is at the same place in every process of an environment.
    """
    return [bytes(random.randrange(PAGE)) for _ in range(random.randrange(DISPLACEMENTS))]


def _plain(value: Any, arrays: dict[str, Any]) -> Any:  # noqa: PLR0911  (kinds of value)
    import numpy as np

    def stored(array: Any) -> str:
        name = f"a{len(arrays)}"
        arrays[name] = np.asarray(array, order="C")
        return name

    def entries(values: Any) -> list[Any]:
        return [_plain(entry, arrays) for entry in values]

    if value is None or isinstance(value, bool | int | float | str):
        return {"is": "value", "value": value}
    try:
        value = plain.plain(value)
    except TypeError:
        msg = f"a {type(value).__name__} cannot be compared: return arrays, histograms or numbers"
        raise TypeError(msg) from None
    kind = type(value).__name__
    if kind in FORMS:
        return {"is": kind, "of": entries(value)}
    if isinstance(value, list | tuple):
        return {"is": kind, "of": entries(value)}
    if isinstance(value, set):
        return {"is": "set", "of": entries(sorted(value, key=repr))}
    if isinstance(value, dict):
        pairs = [[str(key), _plain(value[key], arrays)] for key in sorted(value, key=str)]
        return {"is": "dict", "of": pairs}
    if isinstance(value, bytes | complex):
        return {"is": "array", "name": stored(np.array(value))}
    if isinstance(value, np.ndarray | np.generic):
        if not np.asarray(value).dtype.hasobject:
            return {"is": "array", "name": stored(value)}
        return {"is": "tuple", "of": entries(np.asarray(value).ravel())}
    import awkward as ak

    packed = ak.to_packed(value) if hasattr(ak, "to_packed") else ak.packed(value)
    packed = ak.without_parameters(packed)
    form, length, buffers = ak.to_buffers(packed)
    text = form.to_json() if hasattr(form, "to_json") else form.tojson()
    names = {key: stored(buffers[key]) for key in sorted(buffers)}
    return {"is": "awkward", "form": text, "length": int(length), "buffers": names}


def _rebuilt(node: dict[str, Any], file: dict[str, Any]) -> Any:
    match node["is"]:
        case "value":
            return node["value"]
        case "list" | "tuple" | "set" as kind:
            return {"list": list, "tuple": tuple, "set": set}[kind](
                _rebuilt(entry, file) for entry in node["of"]
            )
        case "dict":
            return {key: _rebuilt(entry, file) for key, entry in node["of"]}
        case "array":
            return file[node["name"]]
        case "awkward":
            import awkward as ak

            buffers = {key: file[name] for key, name in node["buffers"].items()}
            return ak.from_buffers(node["form"], node["length"], buffers)
        case form:
            return getattr(plain, form)(*(_rebuilt(entry, file) for entry in node["of"]))


# --- the benchmarks


class Opened(NamedTuple):
    """A benchmark that can be called."""

    calls: list[Callable[[], Any]]
    """Each with a copy of the input of its own."""
    compared: Callable[[Any], Any] = lambda result: result
    """Part of a result that is compared with that of the other side."""


def kernel(spec: dict[str, Any]) -> Opened:
    """A kernel of this side's `analysis`, on copies of arguments from a file."""
    from functools import partial

    from analysis.kernels import KERNELS

    run = KERNELS[spec["kernel"]].run
    return Opened(
        [
            partial(run, spec["implementation"], *arguments)
            for arguments in load(Path(spec["arguments"]), COPIES)
        ]
    )


def workload(spec: dict[str, Any]) -> Opened:
    """A workload of the history, which any version of coffea can run."""
    import contextlib
    import warnings

    # Ours, whatever `analysis` this side has: the measuring code is the same on both sides.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    try:
        from perf.history import workloads
    finally:
        del sys.path[0]
    warnings.simplefilter("ignore")
    close = contextlib.ExitStack()
    atexit.register(close.close)
    (chosen,) = (one for one in workloads.WORKLOADS if one.name == spec["workload"])
    ready = workloads.ready(
        chosen,
        spec["path"],
        chunksize=spec["chunksize"],
        workers=spec["workers"],
        close=close,
    )
    return Opened([ready.run], ready.digest)


def function(spec: dict[str, Any]) -> Opened:
    """A function of a user's file of benchmarks."""
    os.environ.update(spec["environ"])
    sys.path += [folder for folder in spec["path"] if folder not in sys.path]
    name = "benchmarks_to_compare"
    module = sys.modules.get(name) or _imported(name, Path(spec["file"]))
    return Opened([getattr(module, spec["function"])])


KINDS: Final[dict[str, Callable[[dict[str, Any]], Opened]]] = {
    "kernel": kernel,
    "workload": workload,
    "function": function,
}


class Worker:
    """The benchmarks of one process."""

    def __init__(self) -> None:
        random.seed(os.environ.get(LAYOUT))
        self.displacing = displaced()
        self.calls: dict[str, list[Callable[[], Any]]] = {}

    def open(self, name: str, spec: dict[str, Any], result: str) -> dict[str, Any]:
        """Make a benchmark ready and call it once, so that it is compiled."""
        opened = KINDS[spec["kind"]](spec)
        digest = dump(opened.compared(opened.calls[0]()), Path(result))
        self.calls[name] = opened.calls
        return {"digest": digest}

    def freeze_gc(self) -> dict[str, Any]:
        """Exclude existing objects from garbage collections, which come at any moment."""
        gc.collect()
        gc.freeze()
        gc.disable()
        return {}

    def plan(self, name: str, seconds: float) -> dict[str, Any]:
        """Number of calls that take so many seconds of CPU time, at least one.

        Calls that use hardly any CPU time are as many as fit into WAIT_SECONDS.
        """
        loops = 1
        while True:
            took = self.run(name, loops)
            used, waited = took["cpu"], took["wall"]
            if used >= seconds / 2 or waited >= WAIT_SECONDS:
                most = int(loops * WAIT_SECONDS / waited)
                wanted = round(loops * seconds / used) if used > 0 else most
                return {
                    "loops": max(1, min(wanted, most)),
                    "cpu": max(used, seconds) / loops,
                    "wall": waited / loops,
                }
            loops = max(2 * loops, min(100 * loops, int(loops * seconds / max(used, 1e-7))))

    def run(self, name: str, loops: int, turn: int = 0) -> dict[str, Any]:
        """Seconds of so many calls; each turn has its copy of the arguments."""
        copies = self.calls[name]
        call = copies[turn % len(copies)]
        gc.collect()
        turns = range(loops)
        cpu, wall = _cpu_seconds(), time.perf_counter()
        for _ in turns:
            call()
        wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
        # Within a step of the clock the difference is zero, which has no ratio.
        return {"cpu": max(cpu, 1e-9), "wall": max(wall, 1e-9)}

    def count(self, name: str, calls: int, hooks: str) -> dict[str, Any]:
        """Have callgrind, which must run this process, count so many calls one by one."""
        spec = importlib.util.spec_from_file_location("dist_instrument_hooks", hooks)
        assert spec is not None
        assert spec.loader is not None
        callgrind = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(callgrind)
        instance = callgrind.instrument_hooks_init()
        callgrind.instrument_hooks_set_feature(callgrind.FEATURE_DISABLE_CALLGRIND_MARKERS, True)  # noqa: FBT003  (of C)
        call = self.calls[name][0]
        for _ in range(WARM_CALLS):
            call()
        for _ in range(calls):
            callgrind.instrument_hooks_start_benchmark(instance)
            callgrind.callgrind_start_instrumentation()
            call()
            callgrind.callgrind_stop_instrumentation()
            callgrind.instrument_hooks_stop_benchmark(instance)
            callgrind.instrument_hooks_set_executed_benchmark(instance, os.getpid(), b"call")
        return {}


def _cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended, as those of a pool do."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def main() -> None:
    """Answer commands until the input ends."""
    if sys.platform == "linux":
        # Its input may end during an endless call: the process must not outlive its parent either.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Whatever a benchmark prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    commands = sys.stdin
    worker = Worker()
    for line in commands:
        command: dict[str, Any] = json.loads(line)
        try:
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception as error:  # noqa: BLE001  (whatever fails is told to the parent)
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
