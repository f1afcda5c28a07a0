"""Options of executors: each wrong value is one sentence, at every door, before anything starts."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.allocator import in_force
from analysis.errors import InputError
from analysis.executors import EXECUTORS, open_executor, options_of, parse_options
from analysis.executors.batches import BatchedExecutor
from analysis.executors.options import (
    BATCHED,
    MODELS,
    EngineOptions,
    SparkOptions,
    table,
    write_table,
)
from analysis.executors.worker import HASH_SEED
from perf.scaling.configurations import configurations
from tests.support.cli import analysis
from tests.support.process_helpers import one_sentence

ENGINES = sorted({*EXECUTORS} - {"iterative", "compute"})

WRONG: list[tuple[str, dict[str, Any], str]] = [
    *(
        (name, options, sentence)
        for name in ENGINES
        for options, sentence in (
            ({"batch": -1}, "batch .* cannot be -1: it takes a whole number of at least 1"),
            ({"batch": 2.5}, "batch .* cannot be 2.5"),
            ({"batch": True}, "batch .* cannot be True"),
            ({"fan_in": -2}, "fan_in .* cannot be -2: it takes a whole number of at least 2"),
            ({"compression": 99}, "compression .* cannot be 99: it takes a level of lz4"),
            ({"compression": "zip"}, "compression .* cannot be 'zip'"),
            ({"retries": -1}, "retries .* cannot be -1: it takes a whole number of at least 0"),
            ({"status": "yes"}, "status .* cannot be 'yes': it takes true or false"),
            ({"tuned": "no"}, "tuned .* cannot be 'no': it takes true or false"),
            ({"environment": 5}, "environment .* cannot be 5: it takes names and text"),
            ({"environment": {"A": 5}}, "environment .* cannot be {'A': 5}"),
            ({"environment": {"A; ls": ""}}, "environment .* cannot be {'A; ls': ''}"),
            ({"modules": [3]}, r"modules .* cannot be \[3\]: it takes names of modules"),
            ({"workers": 3}, "workers is no option of an executor"),
            ({"name": "x"}, f"the {name} executor has no option 'name': it has .*batch, "),
            ({"tuned": False, "batch": 3}, "option batch .* nothing with tuned=false"),
            ({"tuned": False, "compression": "auto"}, "compression .* nothing with tuned=false"),
        )
    ),
    *(
        (name, {"pool": "threads", "environment": {"A": "b"}}, "environment .* with threads")
        for name in ("futures", "parsl")
    ),
    ("futures", {"pool": "thread"}, "pool .* cannot be 'thread': it takes processes or threads"),
    ("iterative", {"batch": 1}, "no option 'batch': it has chunk_timeout, modules"),
    ("futures", {"merging": True}, "no option merging: workers merge what they process"),
    ("futures", {"mergepool": 2}, "no option mergepool: workers merge"),
    ("dask", {"use_dataframes": True}, "no option use_dataframes: let the processor return"),
    ("dask", {"treereduction": 20}, "no option treereduction: .*fan_in"),
    ("parsl", {"tailtimeout": 5}, "no option tailtimeout: it does nothing in coffea either"),
    ("dask", {"chunk_timeout": 0}, "chunk_timeout .* cannot be 0: it takes seconds"),
    ("dask", {"tuned": False, "recoverable": True}, "recoverable .* nothing with tuned=false"),
    ("dusk", {}, "no executor 'dusk': use one of iterative, futures, dask"),
    ("dask", {"threads": 0}, "threads .* cannot be 0: it takes a whole number of at least 1"),
    ("dask", {"memory_limit": "much"}, "memory_limit .* cannot be 'much': it takes bytes"),
    ("dask", {"memory_limit": "1MB"}, "memory_limit .* cannot be '1MB'.*at least 500 MB"),
    ("dask", {"memory_limit": -1}, "memory_limit .* cannot be -1"),
    ("dask", {"memory_limit": [1]}, r"memory_limit .* cannot be \[1\]"),
    ("dask", {"patience": 0}, "patience .* cannot be 0: it takes seconds"),
    ("dask", {"patience": float("nan")}, "patience .* cannot be nan"),
    ("dask", {"cluster": 5}, "cluster .* cannot be 5: it takes a cluster as of dask-jobqueue"),
    ("dask", {"plugins": [5]}, r"plugins .* cannot be \[5\]: it takes a list of WorkerPlugin"),
    ("dask", {"address": "tcp://x", "threads": 2}, "threads .* cluster that runs already"),
    ("dask", {"address": "tcp://x", "environment": {}}, "environment .* that runs already"),
    ("dask", {"config": "x"}, "config .* cannot be 'x'"),
    ("parsl", {"config": "x"}, "config .* cannot be 'x': it takes a parsl.Config"),
    ("parsl", {"memory": -1}, "memory .* cannot be -1"),
    ("spark", {"configuration": "x"}, "configuration .* cannot be 'x': it takes names and text"),
    ("spark", {"configuration": {"a": 1}}, "configuration .* cannot be {'a': 1}"),
    ("spark", {"memory": "plenty"}, "memory .* cannot be 'plenty': it takes a number and k"),
    ("spark", {"partitions": 0}, "partitions .* cannot be 0"),
    ("spark", {"partitions": 3, "batch": 1}, "option batch .* beside partitions"),
]


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is even imported."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr("analysis.executors.import_module", refuse)


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(("name", "options", "sentence"), WRONG)
def test_wrong_values_are_one_sentence(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        parse_options(name, options)
    one_sentence(caught.value)
    if "workers" in options:
        return
    with pytest.raises(InputError) as program, open_executor(name, **options):
        pass
    assert str(program.value) == str(caught.value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("batch=-1", "batch of the futures executor cannot be -1"),
        ("pool=thread", "pool of the futures executor cannot be 'thread'"),
        ("modules=5", "modules of the futures executor cannot be 5"),
        ("workers=2", "workers is no option"),
        ("name=x", "no option 'name'"),
    ],
)
def test_at_every_door(given: str, sentence: str, tmp_path: Path) -> None:
    fileset = tmp_path / "fileset.json"
    fileset.write_text('{"a": {"files": {"absent.root": "Events"}, "metadata": {}}}')
    outcome = analysis(
        *("run", fileset, "--processor", "tests.support.faults:Plain", "--executor", "futures"),
        *("--option", given, "--output", tmp_path / "out.coffea"),
    )
    # Before it is found that there is no such file.
    assert outcome.exit_code == 2
    assert sentence in outcome.error
    with pytest.raises(InputError, match="option"):
        configurations(["futures"], [1], [1000], options=[given])


def test_numbers_of_workers() -> None:
    for name, workers, sentence in (
        ("futures", 0, "cannot have 0 workers"),
        ("dask", 2.5, "cannot have 2.5 workers"),
        ("iterative", 3, "one worker, not 3"),
    ):
        with (
            pytest.raises(InputError, match=sentence),
            open_executor(name, workers=workers),  # type: ignore[arg-type]
        ):
            pass


def test_modules_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_module.py").write_text("def")
    for module, reason in (("no.such", "No module named"), ("broken_module", "invalid syntax")):
        with (
            pytest.raises(InputError, match=f"the module {module} cannot be sent .*{reason}"),
            open_executor("iterative", modules=[module]),
        ):
            pass


def test_text_is_not_taken_for_true() -> None:
    for text in ("False", "false", "FALSE"):
        assert parse_options("dask", {"tuned": text}).tuned is False  # type: ignore[attr-defined]
    assert parse_options("dask", {"compression": "None"}).keywords()["compression"] is None


def test_coffeas_own_is_called_so_however_it_is_asked_for() -> None:
    for text in ("tuned=False", "tuned=false", "futures.tuned=FALSE"):
        (configuration,) = configurations(["futures"], [1], [1000], options=[text], untuned=True)
        assert (configuration.tuned, configuration.engine) == (False, "futures, coffea's own")
    (configuration,) = configurations(["futures"], [1], [1000], options=["tuned=True"])
    assert (configuration.tuned, configuration.engine) == (True, "futures")


def test_hash_seed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    for name, options, seed in (
        ("futures", {}, HASH_SEED),
        ("spark", {"environment": {"PYTHONHASHSEED": "5"}}, "5"),
        ("parsl", {"environment": {"PYTHONHASHSEED": None}}, "random"),
        ("futures", {"pool": "threads"}, "random"),
        ("iterative", {}, "random"),
        ("dask", {"address": "tcp://x"}, None),
        ("futures", {"tuned": False}, None),
    ):
        assert parse_options(name, options).hash_seed == seed
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    assert parse_options("iterative", {}).hash_seed == "7"


def test_allocator_is_told() -> None:
    for name, options, ours in (
        ("futures", {}, True),
        ("spark", {"environment": {"OTHER": "5"}}, True),
        ("parsl", {"environment": {"MALLOC_ARENA_MAX": "2"}}, False),
        ("futures", {"environment": {"GLIBC_TUNABLES": None}}, False),
        ("futures", {"pool": "threads"}, in_force()),
        ("iterative", {}, in_force()),
        ("dask", {"address": "tcp://x"}, None),
        ("futures", {"tuned": False}, None),
    ):
        assert parse_options(name, options).allocator is ours


def test_modules_may_be_given_as_an_option() -> None:
    given = parse_options("futures", {"modules": ["helpers"], "batch": 2})
    assert given.keywords() == {"modules": ["helpers"], "batch": 2}
    assert parse_options("futures", {"modules": "helpers"}).modules == ("helpers",)


def test_models_are_of_all_executors_and_agree_with_the_classes() -> None:
    assert tuple(MODELS) == EXECUTORS
    assert options_of("iterative") == [
        *("chunk_timeout", "modules", "recoverable", "retries", "status")
    ]
    defaults = {field.name: field.default for field in dataclasses.fields(BatchedExecutor)}
    assert EngineOptions.model_fields["tuned"].default is True
    for name in BATCHED:
        assert EngineOptions.model_fields[name].default == defaults[name]
    from analysis.executors.spark.executor import SparkExecutor

    assert SparkOptions.model_fields["fan_in"].default == SparkExecutor.fan_in


def test_documentation_lists_what_there_is() -> None:
    """If this fails, run `python -m analysis.executors.options docs/executors.md`."""
    page = Path(__file__).parents[3] / "docs" / "executors.md"
    assert table() in page.read_text()


def test_table_of_a_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "executors.md"
    page.write_text(f"# Before\n\n{table().replace('null', 'nothing')}| old | | | | |\n\nAfter.\n")
    write_table(page)
    assert page.read_text() == f"# Before\n\n{table()}\nAfter.\n"


def test_an_option_without_its_texts_is_refused() -> None:
    with pytest.raises(TypeError, match="say what it takes in its annotation"):

        class WithNice(EngineOptions):
            nice: int = 0


def test_options_import_no_engine() -> None:
    code = (
        "import sys; from analysis.executors import parse_options; "
        "parse_options('spark', {'batch': 1}); parse_options('dask', {'threads': 2}); "
        "print({'coffea', 'dask', 'distributed', 'parsl', 'pyspark', 'loky'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "set()"
