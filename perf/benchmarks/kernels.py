"""Every kernel of the analysis: CPU seconds an event, on columns in memory and on NanoEvents."""

from __future__ import annotations

import inspect
from typing import Any

from analysis.kernels import KERNELS
from perf.cases.case import VECTORISED
from perf.cases.kernels import KernelCase
from perf.cases.nanoevents import NanoKernelCase

from ._suite import CPU, EVENTS, KERNEL_SAMPLES, benchmark, prepared

INPUTS = {"columns": KernelCase, "NanoEvents": NanoKernelCase}


def _body(kernel: str) -> Any:
    def body(implementation: Any, of: str) -> None:
        prepared(INPUTS[of](kernel, implementation, EVENTS)).sample(CPU)

    body.__doc__ = f"Kernel {kernel}, {EVENTS:,} events."
    return body


for _kernel in KERNELS:
    _benchmark = benchmark(
        f"time_{_kernel}_cpu_seconds_per_event",
        _body(_kernel),
        watch=CPU,
        params={"implementation": VECTORISED, "input": tuple(INPUTS)},
        source=inspect.getsource(KERNELS[_kernel].module),
        repeat=KERNEL_SAMPLES,
    )
    globals()[_benchmark.__name__] = _benchmark
