"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, cast

import pytest
from hypothesis import HealthCheck, settings

from perf.cases.data import find_shared, why_no_shared
from perf.cases.scales import EXAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.kernels import Implementation

pytest_plugins = ("perf.plugin", "pytester")

# --- hypothesis

PROFILE_VARIABLE: Final = "HYPOTHESIS_PROFILE"

# Examples are arrays, slow to draw on a busy machine; how long one takes says nothing here.
_COMMON: Final = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", _COMMON, max_examples=EXAMPLES["ci"], derandomize=bool(os.environ.get("CI"))
)
settings.register_profile("quick", _COMMON, max_examples=EXAMPLES["quick"])
settings.register_profile("thorough", _COMMON, max_examples=EXAMPLES["thorough"])
settings.load_profile(os.environ.get(PROFILE_VARIABLE, "ci"))

# --- implementations of the kernels

# Not read from analysis.kernels: importing it takes seconds, which collecting need not wait for.
IMPLEMENTATIONS: Final = ("reference", "columnar", "compiled")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many workers again as there are cores: many tests wait for processes they start."""
    return min(6, 3 * len(os.sched_getaffinity(0)) // 2)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers that choose implementations."""
    for name in IMPLEMENTATIONS:
        config.addinivalue_line("markers", f"only_{name}: run with the {name} kernels only")
        config.addinivalue_line("markers", f"skip_{name}: do not run with the {name} kernels")


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """Each implementation of the kernels.

    Markers ``only_NAME`` and ``skip_NAME`` choose; their argument is printed as the reason.

    Example
    -------
    >>> @pytest.mark.skip_reference("plain loops take minutes for 1e6 events")
    ... def test_many_events(implementation): ...
    """
    name = cast("Implementation", request.param)
    wanted = [one for one in IMPLEMENTATIONS if request.node.get_closest_marker(f"only_{one}")]
    if wanted and name not in wanted:
        pytest.skip(f"only for {', '.join(wanted)}{_reason(request, f'only_{wanted[0]}')}")
    if request.node.get_closest_marker(f"skip_{name}"):
        pytest.skip(f"not for {name}{_reason(request, f'skip_{name}')}")
    return name


def _reason(request: pytest.FixtureRequest, marker: str) -> str:
    arguments = request.node.get_closest_marker(marker).args
    return f": {arguments[0]}" if arguments else ""


# --- data


@pytest.fixture(scope="session")
def shared_data(pytestconfig: pytest.Config) -> Path:
    """The data folder with real CMS files; skips where it is absent."""
    folder = find_shared(pytestconfig.rootpath)
    if folder is None:
        pytest.skip(why_no_shared())
    return folder
