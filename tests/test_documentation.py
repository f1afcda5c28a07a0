"""Documentation names what exists: files, modules, commands and options."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Final

import pytest
import typer

ROOT: Final = Path(__file__).parents[1]
# The changelog names what there was before.
PAGES: Final = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("reports/*.md")}
    - {ROOT / "CHANGELOG.md"}
)
COMMAND: Final = re.compile(
    r"(?:coffea-|python -m )(analysis|perf) ([a-z][a-z-]*)((?:[^\n`]|\\\n)*)"
)


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request: pytest.FixtureRequest) -> str:
    """Text of a page."""
    path: Path = request.param
    return path.read_text()


@cache
def commands(package: str) -> dict[str, set[str]]:
    """Commands of a command line, each with its options and those of its subcommands."""
    app = importlib.import_module(f"{package}.cli._app").app
    group = typer.main.get_command(app)

    def options(command: object) -> set[str]:
        own = {name for one in getattr(command, "params", ()) for name in one.opts}
        return own.union(*map(options, getattr(command, "commands", {}).values()))

    return {name: options(one) for name, one in getattr(group, "commands", {}).items()}


def test_files_exist(page: str) -> None:
    named = re.findall(r"(?<![\w/.-])((?:analysis|perf|tests|docs|reports)/[\w./*-]+)", page)
    missing = {
        name
        for name in (one.rstrip(".,") for one in named)
        if not name.isupper() and "NAME" not in name and "VERSION" not in name
        if not any(ROOT.glob(name)) and not name.startswith("reports/site/")
    }
    assert missing == {"perf/bench_GROUP.py"} & missing


def test_modules_and_their_names_exist(page: str) -> None:
    for name in re.findall(r"`((?:analysis|perf)(?:\.\w+)+)[`(]", page):
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            try:
                found: object = importlib.import_module(".".join(parts[:end]))
            except ModuleNotFoundError:
                continue
            for attribute in parts[end:]:
                found = getattr(found, attribute)
            break


def test_commands_and_options_exist(page: str) -> None:
    for package, command, rest in COMMAND.findall(page):
        assert command in commands(package), f"{package} {command}"
        options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest.partition("#")[0]))
        assert options <= commands(package)[command] | {"--help"}, f"{package} {command}"


def test_python_in_pages_compiles_and_imports_what_exists(page: str) -> None:
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        for node in ast.walk(ast.parse(dedent(block))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("analysis"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, one.name) for one in node.names)
