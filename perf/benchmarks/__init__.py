"""asv's benchmarks, generated from the catalogue: what is measured, and on what, stands there.

asv imports this folder alone, as ``benchmarks``, in an environment that has coffea and what the
suite asks for, but not the suite: that is found beside this folder, and is the same whatever
commit of coffea is measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
