"""No selection becomes code that it does not say."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
import qastle

from analysis.delivery import queries
from analysis.servicex.selection import (
    SelectionError,
    check_expression,
    funcadl_query,
    raw_queries,
)
from analysis.servicex.worker_pool import JobError, Limits, Worker, codegens

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = "(call EventDataset 'bogus.root' 'Events')"


def select(body: str, argument: str = "e") -> str:
    return f"(call Select {EVENTS} (lambda (list {argument}) {body}))"


@pytest.mark.parametrize(
    "text",
    [
        "Jet_pt",
        "sqrt(Jet_pt**2 + Jet_mass**2)",
        "count_nonzero((Jet_pt > 30) & (abs(Jet_eta) < 2.4), axis=1) >= 4",
        "Jet_pt[:, 0] > -1.5e3",
        "AnalysisJetsAuxDyn.pt * 0.001",
        "get('a/b') + any(Muon_tightId)",
    ],
)
def test_expressions_of_an_analysis(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "(1).__class__",
        "().__class__.__bases__[0].__subclasses__()",
        "Jet_pt.__array__",
        "Jet_pt._layout",
        "(Jet_pt + 1).layout",
        "__import__('os').system('true')",
        "sum(Jet_pt, axis=1).to_list()",
        "(lambda: 1)()",
        "[x for x in Jet_pt]",
        "f'{Jet_pt.__class__}'",
        "'{0.__class__}'.format(Jet_pt)",
        "(x := Jet_pt)",
        "sum(*Jet_pt)",
        "sum(**Jet_pt)",
        "fill_none(Jet_pt, 0, behavior={})",
        "functions[0](1)",
        "import os",
        "a; b",
        "",
        "(" * 5000,
        "1j",
        "b'x'",
        "await x",
        "{1: 2}",
        "__builtins__",
    ],
)
def test_expressions_that_no_analysis_has(text: str) -> None:
    with pytest.raises(SelectionError):
        check_expression(text)
    for query in (
        {"treename": "t", "cut": text},
        {"treename": "t", "expressions": [text]},
        {"treename": "t", "aliases": {"a": text}},
    ):
        with pytest.raises(SelectionError):
            raw_queries(json.dumps([query]))


@pytest.mark.parametrize(
    ("selection", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "characters|not JSON"),
        ("{}", "not a list"),
        ("[]", "not a list"),
        ("[1]", "an object"),
        ("[{}]", "At least one tree or histogram must be specified for query {}"),
        ('[{"treename": ""}]', "At least one tree"),
        ('[{"treename": {"a": 1}}]', "names trees"),
        ('[{"treename": [1]}]', "treename is a string or a list"),
        ('[{"treename": "t", "cut": 1}]', "an expression is a string"),
        ('[{"treename": "t", "filter_name": {"a": 1}}]', "filter_name is a string or a list"),
        ('[{"treename": "t", "language": "x"}]', "no key 'language'"),
        ('[{"copy_histograms": "h", "cut": "x"}]', "no key 'cut'"),
        ('[{"treename": "t", "aliases": ["a"]}]', "aliases are an object"),
    ],
)
def test_malformed_raw_selections(selection: str, reason: str) -> None:
    with pytest.raises(SelectionError, match=reason):
        raw_queries(selection)


QUERIES: Final = (
    select("(attr e 'MET_pt')"),
    select("(dict (list 'pt') (list (attr e 'Jet_pt')))"),
    select("(call (attr np 'sqrt') (attr e 'MET_pt'))"),
    select("(attr np 'pi')"),
    select("(call abs (attr e 'MET_phi'))"),
    select("(call (attr (attr e 'Jet_pt') 'Where') (lambda (list j) (> j 30)))"),
    select("(call (attr (attr e 'Jet_pt') 'Count'))"),
    select("(subscript e 'MET_pt')"),
    select("(if (> (attr e 'MET_pt') 1) 1 0)"),
    f'  ( call Select\t{EVENTS}\n(lambda (list e)   (attr e "MET_pt") ) )  ',
    select("(* -1.5e3 (** (- (attr e 'pt') .5) 2))"),
)


@pytest.mark.parametrize("selection", QUERIES)
def test_queries_of_an_analysis(selection: str) -> None:
    funcadl_query(selection)


def test_selections_are_read_as_qastle_reads_them() -> None:
    """Which has a slower parser of the same grammar."""
    own = queries.funcadl("Events").generate_selection_string()
    for selection in (*QUERIES, own):
        tree = qastle.insert_linq_nodes(qastle.text_ast_to_python_ast(selection))
        assert ast.dump(funcadl_query(selection)) == ast.dump(tree)


@pytest.mark.parametrize(
    "selection",
    [
        "",
        "(call",
        "(list 1)",
        "(call __import__ 'os')",
        "(call (attr (call __import__ 'os') 'system') 'true')",
        select("(call eval '1')"),
        select("(call open '/etc/passwd')"),
        select("eval"),
        select("__builtins__"),
        select("(attr e '__class__')"),
        select("(attr e '_meta')"),
        select("(attr e 'pt + __import__(1)')"),
        select("(attr e 'pt or exit()')"),
        select("(attr e 'pt\\nimport os')"),
        select("(attr e 'lambda')"),
        select("(attr np 'load')"),
        select("(call (attr np 'load') '/etc/passwd')"),
        select("(call (attr np 'fromfile') '/etc/passwd')"),
        select("(call (attr (attr np 'lib') 'x'))"),
        select("np"),
        select("(subscript np 'load')"),
        select("(call (attr e 'map_partitions') abs)"),
        select("(call (attr e 'compute'))"),
        select("(call (lambda (list x) x) 1)"),
        select("(call (subscript (list abs) 0) 1)"),
        select("e", argument="input_filenames"),
        select("e", argument="open"),
        select("e", argument="np"),
        select("e", argument="_x"),
        select("uproot"),
        select("other"),
        select("(call EventDataset '/etc/passwd' 'Events')"),
        "(call Select (call EventDataset (call abs 1)) (lambda (list e) e))",
        # What qastle takes for one string, Python takes for two with an expression between them.
        select("'\\\\' + __import__(\"os\").system(\"true\") + '\\\\'"),
        "x" * 200_000,
        # What takes 45 of these at once must not take a minute each.
        f"(list {'1 ' * 40_000})",
        f"{'(list ' * 10_000}1{')' * 10_000}",
    ],
)
def test_queries_that_no_analysis_has(selection: str) -> None:
    with pytest.raises(SelectionError):
        funcadl_query(selection)


def test_queries_of_the_analysis_pass() -> None:
    raw = queries.uproot_raw("Events", {"Jet_btagCSVV2": "Jet_btagDeepB"})
    (one,) = raw_queries(raw.generate_selection_string())
    assert "Jet_btagDeepB" in one["expressions"]
    assert "Jet_btagCSVV2" not in one["expressions"]
    funcadl_query(queries.funcadl("Events").generate_selection_string())


# --- the process in which they run


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    """A worker for uproot-raw."""
    worker = Worker("uproot-raw", codegens()["uproot-raw"], tmp_path / "log")
    yield worker
    worker.stop()


def transform(files: list[str], tmp_path: Path, cut: str) -> dict[str, Any]:
    query = {"treename": "Events", "expressions": ["MET_pt"], "cut": cut}
    return {
        "kind": "transform",
        "codegen": "uproot-raw",
        "selection": json.dumps([query]),
        "source": files[0],
        "urls": [],
        "follow": False,
        "target": str(tmp_path / "target"),
        "format": "root-file",
    }


def test_time_and_memory_are_limited(worker: Worker, files: list[str], tmp_path: Path) -> None:
    forever = transform(files, tmp_path, "MET_pt > 9**9**9")
    with pytest.raises(JobError, match="took more than 1 s"):
        worker.run(forever, Limits(seconds=1))
    much = transform(files, tmp_path, "MET_pt > 'a' * 10**10")
    with pytest.raises(JobError, match="more than 1000 MB of memory"):
        worker.run(much, Limits(memory=1000 << 20))
    # Neither harms the next.
    good = transform(files, tmp_path, "MET_pt > 0")
    assert worker.run(good, Limits())["events"] > 0


def test_secrets_of_the_endpoint_are_not_in_reach(
    worker: Worker, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    worker.run(transform(files, tmp_path, "MET_pt > 0"), Limits())
    assert worker._process
    with open(f"/proc/{worker._process.pid}/environ", "rb") as environment:  # noqa: PTH123
        assert b"secret" not in environment.read()
