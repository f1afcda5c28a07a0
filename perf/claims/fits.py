"""Claims about fits: both optimisers of the analysis beside pyhf's default, in one run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyhf

from analysis.errors import InputError
from analysis.inference import build, open_backend
from perf.cases import inference
from perf.cases.data import find_shared
from perf.claims.verdict import Arm, Verdict
from perf.measure.paired import interleaved, ratio
from perf.records.digest import result_digest
from perf.records.record_file import What

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.inference import Templates
    from analysis.inference.backends import Backend, Optimizer

ROUNDS: Final = 11
"""Pairs: pyhf's default takes seconds; the interval leaves out the least and the largest."""

MIN_RATIO: Final = 10.0
"""CPU time of pyhf's default over that of Newton on JAX."""

DEFAULT: Final = "pyhf's default"
FAST: Final[dict[str, tuple[Backend, Optimizer, float | None]]] = {
    "jax newton": ("jax", "newton", MIN_RATIO),
    "numpy least_squares": ("numpy", "least_squares", None),
}
"""Backend, optimiser and claim."""


def fits(rng: np.random.Generator, rounds: int = ROUNDS) -> list[Verdict]:
    """Warm fits of the 34-parameter model, at the same minimum.

    Of the made templates, and of the published histograms where they are.
    """
    models = [("made templates", inference.synthetic_templates())]
    if folder := find_shared(Path.cwd()):
        models.append(("published histograms", inference.published_templates(folder)))
    return [verdict for model in models for verdict in _of(*model, rng, rounds)]


def _of(name: str, templates: Templates, rng: np.random.Generator, rounds: int) -> list[Verdict]:
    # The tensors of a model are those of the backend that it was made with.
    sides: dict[str, Callable[[], float]] = {}
    for side, (backend, optimizer, _) in FAST.items():
        with open_backend(backend, optimizer):
            sides[side] = partial(inference.minimum, build(templates))
    with open_backend("numpy"):
        model = build(templates)

    def default() -> float:
        _, minimum = pyhf.infer.mle.fit(model.data.tolist(), model.pdf, return_fitted_val=True)
        return float(minimum)

    sides[DEFAULT] = default
    optimizers = {side: _optimizer(*FAST[side][:2]) for side in FAST}
    optimizers[DEFAULT] = ("numpy", pyhf.optimize.scipy_optimizer())

    def use(side: str) -> None:
        """Set pyhf's backend, which is no part of a fit: it converts the tensors of all models."""
        pyhf.set_backend(*optimizers[side])

    before = pyhf.get_backend()
    try:
        minima = {}
        for side, run in sides.items():
            use(side)
            minima[side] = run()
        for side in FAST:
            if not abs(minima[side] - minima[DEFAULT]) <= inference.MAX_DIFFERENCE:
                msg = (
                    f"{side} ends at {minima[side]:.6f} and {DEFAULT} at {minima[DEFAULT]:.6f}: "
                    "their speeds mean nothing, run the tests"
                )
                raise InputError(msg)
        samples = interleaved(sides, rounds=rounds, rng=rng, setup=use)
    finally:
        pyhf.set_backend(*before)
    return [
        Verdict(
            f"fit of {len(model.names)} parameters, {name}: {DEFAULT} / {side}",
            "at least",
            bound,
            ratio(samples.cpu[DEFAULT], samples.cpu[side], rng),
            "ratio",
            tuple(
                Arm(
                    What(
                        name=f"claim-fit-{name}-{arm}".replace(" ", "_"),
                        group=f"fit, {name}",
                        kind="inference",
                        subject="fit",
                        size=0,
                        parameters={"optimizer": arm, "process": "warm"},
                    ),
                    inference.identity(templates),
                    samples.wall[arm],
                    samples.cpu[arm],
                    samples.iterations[arm],
                    result_digest(minima[arm]),
                )
                # The default once, with the first.
                for arm in ((DEFAULT, side) if side == next(iter(FAST)) else (side,))
            ),
        )
        for side, (_, _, bound) in FAST.items()
    ]


def _optimizer(backend: Backend, optimizer: Optimizer) -> tuple[str, object]:
    with open_backend(backend, optimizer):
        return backend, pyhf.get_backend()[1]
