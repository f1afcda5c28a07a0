"""Events that several tests of the synthetic data share."""

from __future__ import annotations

from typing import Any

import pytest

from analysis.synthetic import (
    generate,
)


@pytest.fixture(scope="session")
def ttbar() -> dict[str, Any]:
    """Events of ttbar; copy a column before changing it."""
    return generate("ttbar", "nominal", 0, 60_000, seed=11)
