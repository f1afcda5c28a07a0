"""What both sides run: kernels, workloads of the history, a processor, or a user's functions."""

from __future__ import annotations

import ast
import json
import math
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.errors import InputError
from perf.compare import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from perf.records.difference import Arithmetic

# What takes seconds to import is imported where it is used.
# ruff: noqa: PLC0415

SIZE: Final = 10_000
"""Events of the kernels: calls of tenths of milliseconds to milliseconds."""

KERNELS: Final = (
    "electrons-columnar",
    "jets-columnar",
    "jets-compiled",
    "cleaning-compiled",
    "pair_mass-columnar",
    "pair_mass-compiled",
    "trijet_pt-compiled",
    "transverse_mass-columnar",
    "ht-columnar",
    "ht-compiled",
    "btag_weights-columnar",
)
"""Kernels that are compared by default: each way of going through the objects of events. Most are
decided within three minutes, beside two busy processes too; z_pair-compiled, which takes 5 % more
or less from process to process, never was. --only 'KERNEL-*' chooses among all."""

WORKLOADS: Final = ("open-virtual", "read-virtual", "fill", "adl-4", "adl-8", "ttbar-one-core")
"""Workloads of the history that are compared by default: coffea's own code, which the kernels do
not use."""

EXECUTORS: Final = ("ttbar-futures", "ttbar-dask")
"""Workloads of the history that are compared by default with several workers."""

POOLS: Final = ("futures", "dask", "compute")
"""Executors that have workers; `perf.history.compat` has them too, and imports coffea."""

CHUNK: Final = 100_000
CHUNKS: Final = 4
"""Most events of a chunk of a processor, and least chunks for each of several workers."""

PROCESSOR_SUITE: Final = Path(__file__).with_name("processor_suite.py")
JOB_VARIABLE: Final = "COFFEA_SCALING_JOB"
PROCESSOR_VARIABLE: Final = "COFFEA_SCALING_PROCESSOR"
"""Benchmark of a processor, and the environment variables that tell it what to read and to run."""

PROCESSOR_EVENTS: Final = 50_000


@dataclass(frozen=True)
class Benchmark:
    """A call that both sides can make."""

    name: str
    spec: Mapping[str, Any]
    """What `perf.compare.worker` makes the call of."""
    difference: Callable[[Any, Any], str | None]
    """Where two results differ, as a clause; None if they are equal."""
    workers: int = 1
    """Workers that share the work of a call: with several its wall time is judged too."""


def kernels(
    folder: Path, data: Path, patterns: Sequence[str], size: int = SIZE
) -> list[Benchmark]:
    """Kernels whose names, as "ht-compiled", match one of the shell's patterns.

    Their arguments, columns of the synthetic events in `data`, are written to `folder` once for
    all versions.
    """
    from analysis import kernels as registry
    from perf.cases.case import VECTORISED
    from perf.cases.data import Store

    store = Store(data)
    every = {f"{name}-{how}": (name, how) for name in registry.KERNELS for how in VECTORISED}
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in every):
            msg = f"there is no benchmark {pattern!r}: there are {', '.join(every)}"
            raise InputError(msg)
    benchmarks = []
    for full, (name, how) in every.items():
        if not _matches(full, patterns):
            continue
        kernel = registry.KERNELS[name]
        events = (store.dense if kernel.dense else store.events)(size)
        arguments, path = kernel.arguments(events.columns), folder / f"{name}.npz"
        if not path.exists():
            worker.dump(arguments, path)

        def difference(
            got: Any,
            want: Any,
            kernel: registry.Kernel = kernel,
            arguments: tuple[Any, ...] = arguments,
        ) -> str | None:
            return None if kernel.agree(got, want, *arguments) else "they differ"

        spec = {
            "kind": "kernel",
            "kernel": name,
            "implementation": how,
            "arguments": str(path),
        }
        benchmarks.append(Benchmark(full, spec, difference))
    return benchmarks


def default(
    folder: Path, data: Path, patterns: Sequence[str] | None, workers: int = 1
) -> list[Benchmark]:
    """Workloads of the history and kernels: those that match patterns, or a choice without any.

    With several workers those of executors, which `workers` processes run, are among them.
    """
    if patterns is None and workers == 1:
        return [*workloads(data, WORKLOADS), *kernels(folder, data, KERNELS)]
    if patterns is None:
        patterns = EXECUTORS
    chosen = workloads(data, patterns, workers)
    rest = [
        pattern for pattern in patterns if not any(fnmatch(one.name, pattern) for one in chosen)
    ]
    return [*chosen, *(kernels(folder, data, rest) if rest else [])]


def workloads(data: Path, patterns: Sequence[str], workers: int = 1) -> list[Benchmark]:
    """Workloads of the history, without the kernels, and without executors for one worker."""
    from perf.history.workloads import WORKLOADS as EVERY

    chosen = []
    for workload in EVERY:
        if workload.kind in {"import", "kernel"} or not _matches(workload.name, patterns):
            continue
        shared = workload.detail in POOLS
        if workload.group == "executors" and not (shared and workers > 1):
            continue
        events, used = (PROCESSOR_EVENTS, workers) if shared else (SIZE, 1)
        spec = {
            "kind": "workload",
            "workload": workload.name,
            "path": _file(data, events),
            "chunksize": events // (CHUNKS * workers) if shared else events,
            "workers": used,
        }
        chosen.append(Benchmark(workload.name, spec, _difference, used))
    return chosen


def processors(
    data: Path,
    fileset: Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    schema: str = "NanoAODSchema",
    tree: str = "Events",
    workers: int = 1,
) -> list[Benchmark]:
    """The processor that each side names in PROCESSOR_VARIABLE, in so many worker processes.

    It reads a file set, or a file of synthetic events; the other parameters are those of
    `analysis.runner.job.Job.of_processor`.
    """
    from analysis.files import inspection
    from analysis.files.fileset import FileSet, read_fileset
    from perf.records.difference import Arithmetic

    if fileset is None:
        metadata = {"process": "ttbar", "variation": "nominal", "xsec": 729.84}
        sample = {"files": {_file(data, PROCESSOR_EVENTS): "Events"}, "metadata": metadata}
        files = FileSet.of({"ttbar__nominal": sample})
    else:
        files = read_fileset(fileset, analysis=False, tree=tree)
    job = {
        "fileset": {name: files[name] for name in files},
        "format": files.data_format,
        "arguments": arguments or {},
        "schema": schema,
        "workers": workers,
        "chunksize": CHUNK,
    }
    events = sum(one.selected for one in inspection.inspect(files, []))
    if workers > 1:
        job["chunksize"] = min(CHUNK, math.ceil(events / (CHUNKS * workers)))
    # NanoAOD is of single precision; both sides read the same chunks.
    arithmetic = Arithmetic(events, single=True)
    return [
        replace(benchmark, difference=partial(_difference, arithmetic=arithmetic))
        for benchmark in functions(
            PROCESSOR_SUITE, environ={JOB_VARIABLE: json.dumps(job)}, workers=workers
        )
    ]


def _file(data: Path, events: int) -> str:
    """Path of a file of so many synthetic events."""
    from perf.cases.data import Store

    (sample,) = Store(data, events).fileset(events).values()
    return str(Path(next(iter(sample["files"]))).resolve())


def functions(
    path: Path,
    patterns: Sequence[str] = ("*",),
    environ: Mapping[str, str] | None = None,
    workers: int = 1,
) -> list[Benchmark]:
    """Functions bench_... without arguments of a user's Python file, which use so many workers.

    The file is read here, and run in the environments of both sides with the variables `environ`.
    `patterns` are of names without the prefix.
    """
    prefix = worker.PREFIX
    try:
        tree = ast.parse(path.read_text())
    except (OSError, SyntaxError) as error:
        msg = f"{path} cannot be read as Python: {error}"
        raise InputError(msg) from error
    names = [
        node.name.removeprefix(prefix)
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith(prefix)
    ]
    chosen = [name for name in names if _matches(name, patterns)]
    if not chosen:
        msg = f"{path} has no function {prefix}... of the names wanted: it has {names}"
        raise InputError(msg)
    spec = {
        "kind": "function",
        "file": str(path.resolve()),
        "environ": dict(environ or {}),
        # The environment of a side comes first: its packages are measured.
        "path": [str(path.resolve().parent), *user_path()],
    }
    return [
        Benchmark(name, {**spec, "function": prefix + name}, _difference, workers)
        for name in chosen
    ]


def user_path() -> list[str]:
    """Folders where the user's own modules are: the working folder, and those of PYTHONPATH."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [os.path.abspath(folder) for folder in ["", *named]]  # noqa: PTH100  (of what may be empty)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _difference(got: Any, want: Any, arithmetic: Arithmetic | None = None) -> str | None:
    from perf.records.difference import difference

    return difference(got, want, arithmetic=arithmetic)


@contextmanager
def scratch() -> Iterator[Path]:
    """Folder for the arguments of benchmarks."""
    with tempfile.TemporaryDirectory(prefix="coffea-compare-arguments-") as folder:
        yield Path(folder)
