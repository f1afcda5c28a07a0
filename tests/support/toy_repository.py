"""A repository of a small package with slowdowns that are known, and what to compare of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perf.compare.injected_slowdown import commit, git

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["commit", "git"]

WORK = 400
"""Steps of each function: some ten microseconds."""

NAMES = ("alpha", "beta", "gamma", "delta")

_FUNCTION = """
def {name}(step):
    total = 0
    for number in range({work}):
        total += step(number)
    return total % 7 if {work} else 0
"""

COUNTED = '''
"""The clock counts steps, of which each process does a little more or less: nothing is left to chance."""

import itertools
import os
import random
import time

import made_up

seed = (os.environ["PYTHONHASHSEED"], os.environ.get("ARM", ""), next(itertools.count()))
noise = random.Random(f"{seed}{os.getpid() % 3}")
clock = 0.0


def step(number):
    global clock
    clock += 1e-6
    return number % 7 == 0


def read():
    return clock


time.process_time = read
factors = {}


def called(name):
    global clock
    begin = clock
    getattr(made_up, name)(step)
    factor = factors.setdefault(name, 1 + 0.005 * noise.uniform(-1, 1))
    clock = begin + (clock - begin) * factor
    return name
'''

TIMED = '''
"""The machine's own clock."""

import made_up


def step(number):
    return number % 7 == 0


def called(name):
    getattr(made_up, name)(step)
    return name
'''

_BENCH = """

def bench_{name}():
    return called("{name}")
"""


def repository(folder: Path, states: Mapping[str, Mapping[str, int]]) -> Path:
    """Make a repository with a tagged commit for each state: the steps of functions, if not WORK."""
    made = folder / "repository"
    # These files make it a state of this project for `compare`, which needs no environment.
    kernels = made / "analysis" / "kernels"
    kernels.mkdir(parents=True)
    (made / "analysis" / "__init__.py").write_text("")
    (kernels / "__init__.py").write_text("")
    git(folder, "init", "--quiet", "--initial-branch=main", str(made))
    for tag, steps in states.items():
        source = f"# {tag}\n" + "".join(
            _FUNCTION.format(name=name, work=steps.get(name, WORK)) for name in NAMES
        )
        (made / "made_up.py").write_text(source)
        commit(made, tag)
    return made


def suite(folder: Path, head: str = COUNTED) -> Path:
    """A file of benchmarks of the package."""
    path = folder / "benchmarks.py"
    path.write_text(head + "".join(_BENCH.format(name=name) for name in NAMES))
    return path
