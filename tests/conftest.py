"""Data that several tests share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from analysis.synthetic import write_fileset

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 4000
"""Events of each synthetic sample: ttbar fills its regions with some 40 and 80 of them."""


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with synthetic NanoAOD of all samples, two files each, and fileset.json."""
    folder = tmp_path_factory.mktemp("synthetic")
    write_fileset(folder, events=EVENTS, seed=7, events_per_file=EVENTS // 2, cluster=1000)
    return folder


@pytest.fixture(scope="session")
def synthetic_fileset(synthetic: Path) -> dict[str, Any]:
    """The file set of `synthetic`; copy it before changing it."""
    fileset: dict[str, Any] = json.loads((synthetic / "fileset.json").read_text())
    return fileset
