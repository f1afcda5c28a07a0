"""Parsl's manager of a node, whose workers are forks instead of processes that import all again.

    python -m analysis.executors.parsl_manager PID OPTION ...

It ends with the process PID; the options are those of Parsl's `process_worker_pool.py`, which runs
here with another start method of multiprocessing.
"""

from __future__ import annotations

import runpy
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import parsl.multiprocessing

from analysis.executors.fork_server import ForkContext, forking
from analysis.processes import end_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

POOL: Final = "parsl.executors.high_throughput.process_worker_pool"
"""Parsl's script, which is a module too."""


class _Context(ForkContext):
    """Forks that find the function of a worker in the module: they do not run the script again."""

    def Process(self, *, target: Callable[..., Any], **arguments: Any) -> BaseProcess:  # type: ignore[override]
        """A worker, or the process that holds what workers share."""
        if target.__module__ == "__main__":
            target = getattr(import_module(POOL), target.__name__)
        return super().Process(target=target, **arguments)


def main() -> None:
    """Run the script with forks."""
    end_with(int(sys.argv.pop(1)))
    with forking({}, [POOL, "analysis.executors.parsl"]) as forks:
        parsl.multiprocessing.SpawnContext = _Context(forks.server)
        runpy.run_module(POOL, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
