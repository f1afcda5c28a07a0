"""A few events, processed before workers are forked, so that they begin with compiled code.

The first chunk of a process takes much longer than the next: numba sets itself up and loads or
compiles the machine code of each loop, uproot and coffea import what reading takes. What a
process has done before it forks its forks need not do again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np
import uproot
from coffea.nanoevents import NanoEventsFactory

from analysis.executors import machine_code
from analysis.executors.worker import warm
from analysis.files import kept
from analysis.files.nanoevents import QuietSchema, counters, form_of
from analysis.samples import NOMINAL
from analysis.ttbar import INPUTS, TtbarProcessor

if TYPE_CHECKING:
    from collections.abc import Collection

    from analysis.ttbar import Implementation

TREE: Final = "Events"
EVENTS: Final = 2

OBJECTS: Final = {"Electron": 1, "Muon": 0, "Jet": 4}
"""Objects of each event."""

VALUES: Final[dict[str, Any]] = {
    "run": np.uint32(1),
    "luminosityBlock": np.uint32(1),
    "event": np.uint64(1),
    "pt": np.float32(50),
    "mass": np.float32(5),
    "charge": np.int32(1),
    "cutBased": np.int32(4),
    "tightId": np.True_,
    "jetId": np.int32(4),
    "btagCSVV2": np.array([1, 0, 0, 0, 1, 1, 0, 0], np.float32),
}
"""Of branches, with the types of NanoAOD, so that each region of the analysis has an event; 0 of
all others."""

IMPLEMENTATIONS: Final[tuple[Implementation, ...]] = ("columnar", "compiled", "fused")
"""The vectorised ones; the first is not compiled."""

TIMEOUT: Final = 30.0
"""Seconds for a server of files, of which there is none."""

COMPILE: Final = (
    "import sys; sys.path[:] = {!r}; from analysis.executors.rehearsal import rehearse; rehearse()"
)


def prepare_forks(*, compiling: bool = True) -> None:
    """Have forks of this process begin warm, with compiled code, and draw numbers of their own.

    Without `compiling`, what numba has compiled on this host before is loaded, and nothing is
    compiled: machine code of the client may be on its way.
    """
    # Python's own generator does this by itself.
    os.register_at_fork(after_in_child=np.random.seed)
    with suppress(Exception):  # as of a full disk: workers then take longer for their first chunk
        rehearse(IMPLEMENTATIONS if compiling or machine_code.is_there() else IMPLEMENTATIONS[:1])
    warm()


def compiled() -> bytes:
    """`machine_code.packed` for other hosts, compiled first if this host never has: 15 seconds."""
    if machine_code.is_there() is False:
        # In a process of its own: the compiler's objects would stay, and slow every collection.
        subprocess.run(
            [sys.executable, "-c", COMPILE.format(sys.path)], capture_output=True, check=False
        )
    return machine_code.packed()


def rehearse(implementations: Collection[Implementation] = IMPLEMENTATIONS) -> None:
    """Process a file of EVENTS events by each of these implementations, and delete it."""
    with tempfile.TemporaryDirectory(prefix="coffea-rehearsal-") as folder:
        path = Path(folder, "events.root")
        columns = _columns()
        with uproot.recreate(path) as file:
            kinds = {
                name: getattr(one, "dtype", None) or one.type.content
                for name, one in columns.items()
            }
            file.mktree(TREE, kinds).extend(columns)
        for implementation in implementations:
            with uproot.open(str(path), array_cache=None, **kept.options(TIMEOUT)) as file:
                events = NanoEventsFactory.from_root(
                    file,
                    treepath=TREE,
                    schemaclass=QuietSchema,
                    metadata={"process": "ttbar", "variation": NOMINAL},
                    preload=frozenset({*INPUTS, *counters(INPUTS)}),
                    iteritems_options={"filter_name": form_of(INPUTS)},
                ).events()
                TtbarProcessor(implementation).process(events)
        kept.close()


def _columns() -> dict[str, Any]:
    """Columns as uproot writes them: of objects one record array for each collection."""
    columns: dict[str, Any] = {}
    collections: dict[str, dict[str, Any]] = {name: {} for name in OBJECTS}
    for branch in form_of(INPUTS):
        name, _, field = branch.partition("_")
        if field:
            values = np.resize(VALUES.get(field, np.float32(0)), EVENTS * OBJECTS[name])
            collections[name][field] = values
        elif name in VALUES:
            columns[name] = np.resize(VALUES[name], EVENTS)
    for name, fields in collections.items():
        columns[name] = ak.unflatten(ak.zip(fields), [OBJECTS[name]] * EVENTS)
    return columns
