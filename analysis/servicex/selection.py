"""Selections of requests: parsed, and checked before anything is run.

A selection becomes Python code. func_adl_uproot pastes names and attributes of a qastle query into
source that it executes with every builtin function in reach; uproot evaluates expressions in which
``(1).__class__`` leads to the whole interpreter. So each selection is parsed first, and only the
nodes, names and functions that an analysis needs are accepted.

The check runs in the worker process, because parsing alone can take unlimited time and memory.
"""

from __future__ import annotations

import ast
import builtins
import json
import keyword
from functools import cache
from pathlib import Path
from typing import Any, Final

CODEGENS: Final = ("uproot-raw", "uproot")
"""Names of code generators, as ServiceX has them: uproot's own language, and FuncADL."""

MAX_LENGTH: Final = 100_000
"""Characters of a selection: far more than one that asks for each of 3000 branches by name."""


class SelectionError(Exception):
    """A selection that is malformed, or holds what is not allowed; one sentence."""


# --- uproot-raw

TREE_KEYS: Final = {
    "treename",
    "expressions",
    "cut",
    "filter_name",
    "filter_typename",
    "aliases",
    "fail_on_missing_trees",
    "use_standard_awkward_axis",
}

AXIS_ONE: Final = (
    *("concatenate", "count", "count_nonzero", "sum", "nansum", "prod", "nanprod", "any", "all"),
    *("min", "nanmin", "max", "nanmax", "argmin", "nanargmin", "argmax", "nanargmax", "moment"),
    *("mean", "var", "nanvar", "std", "nanstd", "softmax"),
)
"""Functions of awkward that ServiceX applies within each event unless told otherwise."""

AWKWARD_FUNCTIONS: Final = (
    *AXIS_ONE,
    *("where", "flatten", "num", "nanmean", "sort", "argsort", "mask", "is_none", "drop_none"),
    *("pad_none", "fill_none", "firsts", "singletons", "broadcast_arrays", "broadcast_fields"),
    *("cartesian", "argcartesian", "combinations", "argcombinations", "isclose", "almost_equal"),
)
"""Functions of awkward that ServiceX adds to uproot's language."""

KEYWORDS: Final = frozenset({
    *("axis", "keepdims", "mask_identity", "ddof", "weight", "ascending", "stable", "n"),
    *("replacement", "fields", "nested", "target", "clip", "value", "valid_when", "rtol", "atol"),
    *("equal_nan", "depth_limit"),
})  # fmt: skip

_EXPRESSION_NODES: Final = (
    *(ast.Expression, ast.Load, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Subscript),
    *(ast.Slice, ast.Tuple, ast.List, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
    *(ast.Name, ast.Constant, ast.Call, ast.keyword, ast.Attribute),
)


def raw_queries(selection: str) -> list[dict[str, Any]]:
    """Parse and check a selection for uproot-raw; SelectionError says what is wrong.

    `selection` is JSON: a list of ``{"treename": ..., "cut": ..., ...}`` or
    ``{"copy_histograms": ...}``. Returned without the keys that are null, with ``treename`` as
    {name in the file: name in the output} and ``copy_histograms`` and filters as lists.
    """
    _check_length(selection)
    try:
        given = json.loads(selection)
    except (ValueError, RecursionError) as error:
        msg = f"the selection is not JSON: {error}"
        raise SelectionError(msg) from None
    if not isinstance(given, list) or not given:
        msg = "Provided query is not a list"
        raise SelectionError(msg)
    return [_raw_query(one) for one in given]


def _raw_query(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        msg = f"a query is an object, not {given!r}"
        raise SelectionError(msg)
    query = {key: value for key, value in given.items() if value is not None}
    if not query.get("treename") and not query.get("copy_histograms"):
        msg = f"At least one tree or histogram must be specified for query {given}"
        raise SelectionError(msg)
    if unknown := query.keys() - (TREE_KEYS if query.get("treename") else {"copy_histograms"}):
        msg = f"there is no key {min(unknown)!r} of a query"
        raise SelectionError(msg)
    for key in ("copy_histograms", "filter_name", "filter_typename", "expressions"):
        if key in query:
            query[key] = _texts(key, query[key])
    if "treename" in query:
        query["treename"] = _trees(query["treename"])
    aliases = query.get("aliases", {})
    if not isinstance(aliases, dict):
        msg = f"aliases are an object of name: expression, not {aliases!r}"
        raise SelectionError(msg)
    cut = [query["cut"]] if "cut" in query else []
    for text in (*query.get("expressions", []), *aliases.values(), *cut):
        check_expression(text)
    return query


def _texts(key: str, given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        msg = f"{key} is a string or a list of strings, not {given!r}"
        raise SelectionError(msg)
    return texts


def _trees(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        given = {one: one for one in _texts("treename", given)}
    if not all(isinstance(one, str) and one for one in given.values()):
        msg = f"treename names trees, not {given!r}"
        raise SelectionError(msg)
    return dict(given)


def check_expression(text: Any) -> None:
    """Raise SelectionError unless a text holds only branches, constants, operators and calls."""
    if not isinstance(text, str):
        msg = f"an expression is a string, not {text!r}"
        raise SelectionError(msg)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        msg = f"{shortened(text)!r} is not an expression: {error}"
        raise SelectionError(msg) from None
    for node in ast.walk(tree):
        wrong = not isinstance(node, _EXPRESSION_NODES)
        if isinstance(node, ast.Constant):
            wrong = not isinstance(node.value, (bool, int, float, str, type(None)))
        elif isinstance(node, ast.Call):
            # uproot has a table of functions: a call must be of a name, which it looks up.
            wrong = not isinstance(node.func, ast.Name)
        elif isinstance(node, ast.keyword):
            wrong = node.arg not in KEYWORDS
        elif isinstance(node, ast.Attribute):
            # Accept a branch name with dots, but no attribute of a value.
            wrong = _dotted(node) is None
        elif isinstance(node, ast.Name):
            wrong = node.id.startswith("__")
        if wrong:
            msg = f"{shortened(text)!r} holds {_described(node)}, which no selection may hold"
            raise SelectionError(msg)


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and not node.attr.startswith("_"):
        front = _dotted(node.value)
        return None if front is None else f"{front}.{node.attr}"
    return None


# --- FuncADL

DATASET: Final = "EventDataset"
BUILTINS: Final = frozenset({"abs", "all", "any", "len", "max", "min", "round", "sum"})
METHODS: Final = frozenset({
    *("ToFourMomentum", "ToFourMomenta", "deltaR", "deltaR2", "deltaeta", "deltaphi", "deltaangle"),
    *("add", "subtract", "dot", "cross", "scale", "unit", "boostCM_of", "boostX", "boostY"),
    *("boostZ", "rotateX", "rotateY", "rotateZ", "to_Vector2D", "to_Vector3D", "to_Vector4D"),
})  # fmt: skip
"""Methods that may be called: those of the generator and of vectors."""
CONSTANTS: Final = frozenset({"pi", "e", "inf", "nan", "euler_gamma"})

_RESERVED: Final = frozenset({
    *("input_filenames", "tree_name", "input_files", "input_file", "tree_name_to_use", "source"),
    *("key_array", "classnames", "selection", "key", "value", "branch", "functools", "logging"),
    *("np", "dak", "uproot", "vector", "run_query"),
})  # fmt: skip
"""Names of the generated code: a lambda's argument of such a name would replace it, and
``input_filenames`` the file that may be read."""

_FUNCADL_NODES: Final = (
    *(ast.Module, ast.Expr, ast.Load, ast.Param, ast.arguments, ast.arg, ast.Lambda, ast.IfExp),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Subscript, ast.List, ast.Tuple),
    *(ast.Dict, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
    *(ast.Name, ast.Constant, ast.Call, ast.Attribute),
)


def funcadl_query(selection: str) -> ast.AST:
    """Parse and check a selection of FuncADL (qastle); SelectionError says what is wrong.

    Returns the tree for func_adl_uproot's generator: each name in it is an argument of the query's
    lambdas or one of the known functions, so that it becomes no other code than it says.
    """
    import numpy as np  # noqa: PLC0415  (not for uproot-raw's check)
    import qastle  # noqa: PLC0415
    from qastle import linq_util  # noqa: PLC0415

    _check_length(selection)
    if not selection.strip():
        msg = "Requested codegen for an empty string."
        raise SelectionError(msg)
    try:
        parsed = _qastle_parser().parse(selection)
        made = qastle.TextASTToPythonASTTransformer().transform(parsed)
        tree: ast.AST = qastle.insert_linq_nodes(made)
    except Exception as error:  # noqa: BLE001  (lark's and qastle's own, of many kinds)
        msg = f"the selection is not qastle: {shortened(' '.join(str(error).split()))}"
        raise SelectionError(msg) from None
    linq = tuple(
        one
        for one in vars(linq_util).values()
        if isinstance(one, type)
        and issubclass(one, ast.AST)
        and one.__module__ == "qastle.linq_util"
    )
    functions = {name for name in dir(np) if isinstance(getattr(np, name), np.ufunc)}
    datasets = 0
    callees = {id(one.func) for one in ast.walk(tree) if isinstance(one, ast.Call)}
    own = {one.arg for one in ast.walk(tree) if isinstance(one, ast.arg)}
    bases = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Attribute)}
    for node in ast.walk(tree):
        wrong = not isinstance(node, (*_FUNCADL_NODES, *linq))
        if isinstance(node, ast.Constant):
            wrong = not isinstance(node.value, (bool, int, float, str, type(None)))
        elif isinstance(node, ast.arg):
            wrong = not _is_name(node.arg) or node.arg in _RESERVED or hasattr(builtins, node.arg)
        elif isinstance(node, ast.Call):
            if dataset := isinstance(node.func, ast.Name) and node.func.id == DATASET:
                datasets += 1
                wrong = not all(isinstance(one, (ast.Constant, ast.List)) for one in node.args)
            wrong |= bool(node.keywords) or not (dataset or _may_be_called(node.func, functions))
        elif isinstance(node, ast.Attribute):
            wrong = not _is_name(node.attr)
            if isinstance(node.value, ast.Name) and node.value.id == "np":
                wrong = node.attr not in (functions if id(node) in callees else CONSTANTS)
        elif isinstance(node, ast.Name):
            known = BUILTINS | {DATASET} if id(node) in callees else own
            wrong = node.id not in known and not (node.id == "np" and id(node) in bases)
        if wrong:
            msg = f"the selection holds {_described(node)}, which no selection may hold"
            raise SelectionError(msg)
    if datasets != 1:
        msg = f"a selection reads one {DATASET}, not {datasets}"
        raise SelectionError(msg)
    return tree


@cache
def _qastle_parser() -> Any:
    """A parser of qastle's grammar in linear time; qastle's own takes twelve times as long."""
    import lark  # noqa: PLC0415
    import qastle  # noqa: PLC0415

    grammar = Path(qastle.__file__).with_name("syntax.lark").read_text()
    return lark.Lark(grammar, start="record", maybe_placeholders=False, parser="lalr")


def _may_be_called(function: ast.expr, functions: set[str]) -> bool:
    if isinstance(function, ast.Name):
        return function.id in BUILTINS
    if not isinstance(function, ast.Attribute):
        return False
    if isinstance(function.value, ast.Name) and function.value.id == "np":
        return function.attr in functions
    return function.attr in METHODS


def _is_name(text: Any) -> bool:
    """Whether a text is one Python name, and not a private one."""
    return (
        isinstance(text, str)
        and text.isidentifier()
        and text.isascii()
        and not keyword.iskeyword(text)
        and not text.startswith("_")
    )


# --- both


def _check_length(selection: str) -> None:
    if len(selection) > MAX_LENGTH:
        msg = f"the selection has {len(selection)} characters, at most {MAX_LENGTH} are taken"
        raise SelectionError(msg)


def _described(node: ast.AST) -> str:
    kind = type(node).__name__
    name = next((getattr(node, a) for a in ("id", "attr", "arg") if hasattr(node, a)), None)
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func) if isinstance(node.func, (ast.Name, ast.Attribute)) else None
    return f"{kind} {shortened(str(name))!r}" if name is not None else f"a {kind}"


def shortened(text: str, length: int = 160) -> str:
    """The text, or its beginning."""
    return text if len(text) <= length else f"{text[:length]}..."
