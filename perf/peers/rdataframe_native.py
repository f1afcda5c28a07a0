"""RDataFrame as a compiled program: `rdataframe_native.cpp` by g++ -O3, called from here.

It is built once for each source and version of ROOT, into ``.perf/peers`` of the project. Histograms
are TH1D, as in `rdataframe`.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
from pathlib import Path
from typing import Final

import ROOT

from perf.peers.query import Query

HERE: Final = Path(__file__).parent
SOURCES: Final = (HERE / "rdataframe_native.cpp", HERE / "rdataframe.hpp")
BUILT: Final = HERE.parents[1] / ".perf" / "peers"
LIBRARIES: Final = (
    *("ROOTDataFrame", "ROOTVecOps", "TreePlayer", "Tree", "Hist", "RIO", "MathCore", "Core"),
)


def build(installed: Path) -> Path:
    """The shared library, compiled against the ROOT of a folder unless it is there already."""
    flags = [
        *("-O3", "-march=native", "-std=c++20", "-shared", "-fPIC"),
        *(
            f"-I{installed / 'include'}",
            f"-L{installed / 'lib'}",
            f"-Wl,-rpath,{installed / 'lib'}",
        ),
        *(f"-l{name}" for name in LIBRARIES),
    ]
    identity = hashlib.sha256(" ".join([ROOT.gROOT.GetVersion(), *flags]).encode())
    for source in SOURCES:
        identity.update(source.read_bytes())
    library = BUILT / f"rdataframe-{identity.hexdigest()[:12]}.so"
    if not library.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        part = library.with_suffix(".part")
        subprocess.run(["g++", SOURCES[0], *flags, "-o", part], check=True)
        part.replace(library)
    return library


_run = ctypes.CDLL(str(build(Path(ROOT.__file__).parent))).run
_run.argtypes = [
    *(ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_double, ctypes.c_double),
    ctypes.POINTER(ctypes.c_double),
]
_run.restype = None


def run(path: str, query: Query) -> list[float]:
    """Counts of the histograms of a query, of the events of a NanoAOD file."""
    counts = (ctypes.c_double * (query.histograms * query.size))()
    _run(path.encode(), query.name.encode(), query.bins, query.low, query.high, counts)
    return [*counts]


def versions() -> dict[str, str]:
    """Of ROOT and the compiler."""
    shown = subprocess.run(["g++", "-dumpfullversion"], check=True, capture_output=True, text=True)
    return {"ROOT": str(ROOT.gROOT.GetVersion()), "g++": shown.stdout.strip()}
