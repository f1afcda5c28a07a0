"""Runs `analysis.runner.dask_awkward` where dask-awkward is installed: ``python -m tests.support.dask_awkward_driver WORKERS``.

With 0 workers it works in its own process. Each line that it reads names a file of pickled calls;
it replaces what is in there by what came of each, a `Result` or the sentence of an
InputError, and writes the line.
"""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import awkward as ak
import hist

from analysis.errors import InputError
from analysis.runner import dask_awkward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.runner.job import Inspected


class Call(NamedTuple):
    """A call of `run_lazily`."""

    inspected: Inspected
    tampering: str = ""
    """Whether the first partition is ``lost`` or merged ``twice``."""


def objects(events: Any) -> dict[str, Any]:
    """Vectors, cross references and metadata."""
    jets = events.Jet[ak.num(events.Jet, axis=1) >= 2]
    axis = hist.axis.Regular(50, 0, 500)
    mass = hist.Hist(axis).fill((jets[:, 0] + jets[:, 1]).mass)
    referred = hist.Hist(axis).fill(ak.drop_none(ak.flatten(events.Muon.matched_jet.pt)))
    nearest = hist.Hist(axis).fill(ak.drop_none(ak.flatten(events.Muon.nearest(events.Jet).pt)))
    about = ("dataset", "process", "xsec", "filename", "treename", "entrystart", "entrystop")
    return {
        "mass": mass,
        "referred": referred,
        "nearest": nearest,
        "about": {tuple(events.metadata[key] for key in about): len(events)},
    }


def forward(events: Any) -> int:
    """A function that reads a branch that was not asked for."""
    return int(ak.sum(events.Jet.eta > 2))


def do(calls: Sequence[Call], client: Any) -> list[Any]:
    """What comes of each call."""
    merge = dask_awkward._tree
    tampered = {
        "": merge,
        "lost": lambda arrays: merge(arrays[1:]),
        "twice": lambda arrays: merge([*arrays, arrays[0]]),
    }
    outcomes: list[Any] = []
    for inspected, tampering in calls:
        dask_awkward._tree = tampered[tampering]
        try:
            outcomes.append(dask_awkward.run_lazily(inspected, client))
        except InputError as error:
            outcomes.append(str(error))
    dask_awkward._tree = merge
    return outcomes


def main() -> None:
    """Do jobs until there are no more."""
    workers = int(sys.argv[1])
    with dask_awkward.open_client(workers) if workers else nullcontext() as client:
        if client:
            assert len({os.getpid(), *client.run(os.getpid).values()}) == 1 + workers
        for line in sys.stdin:
            path = Path(line.strip())
            path.write_bytes(pickle.dumps(do(pickle.loads(path.read_bytes()), client)))
            sys.stdout.write(line)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
