"""Is B slower than A? Two versions, measured side by side until that can be said.

Each block starts three processes afresh: A, A again and B. They make the same calls in turns, in
random order, each in its environment, and every benchmark's results must be equal on both sides
before a time of it counts. After some blocks `compare_statistics` judges; what it has decided is
not measured any more, and more blocks are made for the rest until the time is up.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import platformdirs
from scipy import stats

from analysis.errors import InputError
from perf.compare import verdict as statistics
from perf.compare import worker
from perf.compare.verdict import Judgement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from perf.records.difference import Arithmetic

ROOT: Final = Path(__file__).resolve().parents[2]
"""Folder that has our `analysis`."""

WORKER: Final = Path(worker.__file__)

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

ACTS: Final = ("open-virtual", "read-virtual", "fill", "adl-4", "adl-8", "ttbar-one-core")
"""Acts of the history that are compared by default: what coffea itself does, which the kernels
do without."""

COFFEA: Final = Path(__file__).with_name("processor_suite.py")
JOB_VARIABLE: Final = "COFFEA_SCALING_JOB"
PROCESSOR_VARIABLE: Final = "COFFEA_SCALING_PROCESSOR"
"""Benchmark of a processor, and the environment variables that tell it what to read and to run."""

PROCESSOR_EVENTS: Final = 50_000

BUDGET: Final = 180.0
"""Seconds of a comparison."""

SAMPLE: Final = 0.0025
"""CPU seconds of one sample, about: shorter than a turn of the scheduler, so that most samples
are not interrupted. A call that is longer is one sample."""

SAMPLES: Final = 0.1
"""CPU seconds of all samples of a benchmark in a process, about; as much as starting it takes
when there are ten benchmarks."""

MOST_ROUNDS: Final = 32
FEWEST_ROUNDS: Final = 4

ARMS: Final = ("A", "A again", "B")

SETTINGS: Final[dict[str, str]] = {
    # One thread: CPU time is then the time of the work, whatever else runs.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}
"""Environment variables of both sides, unless a side sets them."""

DROPPED: Final = ("PYTHONPATH", "PYTHONHOME", "NUMBA_CACHE_DIR", "VIRTUAL_ENV")
"""Environment variables of the user that would mix the environments."""

DEATH_SECONDS: Final = 5.0
"""For a process to end when its input ends."""


@dataclass(frozen=True)
class Side:
    """What is compared.

    Attributes
    ----------
    name
        For people.
    python
        Interpreter of its environment.
    installed
        Versions of the packages in it.
    variables
        Environment variables that it sets.
    source
        Folder that its `analysis` is imported from, and other modules.
    """

    name: str
    python: Path
    installed: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    source: Path = ROOT

    def environ(self, seed: int) -> dict[str, str]:
        """Environment variables of its processes; `seed` of the hashes of text."""
        kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
        return {
            **kept,
            **SETTINGS,
            "PYTHONHASHSEED": str(seed),
            "PYTHONPATH": str(self.source),
            "NUMBA_CACHE_DIR": str(cache_folder() / "numba" / self._code),
            # A user's checkout is read, and nothing is left in it.
            "PYTHONDONTWRITEBYTECODE": "" if self.source == ROOT else "1",
            **self.variables,
        }

    @property
    def _code(self) -> str:
        """Identity of what numba compiles: its cache does not see all that it depends on."""
        parts = [str(self.python), json.dumps(dict(self.installed), sort_keys=True)]
        parts += [
            path.read_text(errors="replace")
            for path in sorted((self.source / "analysis").rglob("*.py"))
        ]
        return hashlib.sha256("\0".join([str(self.source), *parts]).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where machine code and exported sources are kept."""
    return platformdirs.user_cache_path("coffea-scaling") / "compare"


def side(spec: str, variables: Iterable[str] = (), *, stack: str | None = None) -> Side:
    """A side by name.

    Parameters
    ----------
    spec
        What `perf.environments.environment` takes: a release, a commit, a checkout of
        coffea, or "." for what is installed here. Or a commit or checkout of this project, whose
        `analysis` is then measured in the environment that is installed here.
    variables
        KEY=VALUE: environment variables.
    stack
        Pins of everything but coffea.

    Raises
    ------
    InputError
        If there is no such version, or it cannot be installed.
    """
    from perf.environments import environment  # noqa: PLC0415  (with what it needs)

    given: dict[str, str] = {}
    for one in variables:
        name, equals, value = one.partition("=")
        if not (name and equals):
            msg = f"an environment variable is given as KEY=VALUE, not {one!r}"
            raise InputError(msg)
        given[name] = value
    shown = " ".join([spec, *(f"{name}={value}" for name, value in given.items())])
    source = _of_this_project(spec)
    found = environment("." if source else spec, stack=stack if not source else None)
    return Side(shown, found.python, found.installed, given, source or ROOT)


def _of_this_project(spec: str) -> Path | None:
    """Folder of a checkout or commit that has an `analysis` as ours; None if it has not."""
    from perf.environments import git  # noqa: PLC0415  (with what it needs)

    kernels = "analysis/kernels/__init__.py"
    if spec != "." and (Path(spec) / kernels).is_file():
        return Path(spec).resolve()
    ref, at, clone = spec.rpartition("@")
    if not (at and Path(clone).is_dir()):
        return None
    try:
        commit = git(Path(clone), "rev-parse", "--verify", f"{ref}^{{commit}}")
        git(Path(clone), "cat-file", "-e", f"{commit}:{kernels}")
    except InputError:
        # Of coffea then, or of nothing, which whoever looks for it there says.
        return None
    return exported(Path(clone), commit)


def exported(clone: Path, commit: str) -> Path:
    """Folder with the files of a commit, made unless it is there."""
    from perf.environments import git  # noqa: PLC0415  (with what it needs)

    folder = cache_folder() / "sources" / commit
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            tar = Path(made) / "all.tar"
            whole = Path(made) / "files"
            whole.mkdir()
            git(clone, "archive", f"--output={tar}", commit)
            subprocess.run(["tar", "-xf", tar, "-C", whole], check=True)
            try:
                whole.rename(folder)
            except OSError:
                # Another process was faster.
                if not folder.is_dir():
                    raise
    return folder


# --- what is measured


@dataclass(frozen=True)
class Benchmark:
    """One act that both sides can do.

    Attributes
    ----------
    name
        Of it.
    spec
        What `compare_worker` makes it of.
    difference
        Where two results differ, as a clause; None if they are equal.
    """

    name: str
    spec: Mapping[str, Any]
    difference: Callable[[Any, Any], str | None]


def kernels(
    folder: Path, data: Path, patterns: Sequence[str], size: int = SIZE
) -> list[Benchmark]:
    """Kernels of the catalogue on columns that are written once, for all versions to read.

    Parameters
    ----------
    folder
        To write their arguments to.
    data
        Of the synthetic events.
    patterns
        Of names, as "ht-compiled" (shell's).
    size
        Events.

    Raises
    ------
    InputError
        If nothing has one of the names.
    """
    from analysis import kernels as registry  # noqa: PLC0415  (takes seconds)
    from perf.cases.case import VECTORISED  # noqa: PLC0415
    from perf.cases.data import Store  # noqa: PLC0415

    store = Store(data)
    every = {f"{name}-{how}": (name, how) for name in registry.KERNELS for how in VECTORISED}
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in every):
            msg = f"there is no benchmark {pattern!r}: there are {', '.join(every)}"
            raise InputError(msg)
    found = []
    for full, (name, how) in every.items():
        if not any(fnmatch(full, pattern) for pattern in patterns):
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
        found.append(Benchmark(full, spec, difference))
    return found


def default(folder: Path, data: Path, patterns: Sequence[str] | None) -> list[Benchmark]:
    """What is compared unless a user has other wishes: coffea's own acts, and kernels.

    Parameters
    ----------
    folder, data
        As of `kernels`.
    patterns
        Of names among all kernels and the acts of the history; None for a choice.
    """
    if patterns is None:
        return [*acts(data, ACTS), *kernels(folder, data, KERNELS)]
    of_coffea = acts(data, patterns)
    rest = [
        pattern for pattern in patterns if not any(fnmatch(one.name, pattern) for one in of_coffea)
    ]
    return [*of_coffea, *(kernels(folder, data, rest) if rest else [])]


def acts(data: Path, patterns: Sequence[str]) -> list[Benchmark]:
    """Acts of the history that one process does, but for the kernels, which are apart.

    Parameters
    ----------
    data
        Of the synthetic events.
    patterns
        Of names (shell's).
    """
    from perf.history.workloads import ACTS as EVERY  # noqa: PLC0415  (ours is a choice)

    chosen = [
        one.name
        for one in EVERY
        if one.kind not in {"import", "kernel"} and one.group != "executors"
        if any(fnmatch(one.name, pattern) for pattern in patterns)
    ]
    if not chosen:
        return []
    path = _file(data, SIZE)
    return [
        Benchmark(name, {"kind": "act", "act": name, "path": path, "chunksize": SIZE}, _difference)
        for name in chosen
    ]


def processors(
    data: Path,
    fileset: Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    schema: str = "NanoAODSchema",
    tree: str = "Events",
) -> list[Benchmark]:
    """The processor that each side names in PROCESSOR_VARIABLE.

    Parameters
    ----------
    data
        Of the synthetic events.
    fileset
        File set that it processes; by default a file of synthetic events.
    arguments, schema, tree
        As of `analysis.runner.job.Job.of_processor`.

    Raises
    ------
    InputError
        If the file set or a file of it cannot be used.
    """
    from analysis.files import inspection  # noqa: PLC0415  (takes seconds)
    from analysis.files.fileset import FileSet, read_fileset  # noqa: PLC0415
    from perf.records.difference import Arithmetic  # noqa: PLC0415

    if fileset is None:
        metadata = {"process": "ttbar", "variation": "nominal", "xsec": 729.84}
        one = {"files": {_file(data, PROCESSOR_EVENTS): "Events"}, "metadata": metadata}
        files = FileSet.of({"ttbar__nominal": one})
    else:
        files = read_fileset(fileset, analysis=False, tree=tree)
    job = {
        "fileset": {name: files[name] for name in files},
        "format": files.data_format,
        "arguments": arguments or {},
        "schema": schema,
    }
    events = sum(one.selected for one in inspection.inspect(files, []))
    # As NanoAOD is; both sides read the same chunks.
    arithmetic = Arithmetic(events, single=True)
    return [
        replace(one, difference=partial(_difference, arithmetic=arithmetic))
        for one in functions(COFFEA, environ={JOB_VARIABLE: json.dumps(job)})
    ]


def _file(data: Path, events: int) -> str:
    """A file of so many events."""
    from perf.cases.data import Store  # noqa: PLC0415

    (sample,) = Store(data, events).fileset(events).values()
    return str(Path(next(iter(sample["files"]))).resolve())


def functions(
    path: Path, patterns: Sequence[str] = ("*",), environ: Mapping[str, str] | None = None
) -> list[Benchmark]:
    """Functions of a user's file: all whose names begin with bench_, without arguments.

    Parameters
    ----------
    path
        Python file. It is read here and run in the environments of both sides.
    patterns
        Of names without the prefix (shell's).
    environ
        Environment variables that the file reads when it is imported.

    Raises
    ------
    InputError
        If the file has none.
    """
    import ast  # noqa: PLC0415

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
    chosen = [name for name in names if any(fnmatch(name, one) for one in patterns)]
    if not chosen:
        msg = f"{path} has no function {prefix}... of the names wanted: it has {names}"
        raise InputError(msg)
    return [
        Benchmark(
            name,
            {
                "kind": "function",
                "file": str(path.resolve()),
                "function": prefix + name,
                "environ": dict(environ or {}),
                # The environment of a side comes first: what it has is what is measured.
                "path": [str(path.resolve().parent), *user_path()],
            },
            _difference,
        )
        for name in chosen
    ]


def user_path() -> list[str]:
    """Folders where the user's own modules are: the working folder, and those of PYTHONPATH."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [os.path.abspath(one) for one in ["", *named]]  # noqa: PTH100  (of what may be empty)


def _difference(got: Any, want: Any, arithmetic: Arithmetic | None = None) -> str | None:
    from perf.records.difference import difference  # noqa: PLC0415  (imports numpy alone until it must)

    return difference(got, want, arithmetic=arithmetic)


# --- processes


class WorkerError(Exception):
    """A process could not do what it was told."""


class Process:
    """A process of a side, which makes benchmarks ready and calls them when told."""

    def __init__(
        self,
        of: Side,
        seed: int,
        prefix: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        # A pipe that nobody reads would stop who writes much.
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  (see __exit__)
        # Ctrl-C is for us: a session of its own keeps it from the workers, which end with us.
        self._process = subprocess.Popen(
            [*prefix, str(of.python), "-P", "-s", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**of.environ(seed), **(environ or {})},
            start_new_session=True,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError, subprocess.TimeoutExpired):
            process.stdin.close()
            # Whoever presses Ctrl-C does not wait for the end of a call.
            process.wait(timeout=0 if kind else DEATH_SECONDS)
        process.kill()
        process.wait()
        process.stdout.close()
        self._said.close()

    def stay(self, number: int) -> None:
        """Keep the process on one of the cores that it may use, the next for the next number.

        Cores differ, for seconds at a time, by what else runs on the same piece of silicon. On
        one core all arms of a block have the same of it. On Linux.
        """
        with suppress(OSError, AttributeError):
            cores = sorted(os.sched_getaffinity(self._process.pid))
            os.sched_setaffinity(self._process.pid, {cores[number % len(cores)]})

    def ask(self, do: str, **arguments: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `answer` says why

    def answer(self) -> dict[str, Any]:
        """What the last command gave.

        Raises
        ------
        WorkerError
            If it failed, or the process is gone.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._said.seek(0)
            said = self._said.read().strip().splitlines()
            msg = f"the process ended with status {code}" + (f": {said[-1]}" if said else "")
            raise WorkerError(msg)
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise WorkerError(found["error"])
        return found

    def call(self, do: str, **arguments: Any) -> dict[str, Any]:
        """`ask` and `answer`."""
        self.ask(do, **arguments)
        return self.answer()


# --- the comparison


@dataclass
class Measured:
    """One benchmark of a comparison.

    Attributes
    ----------
    benchmark
        Which.
    loops, rounds
        Calls of a sample, and samples of a process: the same of all.
    cpu, wall
        Logarithms of seconds a call, of each block those of A, A again and B.
    judgement
        On CPU time; None before the first look.
    of_wall
        On wall time, for show.
    failure
        Why it was not measured, if it was not.
    """

    benchmark: Benchmark
    loops: int = 1
    rounds: int = 1
    cpu: list[tuple[float, ...]] = field(default_factory=list)
    wall: list[tuple[float, ...]] = field(default_factory=list)
    judgement: Judgement | None = None
    of_wall: Judgement | None = None
    failure: str | None = None

    @property
    def decided(self) -> bool:
        """Whether no more is to be measured."""
        known = self.judgement is not None and self.judgement.outcome != "undecided"
        return known or self.failure is not None

    @property
    def outcome(self) -> str:
        """In words."""
        if self.failure is not None:
            return "not comparable"
        return str(self.judgement) if self.judgement else "undecided"

    def seconds(self, arm: int) -> float:
        """Median of CPU seconds a call of an arm."""
        return float(np.exp(np.median([one[arm] for one in self.cpu])))


@dataclass
class Comparison:
    """A comparison of two sides, with what it has found.

    Attributes
    ----------
    a, b
        The sides.
    measured
        Benchmarks by name.
    seed
        Of the orders and of the bootstrap.
    blocks
        Made so far.
    looks
        At the data so far.
    """

    a: Side
    b: Side
    measured: dict[str, Measured]
    seed: int = 1
    resolution: float = statistics.RESOLUTION
    error: float = statistics.ERROR
    blocks: int = 0
    looks: int = 0
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self._wanted: dict[str, tuple[str, Any]] = {}

    @property
    def elapsed(self) -> float:
        """Seconds that it has taken so far."""
        return (self.ended or time.monotonic()) - self.began

    @property
    def todo(self) -> list[str]:
        """Benchmarks that are undecided."""
        return [name for name, one in self.measured.items() if not one.decided]

    def run(
        self, budget: float = BUDGET, report: Callable[[Comparison], None] = lambda _: None
    ) -> None:
        """Measure until all is decided, or the time is up.

        Parameters
        ----------
        budget
            Seconds, about: no block is begun that would not end in time, but for those before
            the first look.
        report
            Called after each block.
        """
        self.began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="coffea-compare-") as folder:
            self._rehearse(Path(folder))
            looks, longest = statistics.looks(), 0.0
            while self.todo:
                begin = time.monotonic()
                late = begin + longest - self.began > budget
                if late and self.blocks >= statistics.FIRST_LOOK:
                    break
                self._block(Path(folder))
                longest = max(longest, time.monotonic() - begin)
                if self.blocks in looks:
                    self._look()
                report(self)
            if self.todo and self.blocks > 1 and self.blocks not in looks:
                self._look()
        self.ended = time.monotonic()

    def _rehearse(self, folder: Path) -> None:
        """Make every benchmark once on both sides: it compiles, and their results are compared."""
        for arm, one in (("A", self.a), ("B", self.b)):
            pending = self.todo
            while pending:
                with Process(one, 0) as process:
                    pending = self._rehearsed(process, arm, pending, folder)

    def _rehearsed(self, process: Process, arm: str, names: list[str], folder: Path) -> list[str]:
        """Rehearse in one process; gives what is left to do if it ended."""
        for number, name in enumerate(names):
            one, path = self.measured[name], folder / f"{arm}-{name}.npz"
            try:
                digest = process.call(
                    "open", name=name, spec=one.benchmark.spec, result=str(path)
                )["digest"]
                if arm == "A":
                    plan = process.call("plan", name=name, seconds=SAMPLE)
            except WorkerError as error:
                one.failure = f"it fails in {arm}: {error}"
                if "the process ended" in str(error):
                    return names[number + 1 :]
                continue
            if arm == "A":
                self._wanted[name] = digest, worker.load(path)[0]
                one.loops = plan["loops"]
                sample = plan["call"] * one.loops
                one.rounds = max(FEWEST_ROUNDS, min(MOST_ROUNDS, round(SAMPLES / sample)))
            else:
                self._check(name, digest, path, arm)
        return []

    def _check(self, name: str, digest: str, path: Path, arm: str) -> None:
        """Note a failure if a result is not that of A."""
        known, wanted = self._wanted[name]
        if digest == known:
            return
        got = worker.load(path)[0]
        if found := self.measured[name].benchmark.difference(got, wanted):
            self.measured[name].failure = f"results of A and {arm} differ: {found}"

    def _block(self, folder: Path) -> None:
        """Three processes afresh, and a number of each for each benchmark that is undecided.

        If one fails the block is given up: the benchmark is told not to be comparable.
        """
        names, seed = self.todo, self.blocks + 1
        with ExitStack() as stack:
            arms = [stack.enter_context(Process(of, seed)) for of in (self.a, self.a, self.b)]
            for name in names:
                try:
                    self._opened(name, arms, folder)
                except WorkerError as error:
                    self.measured[name].failure = f"it fails after it worked once: {error}"
                    return
            for process in arms:
                process.stay(self.blocks)
                process.call("settle")
            found = self._sampled([name for name in names if name in self.todo], arms)
        if found is None:
            return
        for name, times in found.items():
            self.measured[name].cpu.append(_summary(times[..., 0]))
            self.measured[name].wall.append(_summary(times[..., 1]))
        self.blocks += 1

    def _opened(self, name: str, arms: Sequence[Process], folder: Path) -> None:
        """Make a benchmark ready in all processes."""
        paths = [folder / f"block-{arm}.npz" for arm in range(len(arms))]
        # All at once: what each waits for is then the same.
        for process, path in zip(arms, paths, strict=True):
            spec = self.measured[name].benchmark.spec
            process.ask("open", name=name, spec=spec, result=str(path))
        for arm, process, path in zip(ARMS, arms, paths, strict=True):
            self._check(name, process.answer()["digest"], path, arm)

    def _sampled(
        self, names: list[str], arms: Sequence[Process]
    ) -> dict[str, NDArray[Any]] | None:
        """Seconds a call, by benchmark: (rounds, arms, CPU and wall); None if one failed."""
        found = {name: np.empty((self.measured[name].rounds, len(arms), 2)) for name in names}
        turns = [(name, turn) for name in names for turn in range(self.measured[name].rounds)]
        for index in self.rng.permutation(len(turns)):
            name, turn = turns[index]
            loops = self.measured[name].loops
            for arm in self.rng.permutation(len(arms)):
                try:
                    took = arms[arm].call("run", name=name, loops=loops, turn=turn)
                except WorkerError as error:
                    self.measured[name].failure = f"it fails in {ARMS[arm]}: {error}"
                    return None
                found[name][turn, arm] = took["cpu"] / loops, took["wall"] / loops
        return found

    def _look(self) -> None:
        """Judge what is undecided."""
        self.looks += 1
        names = self.todo
        changed = sum(
            one.judgement is not None and one.judgement.outcome in {"slower", "faster"}
            for one in self.measured.values()
        )
        for which in ("cpu", "wall"):
            found = statistics.judge(
                {name: np.array(getattr(self.measured[name], which)) for name in names},
                self.rng,
                look=self.looks,
                total=len([one for one in self.measured.values() if one.failure is None]),
                changed=changed,
                error=self.error,
                resolution=self.resolution,
            )
            for name, judgement in found.items():
                if which == "cpu":
                    self.measured[name].judgement = judgement
                else:
                    self.measured[name].of_wall = judgement


def _summary(times: NDArray[Any]) -> tuple[float, ...]:
    """Logarithms of seconds of A, A again and B, of (rounds, arms) in seconds.

    Their two contrasts are taken in each round, in which the arms follow each other at once:
    what lasts longer is the same for all. Of the rounds it is the mean of the middle half.
    """
    logs = np.log(times)
    first, again, b = logs.T
    control = _middle(again - first)
    effect = _middle(b - (first + again) / 2)
    middle = _middle(logs[:, :2].ravel())
    return (
        middle - control / 2,
        middle + control / 2,
        middle + effect,
    )


def _middle(values: NDArray[Any]) -> float:
    return float(stats.trim_mean(values, 0.25))


def comparison(
    a: Side,
    b: Side,
    benchmarks: Iterable[Benchmark],
    *,
    seed: int = 1,
    resolution: float = statistics.RESOLUTION,
    error: float = statistics.ERROR,
) -> Comparison:
    """A comparison that has yet to run."""
    measured = {one.name: Measured(one) for one in benchmarks}
    return Comparison(a, b, measured, seed=seed, resolution=resolution, error=error)


@contextmanager
def scratch() -> Iterator[Path]:
    """Folder for the arguments of benchmarks."""
    with tempfile.TemporaryDirectory(prefix="coffea-compare-arguments-") as folder:
        yield Path(folder)
