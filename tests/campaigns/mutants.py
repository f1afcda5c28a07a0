"""Mutation run: faults put into the kernels and the analysis, one at a time.

A mutant is a module with one expression changed: a comparison, a constant, a sign, an operator of
logic, an extremum, the order of two arguments, a way out of a loop. It is executed in a process
of its own, with all modules that take something from it and with the tests; then the proofs of
that kernel are called as pytest calls them, those with known answers first, until one fails. A
mutant that no proof sees survives. tests/campaigns/survivors.toml says of each survivor why no result
changes; the run fails on one that is not listed there, and on a line there that is out of date.

    python -m tests.campaigns.mutants                    # all; goes on where it was interrupted
    python -m tests.campaigns.mutants cleaning jets      # some
    python -m tests.campaigns.mutants --quick cleaning   # one mutant of each kind, none that is listed
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import importlib
import inspect
import json
import math
import os
import resource
import signal
import sys
import time
import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import product, zip_longest
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numba
from hypothesis import HealthCheck, Phase, settings
from rich.progress import track

from analysis.kernels import IMPLEMENTATIONS, KERNELS, _compile
from perf.cases.scales import EXAMPLES
from tests.analysis.kernels.known import INDEPENDENT, KNOWN
from tests.campaigns._footer import footer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ROOT: Final = Path(__file__).parents[2]
SURVIVORS: Final = Path(__file__).with_name("survivors.toml")
REPORT: Final = ROOT / "reports" / "mutants.txt"
DONE: Final = ROOT / ".perf" / "mutants" / "outcomes.jsonl"
PATIENCE: Final = 1200
"""Seconds after which a mutant is taken to hang that uses no CPU time."""
PYTHON: Final = ".".join(map(str, sys.version_info[:3]))
LEAST: Final = 0.97
"""Score that is asked for, over all kernels."""

HELPERS: Final[dict[str, tuple[set[str], str, tuple[str, ...]]]] = {
    "_combinations": ({"pair_mass", "trijet_pt", "transverse_mass"}, "", ()),
    "_four_vectors": ({"pair_mass", "trijet_pt"}, "test_layout", ("test_scratch",)),
    "_layout": (
        {"selected", "largest", "transverse_mass", "jet_resolution"},
        "test_layout",
        ("test_columns",),
    ),
    "_random": ({"jet_resolution"}, "test_random", ("test_philox", "test_normal")),
    "_trigonometry": ({"pair_mass"}, "test_random", ("test_sine",)),
}
"""What kernels share: some that use it, whose proofs are run, and tests of its own in a module."""
ANALYSES: Final = {
    "ttbar": "test_ttbar_known",
    "fused": "test_fused",
    "adl": "test_adl_known",
}
"""What is composed of kernels, by the module of its proofs."""
ROWS: Final = (*KERNELS, *HELPERS, *ANALYSES)

NOT_MUTATED: Final = {
    # They judge the results of the others, and are proved by perturbed results.
    *("agree", "picks_agree", "mass_agrees", "mass_bound", "ROUNDING", "TINY", "TOLERANCE"),
    # They refuse a file set before anything is processed: no processor, and tested with them.
    *("check", "real_data"),
    # Assertions, and the type checker's.
    *("strict", "TYPE_CHECKING"),
}

SWAPS: Final[dict[type[ast.AST], tuple[type[ast.AST], str]]] = {
    ast.Lt: (ast.LtE, "comparison"),
    ast.LtE: (ast.Lt, "comparison"),
    ast.Gt: (ast.GtE, "comparison"),
    ast.GtE: (ast.Gt, "comparison"),
    ast.Eq: (ast.NotEq, "comparison"),
    ast.NotEq: (ast.Eq, "comparison"),
    ast.In: (ast.NotIn, "comparison"),
    ast.NotIn: (ast.In, "comparison"),
    ast.Is: (ast.IsNot, "comparison"),
    ast.IsNot: (ast.Is, "comparison"),
    ast.Add: (ast.Sub, "sign"),
    ast.Sub: (ast.Add, "sign"),
    ast.Mult: (ast.Div, "sign"),
    ast.Div: (ast.Mult, "sign"),
    ast.FloorDiv: (ast.Mult, "sign"),
    ast.LShift: (ast.RShift, "sign"),
    ast.RShift: (ast.LShift, "sign"),
    ast.And: (ast.Or, "logic"),
    ast.Or: (ast.And, "logic"),
    ast.BitAnd: (ast.BitOr, "logic"),
    ast.BitOr: (ast.BitAnd, "logic"),
    ast.BitXor: (ast.BitOr, "logic"),
    ast.Break: (ast.Continue, "loop"),
    ast.Continue: (ast.Break, "loop"),
}
NAMES: Final = {
    one: other
    for pair in (
        ("min", "max"),
        ("minimum", "maximum"),
        ("argmin", "argmax"),
        ("any", "all"),
        ("sin", "cos"),
        ("ones", "zeros"),
    )
    for one, other in (pair, pair[::-1])
}

SYMMETRIC: Final = ("min", "max", "minimum", "maximum", "array_equal")


@dataclass(frozen=True)
class Mutant:
    """One change of one module, which stands in `tree` while the mutant is looked at."""

    row: str
    module: str
    defined: str
    """The function, class or constant of the module that is changed; nothing stands for all."""
    key: str
    kind: str
    tree: ast.Module


def module_of(row: str) -> str:
    """The module that a row is about."""
    return f"analysis.{row}" if row in ANALYSES else f"analysis.kernels.{row}"


@cache
def tree_of(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(Path(inspect.getfile(importlib.import_module(module))).read_text())


def mutants(row: str) -> Iterator[Mutant]:
    """Every mutant of a row; each is undone when the next is asked for."""
    module = module_of(row)
    tree = copy.deepcopy(tree_of(module))
    seen: dict[str, int] = {}
    for statement in tree.body:
        for defined in _defines(statement)[:1]:
            if defined in NOT_MUTATED:
                continue
            for kind, old, new in _changes(statement):
                key = f"{defined}: {old}  ->  {new}"
                seen[key] = seen.get(key, 0) + 1
                key += f"  #{seen[key]}" if seen[key] > 1 else ""
                yield Mutant(row, module, defined, key, kind, tree)


def _changes(parent: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Change one thing below a node at a time: its kind, the expression before, and after."""
    for name, value in ast.iter_fields(parent):
        if name in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        places = enumerate(value) if isinstance(value, list) else [(None, value)]
        for place, node in list(places):
            if not isinstance(node, ast.AST):
                continue

            def put(
                new: ast.AST, name: str = name, value: Any = value, place: int | None = place
            ) -> None:
                if place is None:
                    setattr(parent, name, new)
                else:
                    value[place] = new

            # A constant is known by what it stands in.
            shown = parent if isinstance(node, ast.Constant | ast.arguments) else node
            before = ast.unparse(shown)
            for kind, new in _alternatives(node):
                put(ast.copy_location(new, node))
                yield kind, before, ast.unparse(shown if shown is parent else new)
                put(node)
            if not _is_whole(node):
                yield from _changes(node)


def _is_whole(node: ast.AST) -> bool:
    """Whether nothing below a node is changed."""
    match node:
        case ast.UnaryOp(operand=ast.Constant()):  # a negative number is one constant
            return True
        case ast.keyword(arg=name) | ast.If(test=ast.Name(id=name)):
            return name in NOT_MUTATED
    return False


def _alternatives(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What a node is replaced by, and the kind of the change."""
    match node:
        case ast.Compare(ops=ops):
            for number, op in enumerate(ops):
                other, kind = SWAPS[type(op)]
                yield kind, _with(node, ops=[*ops[:number], other(), *ops[number + 1 :]])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            other, kind = SWAPS[type(op)]
            yield kind, _with(node, op=other())
        case ast.UnaryOp(operand=operand):
            yield "sign", operand
        case ast.Constant(value=bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield "constant", ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield "constant", ast.Constant(value * 1.01 or 1.0)
        case ast.Attribute(attr=name) if name in NAMES:
            yield "extremum", _with(node, attr=NAMES[name])
        case ast.Name(id=name) if name in NAMES:
            yield "extremum", _with(node, id=NAMES[name])
        case ast.Call(func=function, args=[*first, a, b]) if _could_be_swapped(
            a, b
        ) and not ast.unparse(function).endswith(SYMMETRIC):
            yield "order", _with(node, args=[*first, b, a])
        case ast.Break() | ast.Continue():
            other, kind = SWAPS[type(node)]
            yield kind, other()


def _with(node: ast.AST, **fields: Any) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _could_be_swapped(a: ast.expr, b: ast.expr) -> bool:
    """Not where any proof would see it: a list of arguments, a type, the same thing twice."""
    shown = ast.unparse(a), ast.unparse(b)
    return shown[0] != shown[1] and not any(one.startswith(("*", "np.", "_")) for one in shown)


def _defines(statement: ast.stmt) -> list[str]:
    """Names that a statement of a module defines."""
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [
                node.id for one in targets for node in ast.walk(one) if isinstance(node, ast.Name)
            ]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _reads(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


@cache
def _imports(module: str) -> dict[str, set[str]]:
    """What a module takes from ours: names by module."""
    taken: dict[str, set[str]] = {}
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in sys.modules and inner.startswith(("analysis.", "tests.")):
                    taken.setdefault(inner, set())
                elif node.module.startswith(("analysis.", "tests.")):
                    taken.setdefault(node.module, set()).add(alias.name)
    return taken


def _all_names(tree: ast.Module) -> set[str]:
    return {name for statement in tree.body for name in _defines(statement)}


def _affected(tree: ast.Module, names: set[str]) -> set[str]:
    """These names of a module, and all that are made with them."""
    names = set(names)
    while True:
        more = {
            name
            for statement in tree.body
            if not names.isdisjoint(_reads(statement))
            for name in _defines(statement)
        }
        if more <= names:
            return names
        names |= more


def execute(mutant: Mutant, proofs: Sequence[str]) -> list[ModuleType]:
    """Put a mutant in the place of its module, in this process, and give the modules of proofs.

    Modules that take from it are executed anew, and loops compiled anew if they depend on it.
    """
    changed = {mutant.defined} if mutant.defined else _all_names(mutant.tree)
    affected = {mutant.module: _affected(mutant.tree, changed)}
    ours = [name for name in sys.modules if name.startswith(("analysis.", "tests."))]
    imports = {
        name: _imports(name)
        for name in ours
        if getattr(sys.modules[name], "__file__", None) and name != __name__
    }
    _put(mutant.module, mutant.tree, affected[mutant.module])
    waiting = {name for name in imports if name != mutant.module}
    while waiting:
        # Those that import a module which is new, and none that may still become so.
        new = {name for name in waiting if not affected.keys().isdisjoint(_reached(name, imports))}
        ready = [name for name in new if new.isdisjoint(imports[name])]
        if not ready:
            break
        for name in ready:
            taken = {
                one
                for module, names in imports[name].items()
                for one in names & affected.get(module, set())
            }
            affected[name] = _affected(tree_of(name), taken)
            _put(name, tree_of(name), affected[name])
        waiting -= set(ready)
    return [sys.modules[name] for name in proofs]


def _reached(name: str, imports: dict[str, dict[str, set[str]]]) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        new = set(imports.get(todo.pop(), ())) - found
        found |= new
        todo += new
    return found


def _put(name: str, tree: ast.Module, affected: set[str]) -> None:
    old = sys.modules[name]
    module = ModuleType(name, old.__doc__)
    module.__file__ = old.__file__
    module.__package__ = old.__package__
    compiled = {one.py_func.__name__: one for one in vars(old).values() if hasattr(one, "py_func")}

    def loop(function: Callable[..., Any]) -> Any:
        if function.__name__ not in affected and function.__name__ in compiled:
            return compiled[function.__name__]
        return numba.njit(nogil=True, error_model="numpy")(function)

    original = _compile.loop
    _compile.loop = loop
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    setattr(sys.modules[parent], last, module)
    try:
        exec(compile(tree, old.__file__ or name, "exec"), vars(module))  # noqa: S102
    finally:
        _compile.loop = original


def kernels_of(row: str) -> set[str]:
    """The kernels whose proofs are those of a row."""
    return HELPERS[row][0] if row in HELPERS else {row}


def proofs_of(row: str, modules: Sequence[ModuleType]) -> list[tuple[str, Callable[[], object]]]:
    """The proofs of a row: tests with all their parameters, those of known answers first."""
    kernels = kernels_of(row)
    others = HELPERS[row][2] if row in HELPERS else ("test_",) if row in ANALYSES else ()
    found = []
    for module in modules:
        for order, (name, test) in enumerate(vars(module).items()):
            if not name.startswith("test_"):
                continue
            for values in _parameters(test):
                kernel = values.get("kernel")
                if kernel.name in kernels if kernel else name.startswith(others):
                    # Compiling takes longest: what fails before it need not wait for it.
                    compiles = values.get("implementation") not in {"reference", "columnar"}
                    place = hasattr(test, "hypothesis"), compiles, order
                    found.append((place, name, lambda test=test, values=values: test(**values)))
    return [(name, call) for _, name, call in sorted(found, key=lambda one: one[0])]


def _parameters(test: Any) -> Iterator[dict[str, Any]]:
    """Every set of arguments that pytest calls a test with; none if it asks for more."""
    options: dict[str, list[Any]] = {}
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names = [name.strip() for name in mark.args[0].split(",")]
            assert len(names) == 1
            options[names[0]] = [getattr(one, "values", (one,))[0] for one in mark.args[1]]
    wanted = inspect.signature(test).parameters
    if "implementation" in wanted:
        options.setdefault("implementation", list(IMPLEMENTATIONS))
    if set(options) == set(wanted):
        yield from (
            dict(zip(options, values, strict=True)) for values in product(*options.values())
        )


def proofs_in(row: str) -> tuple[str, ...]:
    """The modules of the proofs of a row."""
    if row in ANALYSES:
        return (f"tests.analysis.{ANALYSES[row]}",)
    own = HELPERS[row][1] if row in HELPERS else ""
    return tuple(f"tests.analysis.kernels.{name}" for name in ("test_kernels", own) if name)


def first_failure(row: str, modules: Sequence[ModuleType], limits: Sequence[float] = ()) -> str:
    """The first proof that fails, or nothing; each may take so many seconds of CPU time."""
    for (name, call), limit in zip_longest(proofs_of(row, modules), limits):
        if limit is not None:
            seconds = math.ceil(time.process_time() + limit)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
        try:
            call()
        except BaseException as error:  # noqa: BLE001  (pytest.fail raises one of its own)
            return f"{name} ({type(error).__name__})"
    return ""


def killed_by(mutant: Mutant, limits: Sequence[float]) -> str:
    """What sees a mutant, in a process of its own."""
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            signal.alarm(PATIENCE)
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
            try:
                modules = execute(mutant, proofs_in(mutant.row))
                found = first_failure(mutant.row, modules, limits)
            except Exception as error:  # noqa: BLE001  (a module that cannot even be imported)
                found = f"import ({type(error).__name__})"
            os.write(write, found.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        found = answer.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hangs = number in {signal.SIGXCPU, signal.SIGALRM}
        return "time limit" if hangs else signal.Signals(number).name
    return found


def state(row: str) -> str:
    """A digest of all sources that an outcome depends on."""
    imports: dict[str, dict[str, set[str]]] = {}
    todo = [module_of(row), *proofs_in(row)]
    while todo:
        if (name := todo.pop()) not in imports:
            imports[name] = _imports(name)
            todo += imports[name]
    # Of the known answers only those of this row: a new one elsewhere changes nothing here.
    answers = imports.pop("tests.analysis.kernels.known", None) is not None
    kernels = [name for name in KERNELS if answers and name in kernels_of(row)]
    parts = [repr((KNOWN[name], name in INDEPENDENT)) for name in kernels]
    parts += [Path(inspect.getfile(sys.modules[name])).read_text() for name in sorted(imports)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def records() -> list[dict[str, str]]:
    """What was found so far, in whatever state of the sources."""
    lines = DONE.read_text().splitlines() if DONE.exists() else []
    return [json.loads(line) for line in lines]


def done(row: str, now: str) -> dict[str, str]:
    """Outcomes of this state of the sources, by mutant."""
    return {
        one["mutant"]: one["killed_by"]
        for one in records()
        if (one["row"], one["state"]) == (row, now)
    }


def prepare(row: str, *, quick: bool) -> list[float]:
    """Prove a row as it is, and give the CPU time that each proof may take of a mutant.

    Its loops are compiled anew, as those of mutants are: what numba prepares for its first
    compilation would else be prepared in the process of each mutant.
    """
    unchanged = Mutant(row, module_of(row), "", "", "", tree_of(module_of(row)))
    limits = []
    for name, call in proofs_of(row, execute(unchanged, proofs_in(row))):
        before = time.process_time()
        if not quick or "known" in name:
            call()
        limits.append(3 * (time.process_time() - before) + 4)
    return limits


def run(row: str, *, quick: bool) -> dict[str, str]:
    """Outcome of each mutant of a row: what killed it, or nothing."""
    # What a proof imports later would be compiled, or read from numba's cache, without the mutant.
    for name in (module_of(row), *map(module_of, KERNELS), *proofs_in(row)):
        importlib.import_module(name)
    now = state(row)
    known = {} if quick else done(row, now)
    kinds = {one.key: one.kind for one in mutants(row)}
    if quick:
        first = {kind: key for key, kind in kinds.items() if key not in listed().get(row, {})}
        kinds = {key: kind for kind, key in first.items()}
    if not kinds.keys() <= known.keys():
        limits = prepare(row, quick=quick)
        DONE.parent.mkdir(parents=True, exist_ok=True)
        everyone = (one for one in mutants(row) if one.key in kinds)
        for one in track(everyone, f"{row:16}", total=len(kinds), disable=not sys.stderr.isatty()):
            if one.key not in known:
                known[one.key] = killed_by(one, limits)
                record = {"row": row, "state": now, "mutant": one.key, "killed_by": known[one.key]}
                record["python"] = PYTHON
                with DONE.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    return {key: known[key] for key in kinds}


def listed() -> dict[str, dict[str, str]]:
    """Survivors with their reasons, by row."""
    found: dict[str, dict[str, str]] = tomllib.loads(SURVIVORS.read_text())
    return found


def report(outcomes: dict[str, dict[str, str]]) -> str:
    """Score of each row, and why the survivors do."""
    python = " and ".join(sorted({one["python"] for one in records()} | {PYTHON}))
    lines = [
        f"Mutants that the proofs see, on Python {python}",
        "",
        f"{'':18}{'mutants':>8}{'killed':>8}{'survive':>9}{'score':>9}",
    ]
    reasons = listed()

    def line(name: str, found: Sequence[str]) -> str:
        killed = sum(map(bool, found))
        score = 100 * killed / len(found)
        return f"{name:18}{len(found):8}{killed:8}{len(found) - killed:9}{score:8.1f}%"

    lines += [line(row, list(found.values())) for row, found in outcomes.items()]
    parts: dict[str, Iterable[str]] = {
        "all kernels": KERNELS,
        "what they share": HELPERS,
        "analyses": ANALYSES,
        "all": ROWS,
    }
    every = {
        name: [one for row in rows if row in outcomes for one in outcomes[row].values()]
        for name, rows in parts.items()
    }
    lines += ["", *(line(name, found) for name, found in every.items() if found)]
    if missing := [row for row in ROWS if row not in outcomes]:
        lines += ["", f"Not looked at here: {', '.join(missing)}"]
    lines += ["", "By what they were seen:", ""]
    seen: dict[str, int] = {}
    for one in filter(None, every["all"]):
        test = one.partition(" (")[0]
        seen[test] = seen.get(test, 0) + 1
    lines += [f"{n:6}  {test}" for test, n in sorted(seen.items(), key=lambda one: -one[1])]
    lines += ["", "Survivors, and why no result changes:"]
    for row, found in outcomes.items():
        for key in (key for key, killer in found.items() if not killer):
            lines += ["", f"{row}.{key}", f"    {reasons.get(row, {}).get(key, 'NOT JUSTIFIED')}"]
    return "\n".join([*lines, "", footer("mutants", "hypothesis")]) + "\n"


def faults(outcomes: dict[str, dict[str, str]], *, quick: bool) -> list[str]:
    """Survivors that are not listed, and lines of the list that are out of date."""
    wrong = []
    for row, found in outcomes.items():
        survivors = {key for key, killer in found.items() if not killer}
        reasons = set(listed().get(row, {}))
        wrong += [f"survives, unlisted: {row}.{key}" for key in sorted(survivors - reasons)]
        if not quick:
            wrong += [
                f"listed, but does not survive: {row}.{key}" for key in sorted(reasons - survivors)
            ]
    return wrong


def main() -> int:
    """Run, report and judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", help="kernels and other rows (all)")
    parser.add_argument("--quick", action="store_true", help="one mutant of each kind")
    arguments = parser.parse_args()
    settings.register_profile(
        "mutants",
        settings.get_profile("default"),
        max_examples=EXAMPLES["ci"],
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"there is no {', '.join(sorted(unknown))}: use {', '.join(ROWS)}")
    rows = arguments.rows or ROWS
    outcomes = {row: run(row, quick=arguments.quick) for row in rows}
    text = report(outcomes)
    if not arguments.rows and not arguments.quick:
        REPORT.write_text(text)
    print(text)  # noqa: T201
    wrong = faults(outcomes, quick=arguments.quick)
    print("\n".join(wrong), file=sys.stderr)  # noqa: T201
    kernels = [one for row in outcomes if row in KERNELS for one in outcomes[row].values()]
    return int(bool(wrong) or sum(map(bool, kernels)) < LEAST * len(kernels))


if __name__ == "__main__":
    sys.exit(main())
