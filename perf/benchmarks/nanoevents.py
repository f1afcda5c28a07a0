"""NanoEvents: opening a file, reading what the analysis reads, filling a histogram."""

from __future__ import annotations

from typing import Any

from perf.cases.case import REAL_EVENTS
from perf.cases.nanoevents import MODES, FillCase, OpenCase, ReadCase

from ._suite import CPU, EVENTS, KERNEL_SAMPLES, Prepared, benchmark, inputs, prepared


def _open(source: Any) -> None:
    """A file opened as NanoEvents: so much for each chunk, whatever its events.

    A synthetic file has 25 branches, a real one of CMS 1479.
    """
    if source == "real" and inputs().real is None:
        # Without the file there is nothing to measure; asv has no result then, and no failure.
        return
    case = OpenCase(REAL_EVENTS if source == "real" else EVENTS, source)
    ready = prepared(case)
    Prepared(ready.run, ready.calls, 1).sample(CPU)


time_open_cpu_seconds_per_file = benchmark(
    "time_open_cpu_seconds_per_file",
    _open,
    watch=CPU,
    params={"source": ("synthetic", "real") if inputs().real else ("synthetic",)},
    repeat=KERNEL_SAMPLES,
)


def _read(mode: Any) -> None:
    """A file opened, and the columns of the analysis read."""
    prepared(ReadCase(EVENTS, mode=mode)).sample(CPU)


time_read_cpu_seconds_per_event = benchmark(
    "time_read_cpu_seconds_per_event",
    _read,
    watch=CPU,
    params={"mode": MODES},
    repeat=KERNEL_SAMPLES,
)


def _fill(weights: str) -> None:
    """A histogram of all jets' transverse momenta."""
    prepared(FillCase(EVENTS, weighted=weights == "weighted")).sample(CPU)


time_fill_histogram_cpu_seconds_per_event = benchmark(
    "time_fill_histogram_cpu_seconds_per_event",
    _fill,
    watch=CPU,
    params={"weights": ("weighted", "unweighted")},
    repeat=KERNEL_SAMPLES,
)
