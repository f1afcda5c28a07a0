"""Series of made-up histories: what is judged of one machine, whatever else is measured."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from perf.environments import releases
from perf.publish.change_points import LEAST, changes
from perf.publish.curves import joined
from perf.publish.series import default_machine, series
from perf.records.record_file import Input, Record
from tests.support.factories import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOW = datetime(2026, 11, 1, tzinfo=UTC)
MAIN = [version for version in releases() if not version.startswith("0.7.3")]
KERNELS = ("ht", "met", "trijet", "cleaning")


def made(
    version: str,
    milliseconds: float,
    *,
    kernel: str = "ht",
    mode: str = "columnar",
    machine: str = "first",
    cpu: str = "AMD",
    **changes: Any,
) -> Record:
    """A process of the history."""
    one = record(
        name=f"history-{kernel}-{mode}",
        group=f"history, {kernel}",
        implementation=mode,
        versions={"python": "3.11", "coffea": version},
        **{
            "cpu_seconds": tuple(milliseconds * 1e-3 * extra for extra in (0.99, 1, 1.01)),
            "wall_seconds": (),
            "timestamp": NOW,
            **changes,
        },
    )
    where = one.machine.model_copy(update={"name": machine, "cpu": cpu})
    return one.model_copy(update={"machine": where})


def noise(seed: int, spread: float = 0.01) -> Any:
    return np.exp(np.random.default_rng(seed).normal(0, spread, len(MAIN)))


def history(factors: Iterable[float], versions: Sequence[str] = MAIN, **more: Any) -> list[Record]:
    """A process of each release."""
    return [
        made(version, factor, **more) for version, factor in zip(versions, factors, strict=True)
    ]


def of_all() -> list[Record]:
    """Histories of four kernels, one of which doubles."""
    twice = np.where(np.arange(len(MAIN)) < 6, 1.0, 2.0)
    return [
        one
        for seed, kernel in enumerate(KERNELS)
        for one in history(noise(seed) * (twice if kernel == "met" else 1), kernel=kernel)
    ]


def seen(records: Sequence[Record], machine: str) -> Any:
    """Curves and verdicts of a machine, as pages show them."""
    benchmarks = series(records)
    judged = changes(benchmarks.values())
    curves = [
        dataclasses.replace(curve, series=None)  # type: ignore[arg-type]
        for benchmark in joined(benchmarks, judged).values()
        for curve in benchmark.curves
        if curve.machine == machine
    ]
    return curves, [each for each in judged if each.machine == machine]


def everything_once(**where: Any) -> list[Record]:
    """A run of much more than the history has, on one release, later and much faster."""
    later = {"timestamp": NOW + timedelta(days=9), "run": "later", **where}
    other = Input(digest="e" * 64, events=1_000, source="other events")
    return [
        *(made(MAIN[-1], 0.1, kernel=kernel, **later) for kernel in KERNELS),
        *(made(MAIN[-1], 0.1, kernel=kernel, mode="compiled", **later) for kernel in KERNELS),
        *(made(MAIN[-1], 0.1, kernel=kernel, input=other, **later) for kernel in KERNELS),
        *(made(MAIN[-1], 0.1, kernel=f"kernel {number}", **later) for number in range(500)),
    ]


@pytest.mark.parametrize(
    "where", [{"machine": "another"}, {"machine": "a"}, {"machine": "first", "cpu": "ARM"}]
)
def test_one_run_on_another_machine_changes_nothing_of_the_first(where: dict[str, str]) -> None:
    before = of_all()
    records = [*before, *everything_once(**where)]
    for every in (records, records[::-1]):
        assert default_machine(series(every).values()) == "first"
    curves, judged = seen(before, "first")
    assert (curves, judged) == seen(records, "first")
    assert [(each.after.name, each.case) for each in judged] == [(f"v{MAIN[6]}", "")]
    # The other machine is there, and nothing of it is judged.
    own = {machine for one in series(records).values() for _, machine, _ in one.records}
    (other,) = own - {"first"}
    points, none = seen(records, other)
    assert len(points) == 4 * 3 + 500
    assert none == []


def test_the_machine_with_most_points_of_history_is_the_default() -> None:
    short = history(noise(1)[:3], MAIN[:3], machine="a")
    assert default_machine(series([*short, *everything_once(machine="b")]).values()) == "a"
    assert default_machine(series([*short, *of_all()]).values()) == "first"
    # Of machines without any history it is that with most points.
    alone = [made(MAIN[-1], 1, machine="a"), *everything_once(machine="b")]
    assert default_machine(series(alone).values()) == "b"
    assert default_machine([]) is None


@pytest.mark.parametrize("factor", [1.1, 1 / 1.1])
def test_ten_percent_at_one_release_is_one_change(factor: float) -> None:
    """In the whole of a history: nothing else is told beside it."""
    records = [
        one
        for seed, kernel in enumerate(KERNELS)
        for one in history(
            noise(seed, 0.004) * np.where((np.arange(len(MAIN)) < 7) | (seed != 2), 1, factor),
            kernel=kernel,
        )
    ]
    (change,) = changes(series(records).values())
    assert change.benchmark == "kernel.history_trijet.cpu_seconds_per_event"
    assert (change.before.name, change.after.name) == (f"v{MAIN[6]}", f"v{MAIN[7]}")
    assert change.worse == (factor > 1)
    assert change.low < factor < change.high
    assert change.ratio == pytest.approx(factor, rel=LEAST / 5)


def test_a_mode_that_begins_midway_is_no_change() -> None:
    """It is much slower than the other; an average over both would become slower there."""
    late = history(10 * noise(2)[5:], MAIN[5:], mode="virtual")
    records = [*history(noise(1)), *late]
    (one,) = series(records).values()
    assert len(one.axes()) == 2
    assert changes([one]) == []
    curves, judged = seen(records, "first")
    assert judged == []
    assert sorted(len(curve.points) for curve in curves) == [len(late), len(MAIN)]
    assert {curve.status(*entries(curve)) for curve in curves} == {("no change seen", None)}


def entries(curve: Any) -> Any:
    """The last two releases of a curve."""
    return [point.entry for point in curve.points[-2:]]


def test_processes_are_points_with_their_median() -> None:
    times = (1.0, 5.0, 2.0)
    records = [
        made(MAIN[-1], each, parameters={"campaign": "c", "round": number})
        for number, each in enumerate(times)
    ]
    (one,) = series(records).values()
    ((benchmark,),) = ([each] for each in joined({one.name: one}, []).values())
    (curve,) = benchmark.curves
    (point,) = curve.points
    assert point.samples == pytest.approx([each * 1e-6 for each in times])
    assert point.median == pytest.approx(2e-6)
    assert point.record in records
    assert (curve.smallest, curve.changes) == (None, [])
