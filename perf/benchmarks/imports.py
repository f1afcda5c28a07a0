"""Import of coffea by a new interpreter: CPU seconds."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from ._suite import CPU, SLOW_SAMPLES, benchmark

MODULES: Final = ("coffea.nanoevents", "coffea.processor", "coffea.analysis_tools")

PROGRAM: Final = """
import time
begin = time.process_time()
import {module}
print(time.process_time() - begin)
"""


def _import(module: str) -> None:
    """A new interpreter imports a module; what it compiled before is there, as for a user."""
    command = [sys.executable, "-c", PROGRAM.format(module=module)]
    for _ in range(2):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    CPU.add(float(done.stdout))


time_import_cpu_seconds = benchmark(
    "time_import_cpu_seconds",
    _import,
    watch=CPU,
    params={"module": MODULES},
    repeat=SLOW_SAMPLES,
    timeout=300,
)
