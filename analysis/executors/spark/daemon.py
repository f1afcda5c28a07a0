"""The process that Spark forks its Python workers from, instead of `pyspark.daemon`.

It imports the analysis and loads its machine code before the first fork. A worker then starts in milliseconds (Spark ends one
that was idle for a minute), shares the memory of all imports, and pyspark's garbage collection
after every task passes over them.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec


def main() -> None:
    """Import, then fork workers for as long as Spark asks for them."""
    # Spark puts pyspark.zip first, which has no bytecode, so that imports compile: 0.3 s.
    installed = [path for path in sys.path if not path.endswith(("pyspark.zip", "-src.zip"))]
    bundled, sys.path[:] = sys.path[:], installed
    if find_spec("pyspark") is None or find_spec("py4j") is None:
        sys.path[:] = bundled
    # Spark reads an address from standard output: no import may print to it.
    answer = os.dup(1)
    os.dup2(2, 1)
    import_module("pyspark.worker")
    import_module("analysis.executors.spark.task")
    from analysis.executors.rehearsal import prepare_forks  # noqa: PLC0415

    prepare_forks(compiling=False)
    os.dup2(answer, 1)
    os.close(answer)
    from pyspark.daemon import manager  # noqa: PLC0415

    manager()


if __name__ == "__main__":
    main()
