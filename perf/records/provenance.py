"""What a record says of where it was made: versions, the code of this project, the machine."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

from perf.records.record_file import Machine

PACKAGES: Final = (
    "coffea",
    "awkward",
    "uproot",
    "numba",
    "numpy",
    "hist",
    "boost-histogram",
    "distributed",
    "parsl",
    "pyspark",
    "pyhf",
    "jax",
)
"""Packages whose versions stand in every record."""

SUITE: Final = "coffea-scaling"
"""This project, among the packages of a record."""

MACHINE_VARIABLE: Final = "PERF_MACHINE"
"""Environment variable that names the machine, where its own name changes."""


def versions(*more: str) -> dict[str, str]:
    """Versions of Python and of PACKAGES and more, those that are installed."""
    installed = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


@cache
def suite() -> str:
    """Digest of the code of this project: what is measured, and how."""
    total = hashlib.sha256()
    root = Path(__file__).parents[2]
    for source in sorted(
        path for part in ("analysis", "perf") for path in (root / part).rglob("*.py")
    ):
        total.update(f"{source.relative_to(root)}\n".encode() + source.read_bytes())
    return total.hexdigest()[:8]


def machine(name: str | None = None) -> Machine:
    """The machine that runs this process; its name by default as MACHINE_VARIABLE has it, or its own."""
    return Machine(
        name=name or os.environ.get(MACHINE_VARIABLE) or platform.node(),
        cpu=_cpu_model(),
        cores=_usable_cores(),
        memory=psutil.virtual_memory().total,
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
    )


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def load_average() -> float | None:
    """Load average of the last minute, None where the system has none."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None
