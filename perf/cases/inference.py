"""Cases of inference: building the model, fits, hypothesis tests and limits.

The model is that of the analysis, with 34 parameters. Its templates are made here, so that no
published histograms are needed: smooth shapes with about the yields, event weights and
uncertainties of the AGC's published histograms, filled with Poisson counts of one seed.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from perf.cases.case import Case, Ready, Source
from perf.measure.fresh_process import Process, answers, python_call
from perf.records.digest import result_digest
from perf.records.record_file import Input, What

# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from analysis.inference import Model, Templates
    from analysis.inference.backends import Backend, Optimizer
    from perf.cases.case import Inputs
    from perf.cases.scales import InferenceTask, Scale

SEED: Final = 20151
TIMEOUT: Final = 600.0
"""Seconds for a fit in a new process, which takes about ten."""

MAX_DIFFERENCE: Final = 1e-4
"""Between minima of twice the negative log likelihood that count as equal."""

MAX_CLS_DIFFERENCE: Final = 1e-3
"""Between values of CLs, which follow from such minima."""

MAX_LIMIT_DIFFERENCE: Final = 3e-3
"""Relative, between limits, each of which is computed to 1e-3."""

TESTED: Final = 2.0
"""Signal strength of the hypothesis test."""

TESTED_SIGNAL: Final = "single_top_tW"
"""The signal of tests and limits: the strength of ttbar is known too well to need a limit."""

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
"""Yield of each process by region; `_WEIGHTS` has the weight of an event."""


def _shape(region: str, scale: float = 1.0, smear: float = 0.0) -> NDArray[np.float64]:
    """Relative content of each bin: HT in 4j1b, trijet mass in 4j2b.

    `scale` multiplies energies, `smear` widens their relative resolution.
    """
    x = (EDGES[1:] + EDGES[:-1]) / 2 / scale
    if region == "4j1b":
        density = np.exp(-0.5 * (np.log(x / 270) / (0.38 + smear)) ** 2) / x
    else:
        peak = np.exp(-0.5 * ((x - 172) / (28 * (1 + smear))) ** 2) / (1 + smear)
        density = peak + 0.45 * np.exp(-(x - 110) / 160)
    return np.asarray(density)


@cache
def synthetic_templates() -> Templates:
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


def published_templates(folder: Path) -> Templates:
    """The AGC's published histograms for one file of each process, from the data folder."""
    from analysis.inference import read

    reference = folder / "real" / "agc_reference"
    return read(
        reference / "histos_1_file_per_process.json",
        inputs=reference / "nanoaod_inputs.json",
        files_per_process=1,
    )


def identity(templates: Templates) -> Input:
    """Identity of templates, which hold no events."""
    content = {
        name: {
            "data": region.data,
            **{"_".join(key): template.values for key, template in region.templates.items()},
        }
        for name, region in templates.regions.items()
    }
    return Input(digest=result_digest(content), events=0, source=templates.source)


def minimum(model: Model) -> float:
    """Minimum of twice the negative log likelihood: the fit alone."""
    from analysis.inference.minimum import minimise

    return minimise(model, model.data)[1]


def cls(model: Model) -> float:
    """Observed CLs of a signal of strength TESTED, by pyhf's own test."""
    import pyhf

    from analysis.inference.backends import guarded, profiling
    from analysis.inference.model import tensor

    with profiling(), guarded():
        return float(
            pyhf.infer.hypotest(TESTED, tensor(model.data), model.pdf, test_stat="qtilde")
        )


def observed_limit(model: Model) -> float:
    """Observed upper limit; the expected ones are computed too."""
    from analysis.inference import upper_limit

    return upper_limit(model).observed


def likelihood(model: Model) -> float:
    """Twice the negative log likelihood before the fit."""
    import pyhf

    from analysis.inference.model import tensor

    return float(pyhf.infer.mle.twice_nll(tensor(model.nominal), tensor(model.data), model.pdf)[0])


def expected(task: str, templates: Templates) -> float:
    """The result by NumPy: a minimum by pyhf's default optimiser, the rest by ours.

    A limit by pyhf's default takes minutes; the tests compare ours with pyhf's own test.
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


def _within(tolerance: float, *, relative: bool = False) -> Callable[[float, float], bool]:
    def agree(result: float, expected: float) -> bool:
        return abs(result - expected) <= tolerance * (abs(expected) if relative else 1.0)

    return agree


AGREE: Final[dict[str, Callable[[float, float], bool]]] = {
    "build": _within(1e-9, relative=True),
    "fit": _within(MAX_DIFFERENCE),
    "hypotest": _within(MAX_CLS_DIFFERENCE),
    "limit": _within(MAX_LIMIT_DIFFERENCE, relative=True),
}
"""Whether two results of a task are equal."""


def in_new_process(backend: Backend, optimizer: Optimizer) -> Callable[[], float]:
    """A fit of the synthetic templates in a new process: Python, imports, model, fit."""

    def run() -> float:
        with Process(python_call("perf.cases.inference.script", backend, optimizer)) as process:
            return float(process.finish(timeout=TIMEOUT))

    return run


def script() -> None:
    """What `in_new_process` runs; its answer is the minimum."""
    from analysis.inference import build, open_backend

    backend, optimizer = sys.argv[1:]
    with answers() as stream, open_backend(backend, optimizer):  # type: ignore[arg-type]
        stream.write(json.dumps(minimum(build(synthetic_templates()))))


@dataclass(frozen=True)
class InferenceCase(Case):
    """A task of inference with one backend and optimiser of pyhf."""

    task: InferenceTask
    backend: Backend
    optimizer: Optimizer
    source: Source = "synthetic"
    process: Literal["cold", "warm"] = "warm"
    """Cold is a new process: imports, model and fit, with everything that JAX compiles."""

    @property
    def what(self) -> What:
        """Named by task, backend and optimiser."""
        real = "-real" if self.source == "real" else ""
        return What(
            name=f"{self.task}-{self.process}-{self.backend}-{self.optimizer}{real}",
            group=f"inference: {self.task}",
            kind="inference",
            subject=self.task,
            size=0,
            parameters={
                "backend": self.backend,
                "optimizer": self.optimizer,
                "process": self.process,
                "source": self.source,
            },
        )

    @property
    def cold(self) -> bool:
        """Whether it is measured in a new process."""
        return self.process == "cold"

    @property
    def in_workers(self) -> bool:
        """As `cold`."""
        return self.cold

    def rounds(self, scale: Scale) -> int | None:
        """Most tasks take seconds, and each result is compared."""
        return scale.start_rounds if self.cold else scale.processor_rounds

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Build the model."""
        from analysis.inference import build, open_backend

        if self.source == "real":
            assert inputs.real is not None
            templates = inputs.cached("templates", "", partial(published_templates, inputs.real))
        else:
            templates = synthetic_templates()
        signal = TESTED_SIGNAL if self.task in {"hypotest", "limit"} else "ttbar"
        with open_backend(self.backend, self.optimizer):
            # JAX compiles for each model: cases that share one follow each other.
            model = inputs.cached(
                "model",
                (self.backend, self.optimizer, self.source, signal),
                lambda: build(templates, signal),
            )
            runs: dict[str, Callable[[], float]] = {
                "build": lambda: likelihood(build(templates)),
                "fit": partial(minimum, model),
                "hypotest": partial(cls, model),
                "limit": partial(observed_limit, model),
            }
            cold = in_new_process(self.backend, self.optimizer)
            yield Ready(
                run=cold if self.cold else runs[self.task],
                expected=partial(expected, self.task, templates),
                result_key=(self.task, self.source),
                compare=AGREE[self.task],
                identity=identity(templates),
            )


def inferences(scale: Scale) -> list[InferenceCase]:
    """Every task with every backend and optimiser, of our templates and of published ones.

    Without details our optimisers alone are measured, on our templates, and no limits. pyhf's own take tens of
    seconds for a test and minutes for a limit: the scale names the tasks that they do.
    """
    from analysis.inference.backends import OPTIMIZERS

    pairs = [(backend, name) for backend, names in OPTIMIZERS.items() for name in names]
    ours = [(backend, names[0]) for backend, names in OPTIMIZERS.items()]
    fitted = pairs if scale.details else ours
    sources: tuple[Source, ...] = get_args(Source) if scale.details else ("synthetic",)
    slow: tuple[InferenceTask, ...] = ("hypotest", "limit") if scale.details else ("hypotest",)
    return [
        *(InferenceCase("build", *pair) for pair in ours),
        *(InferenceCase("fit", *pair, process="cold") for pair in fitted),
        *(InferenceCase("fit", *pair, source) for source in sources for pair in fitted),
        *(
            InferenceCase(task, *pair)
            for pair in pairs
            for task in slow
            if pair in ours or task in scale.slow_tests
        ),
    ]
