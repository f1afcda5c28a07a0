"""Which packages keep the stack off free-threaded CPython: ``python -m tests.campaigns.free_threading``.

Of all that `pip install coffea-scaling` brings, packages with compiled code need a wheel for it. pip is asked
for one of the version that is installed here, and downloads at most its metadata. A package whose
wheel imports may still turn Python's lock on again: that is not tried, as it takes the interpreter.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from importlib import metadata
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rich.console import Console
from rich.table import Table

from tests.campaigns._footer import footer

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT: Final = "coffea-scaling"
VERSIONS: Final = ("3.13", "3.14")
PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
NO_WHEEL: Final = ("No matching distribution found", "from versions: none")


def required(name: str, seen: set[str]) -> Iterator[metadata.Distribution]:
    """A package and all that it requires, without extras, each once."""
    name = str(canonicalize_name(name))
    if name in seen:
        return
    seen.add(name)
    found = metadata.distribution(name)
    yield found
    for text in found.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from required(requirement.name, seen)


def is_compiled(package: metadata.Distribution) -> bool:
    """Whether its wheel is for one interpreter or platform."""
    wheel = package.read_text("WHEEL") or ""
    return "Root-Is-Purelib: false" in wheel and "Tag: py3-none-" not in wheel


def has_wheel(name: str, version: str, python: str) -> bool:
    """Whether there is a wheel of this version for the free-threaded interpreter."""
    abi = f"cp{python.replace('.', '')}t"
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps"),
            *("--only-binary", ":all:", "--target", folder, "--implementation", "cp"),
            *("--python-version", python, "--abi", abi),
            *(word for one in PLATFORMS for word in ("--platform", one)),
            f"{name}=={version}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not any(text in done.stderr for text in NO_WHEEL):
        raise SystemExit(done.stderr)
    return not done.returncode


def main() -> None:
    """Print a table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    packages = {one.name: one.version for one in required(PROJECT, set()) if is_compiled(one)}
    table = Table("package", "version", *(f"{python}t" for python in VERSIONS))
    missing = dict.fromkeys(VERSIONS, 0)
    for name, version in sorted(packages.items()):
        cells = []
        for python in VERSIONS:
            there = has_wheel(name, version, python)
            missing[python] += not there
            cells.append("yes" if there else "none")
        if "none" in cells:
            table.add_row(name, version, *cells)
    console = Console()
    console.print(f"{len(packages)} packages with compiled code; those without a wheel:")
    console.print(table)
    for python, count in missing.items():
        console.print(f"{python}t: {count} of {len(packages)} have none")
    console.print(footer("free_threading"), highlight=False)


if __name__ == "__main__":
    main()
