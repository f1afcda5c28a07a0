"""Input that the tests of scaling share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def fileset(synthetic_fileset: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file set of one sample: 4000 events in two files."""
    path = tmp_path_factory.mktemp("fileset") / "fileset.json"
    name = "ttbar__nominal"
    path.write_text(json.dumps({name: synthetic_fileset[name]}))
    return path
