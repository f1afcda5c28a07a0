"""What fits are measured on, and a fit in a process that is started for it.

The model is that of the analysis, 34 parameters, of templates that are made here: smooth shapes
of about the yields, event weights and uncertainties of the AGC's published histograms, filled with
Poisson counts of one seed. So it can be measured wherever there are no published histograms.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from perf.records import difference
from perf.records.record_file import Input

# Importing pyhf and JAX takes a second, which collecting tests need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from analysis.inference import Model, Templates
    from analysis.inference.backends import Backend, Optimizer

SEED: Final = 20151
PATIENCE: Final = 600.0
"""Seconds for a fit in a new process; it takes ten."""

MAX_DIFFERENCE: Final = 1e-4
"""Between minima of twice the negative log likelihood that are the same."""

MAX_CLS_DIFFERENCE: Final = 1e-3
"""Between CLs that rest on such minima."""

MAX_LIMIT_DIFFERENCE: Final = 3e-3
"""Relative, between limits of which each is found to 1e-3."""

TESTED: Final = 2.0
"""Strength of the signal that is tested."""

TESTED_SIGNAL: Final = "single_top_tW"
"""Whose strength is tested, and limited: that of ttbar is too well known to need a limit."""

EDGES: Final = np.linspace(110.0, 550.0, 12)
"""Of the bins in GeV."""

_WEIGHTS: Final = {
    "ttbar": 1.85,
    "single_top_s_chan": 0.018,
    "single_top_t_chan": 0.67,
    "single_top_tW": 0.30,
    "wjets": 42.0,
}
_YIELDS: Final = {
    "4j1b": {
        "ttbar": 21_000.0,
        "single_top_s_chan": 7.0,
        "single_top_t_chan": 490.0,
        "single_top_tW": 1_700.0,
        "wjets": 5_100.0,
    },
    "4j2b": {
        "ttbar": 47_000.0,
        "single_top_s_chan": 16.0,
        "single_top_t_chan": 890.0,
        "single_top_tW": 2_000.0,
        "wjets": 1_500.0,
    },
}
"""Weight of an event, and events expected of each process."""


def _shape(region: str, scale: float = 1.0, smear: float = 0.0) -> NDArray[np.float64]:
    """Share of each bin: HT in 4j1b, the mass of the trijet in 4j2b.

    Parameters
    ----------
    region
        Which.
    scale, smear
        Of energies, and of their resolution (relative).
    """
    x = (EDGES[1:] + EDGES[:-1]) / 2 / scale
    if region == "4j1b":
        density = np.exp(-0.5 * (np.log(x / 270) / (0.38 + smear)) ** 2) / x
    else:
        peak = np.exp(-0.5 * ((x - 172) / (28 * (1 + smear))) ** 2) / (1 + smear)
        density = peak + 0.45 * np.exp(-(x - 110) / 160)
    return np.asarray(density)


@cache
def made() -> Templates:
    """Templates of all processes and variations, the same each time."""
    from analysis.inference.templates import Region, Template, Templates
    from analysis.samples import NOMINAL

    rng = np.random.default_rng(SEED)
    regions = {}
    lever = (EDGES[1:] + EDGES[:-1]) / 2 / 300 - 1
    for region, yields in _YIELDS.items():
        plain = _shape(region)
        changes = {
            "pt_scale_up": 1.02 * _shape(region, scale=1.03) / plain,
            "pt_res_up": 1.005 * _shape(region, smear=0.05) / plain,
        }
        for i in range(4):
            slope = (0.13, 0.09, 0.07, 0.05)[i] * (1 + 0.2 * lever)
            changes |= {f"btag_var_{i}_up": 1 + slope, f"btag_var_{i}_down": 1 - slope}
        of_process = {
            "ttbar": {
                "ME_var": 0.92 + 0.12 * lever,
                "PS_var": 1.05 - 0.10 * lever,
                "scaleup": 0.96 + 0.03 * lever,
                "scaledown": 1.05 - 0.04 * lever,
            },
            "wjets": {
                "scale_var_up": np.full(len(lever), 1.025),
                "scale_var_down": np.full(len(lever), 0.975),
            },
        }
        templates = {}
        for process, number in yields.items():
            weight = _WEIGHTS[process]
            counts = rng.poisson(number * plain / plain.sum() / weight)
            nominal = weight * counts.astype(float)
            templates[process, NOMINAL] = Template(nominal, weight * nominal)
            for variation, change in (changes | of_process.get(process, {})).items():
                templates[process, variation] = Template(nominal * change, None)
        generators = (templates["ttbar", name].values for name in ("ME_var", "PS_var"))
        data = sum(generators) / 2 + templates["wjets", NOMINAL].values
        regions[region] = Region(EDGES, np.round(data), templates)
    return Templates("made templates", regions)


def published(folder: Path) -> Templates:
    """The AGC's published histograms, for one file of each process.

    Parameters
    ----------
    folder
        The data folder.
    """
    from analysis.inference import read

    reference = folder / "real" / "agc_reference"
    return read(
        reference / "histos_1_file_per_process.json",
        inputs=reference / "nanoaod_inputs.json",
        files_per_process=1,
    )


def identity(templates: Templates) -> Input:
    """Identity of templates; there are no events in them."""
    content = {
        name: {
            "data": region.data,
            **{"_".join(key): one.values for key, one in region.templates.items()},
        }
        for name, region in templates.regions.items()
    }
    return Input(digest=difference.digest(content), events=0, source=templates.source)


def minimum(model: Model) -> float:
    """Fit, and nothing beside."""
    from analysis.inference.fits import minimise

    return minimise(model, model.data)[1]


def cls(model: Model) -> float:
    """Observed CLs of a signal of TESTED, by pyhf's own test."""
    import pyhf

    from analysis.inference.backends import guarded, profiling
    from analysis.inference.model import tensor

    with profiling(), guarded():
        return float(
            pyhf.infer.hypotest(TESTED, tensor(model.data), model.pdf, test_stat="qtilde")
        )


def observed_limit(model: Model) -> float:
    """Observed upper limit, with the expected ones beside."""
    from analysis.inference import upper_limit

    return upper_limit(model).observed


def likelihood(model: Model) -> float:
    """Twice the negative log likelihood before the fit."""
    import pyhf

    from analysis.inference.model import tensor

    return float(pyhf.infer.mle.twice_nll(tensor(model.nominal), tensor(model.data), model.pdf)[0])


def expected(task: str, templates: Templates) -> float:
    """What comes out, by NumPy; a minimum by pyhf's default optimiser, the rest by ours.

    The limit of pyhf's default would take minutes; the tests compare it with pyhf's own test.
    """
    import pyhf

    from analysis.inference import build, open_backend

    with open_backend("numpy"):
        if task == "build":
            return likelihood(build(templates))
        if task == "fit":
            pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer())
            return minimum(build(templates))
        model = build(templates, TESTED_SIGNAL)
        return cls(model) if task == "hypotest" else observed_limit(model)


def _near(most: float, *, relative: bool = False) -> Callable[[float, float], bool]:
    def agree(got: float, want: float) -> bool:
        return abs(got - want) <= most * (abs(want) if relative else 1.0)

    return agree


AGREE: Final[dict[str, Callable[[float, float], bool]]] = {
    "build": _near(1e-9, relative=True),
    "fit": _near(MAX_DIFFERENCE),
    "hypotest": _near(MAX_CLS_DIFFERENCE),
    "limit": _near(MAX_LIMIT_DIFFERENCE, relative=True),
}
"""Whether two results of a task are the same."""


def in_new_process(backend: Backend, optimizer: Optimizer) -> Callable[[], float]:
    """Fit of the made templates in a new process: Python, imports, model, fit."""

    def act() -> float:
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from perf.cases.inference import script; script()"),
                *(backend, optimizer),
            ],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
        return float(json.loads(done.stdout))

    return act


def script() -> None:
    """What `in_new_process` runs; prints the minimum."""
    from analysis.inference import build, open_backend

    backend, optimizer = sys.argv[1:]
    with open_backend(backend, optimizer):  # type: ignore[arg-type]
        sys.stdout.write(json.dumps(minimum(build(made()))))
