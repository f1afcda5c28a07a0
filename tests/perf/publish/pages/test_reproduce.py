"""Reproduce: all commands as they are declared, all machines, and what is void."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from analysis.cli import _app as analysis_cli
from perf.cli import _app as perf_cli
from perf.publish.commands import MAKEFILE, make_targets, of_group
from perf.publish.page import Material
from perf.publish.pages.reproduce import PAGE
from perf.records.provenance import SUITE
from perf.records.record_file import Machine
from perf.records.void import Void
from tests.support import cli
from tests.support.factories import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from perf.publish.page import Page
    from tests.support.page_tables import Reader

    Shown = Callable[[Page, Material], Reader]

PERF = [*of_group("python -m perf", typer.main.get_command(perf_cli.app))]


def test_every_command_is_shown_with_its_options(shown: Shown) -> None:
    page = shown(PAGE, Material.of([], commands=PERF))
    for program, known in (("perf", perf_cli.COMMANDS), ("analysis", analysis_cli.COMMANDS)):
        for name in known:
            assert f" python -m {program} {name} " in page.text
    assert "python -m perf history run" in page.text
    assert "--benchmark-only" in page.text
    (publish,) = [each for each in PERF if each.name == "python -m perf publish"]
    assert {"--html", "--serve"} <= {option for option, _ in publish.details}
    assert ("--port", "Port of --serve; 0 for any.") in publish.details
    # No option of click's own, and no argument that is typer's context.
    assert not {"--help", "context"} & {option for option, _ in publish.details}


def test_targets_of_make_have_their_recipes() -> None:
    targets = {target.name: target for target in make_targets()}
    text = MAKEFILE.read_text()
    assert len(targets) == sum("## " in line for line in text.splitlines() if ":" in line) - 1
    assert targets["make smoke"].does == "Every benchmark once, on the smallest size"
    ((_, recipe),) = targets["make smoke"].details
    assert recipe == "$(BIN)/pytest perf --benchmark-only --benchmark-scale small"
    ((_, recipe),) = targets["make history"].details
    assert len(recipe.splitlines()) > 4
    assert not make_targets(Path("no/Makefile"))


def test_the_command_line_gives_the_page_its_commands(tmp_path: Path) -> None:
    outcome = cli.perf("publish", "--root", tmp_path, "--html", tmp_path / "site")
    assert outcome.exit_code == 0, outcome.error
    assert "python -m perf watch" in (tmp_path / "site/reproduce.html").read_text()


def test_machines_and_versions_are_those_of_the_records(shown: Shown) -> None:
    second = Machine(
        name="second", cpu="a CPU", cores=16, memory=2**36, kernel="Linux 7", python="CPython 3.12"
    )
    more = record(
        versions={"python": "3.12.1", "coffea": "2025.12.0", "zstd": "9"}, machine=second
    )
    newer = record(versions={**record().versions, SUITE: "another"})
    page = shown(PAGE, Material.of([record(), newer, more]))
    machines = page.table("Machines")
    assert machines.column("machine") == ["made-up", "second"]
    assert machines.column("what it is") == [
        *("none, 2 cores, 16 GiB, Linux 6", "a CPU, 16 cores, 64 GiB, Linux 7"),
    ]
    assert machines.column("records") == ["2", "1"]
    versions = page.table("Environments that were measured")
    assert sorted(versions.column("coffea")) == ["2025.12.0", "2026.9.0"]
    assert sorted(versions.column("machines")) == ["made-up", "second"]
    assert "zstd 9" in page.text


def test_what_is_void_says_since_when_and_why(shown: Shown) -> None:
    void = Void(benchmark="kernel.ht.*", since=date(2026, 6, 1), reason="other events")
    page = shown(PAGE, Material.of([record()], [void]))
    assert page.table("What was measured before").rows == [
        ["kernel.ht.*", "2026-06-01", "other events"]
    ]
    assert "No benchmark changed its meaning" in shown(PAGE, Material.of([record()])).text


@pytest.mark.parametrize("name", ["machine", "version"])
def test_an_empty_store_names_the_commands(shown: Shown, name: str) -> None:
    assert f"o {name} is measured in these records" in shown(PAGE, Material.of([])).text
