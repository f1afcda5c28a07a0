"""asv's benchmarks, generated from the cases in `perf/cases`.

asv imports this folder alone, as ``benchmarks``, in an environment with coffea and what the suite
depends on. The suite itself is found beside this folder: it is the same for every commit of coffea.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
