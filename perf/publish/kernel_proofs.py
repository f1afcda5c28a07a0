"""What stands behind a kernel: its sources, how closely they agree, and which faults proofs see."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from analysis.kernels import IMPLEMENTATIONS
from perf.records.void import SHIPPED

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from analysis.kernels import Kernel

MUTANTS: Final = SHIPPED.parent / "reports" / "mutants.txt"
"""What ``make mutants`` wrote of the sources that are here."""

_ROW: Final = re.compile(r"^(\w+) +(\d+) +(\d+) +\d+ +[\d.]+%$", re.MULTILINE)


class Score(NamedTuple):
    """Mutants of a kernel, and how many of them a proof detects."""

    mutants: int
    killed: int


def scores(report: Path = MUTANTS) -> dict[str, Score]:
    """Scores by kernel, of a report of ``make mutants``; none without one."""
    if not report.is_file():
        return {}
    return {
        name: Score(int(mutants), int(killed))
        for name, mutants, killed in _ROW.findall(report.read_text())
    }


def tolerance(kernel: Kernel) -> str:
    """The bound within which implementations agree, as the kernel states it; "" if it is exact."""
    if kernel.exact:
        return ""
    agree = kernel.module.agree
    # And what its words refer to: functions of the module, and constants.
    named = re.findall(r"`(\w+)`", inspect.getdoc(agree) or "")
    functions = [agree, *(vars(kernel.module).get(name) for name in named)]
    texts = {each: inspect.getdoc(each) or "" for each in functions if inspect.isfunction(each)}
    constants = {
        name: value
        for function, text in texts.items()
        for name in re.findall(r"\b[A-Z_]{3,}\b", text)
        if isinstance(value := function.__globals__.get(name), float)
    }
    values = [", ".join(f"{name} = {value:g}" for name, value in constants.items())]
    return re.sub(r"\s+", " ", " ".join([*texts.values(), *values]).replace("`", "")).strip()


def sources(kernel: Kernel) -> dict[str, str]:
    """Source of each implementation, with the functions of its module that it calls."""
    return {name: _source(kernel.module, name) for name in IMPLEMENTATIONS}


def _source(module: ModuleType, name: str) -> str:
    lines, functions = _functions(module)
    wanted, todo = set[str](), {name}
    while todo:
        wanted |= todo
        used = {
            node.id
            for one in todo
            for node in ast.walk(functions[one])
            if isinstance(node, ast.Name)
        }
        todo = (used & functions.keys()) - wanted
    # The implementation first, then what it calls, in the order of the module.
    defined = {functions[one].name for one in wanted}
    order = sorted(defined, key=lambda one: (one != name, functions[one].lineno))
    return "\n\n\n".join(_text(lines, functions[one]) for one in order)


@cache
def _functions(module: ModuleType) -> tuple[list[str], dict[str, ast.FunctionDef]]:
    text = inspect.getsource(module)
    functions: dict[str, ast.FunctionDef] = {}
    for node in ast.parse(text).body:
        match node:
            case ast.FunctionDef(name=name):
                functions[name] = node
            # One function that is compiled under another name.
            case ast.Assign([ast.Name(id=name)], ast.Call(ast.Name(id="loop"), [ast.Name(id=of)])):
                functions[name] = functions[of]
    return text.splitlines(), functions


def _text(lines: list[str], node: ast.FunctionDef) -> str:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "\n".join(lines[first - 1 : node.end_lineno])
