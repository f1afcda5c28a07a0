"""Proofs of the kernels: the three implementations are equal, and right where others vouch for it.

Every test that is parametrised by `each_kernel` runs over the registry, so that a new line has
its proofs. What the lines have to agree on (to the last bit, or a stated bound) is
`Kernel.agree`; that it can fail is proved here too.
"""

from __future__ import annotations

import inspect
import math
import pkgutil
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import analysis.kernels
from analysis.kernels import (
    IMPLEMENTATIONS,
    KERNELS,
    Implementation,
    Kernel,
    _random,
    _trigonometry,
)
from analysis.kernels.jet_resolution import RESOLUTION
from tests.analysis.kernels.known import INDEPENDENT, KNOWN
from tests.support.strategies import (
    LAYOUTS,
    REGULAR,
    Event,
    Precision,
    Sample,
    branches_of,
    corners,
    jagged,
    known,
    relaid_flat,
    samples,
    typical,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

Words = tuple[int, int, int, int]

each_kernel: Final = pytest.mark.parametrize(
    "kernel", [pytest.param(kernel, id=kernel.name) for kernel in KERNELS.values()]
)
each_implementation: Final = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
against_reference: Final = pytest.mark.parametrize("implementation", ["columnar", "compiled"])


# The answers: KNOWN and INDEPENDENT say where they come from.


@each_kernel
@each_implementation
def test_known_events_have_the_known_answer(
    kernel: Kernel, implementation: Implementation
) -> None:
    for known_events in KNOWN[kernel.name]:
        options = kernel.options if known_events.options is None else known_events.options
        function = getattr(kernel.module, implementation)
        got = function(*known_events.arguments(kernel), **options)
        assert_close(got, known_events.want, known_events.rtol)


def of(*names: str) -> pytest.MarkDecorator:
    """A proof of some kernels."""
    return pytest.mark.parametrize(
        "kernel", [pytest.param(KERNELS[name], id=name) for name in names]
    )


@of("leptons", "regions", "btag_weights")
def test_names_of_numbers_and_columns(kernel: Kernel) -> None:
    module = kernel.module
    if kernel.name == "leptons":
        assert (module.NEITHER, module.ELECTRON, module.MUON) == (0, 1, 2)
    elif kernel.name == "regions":
        assert (module.FEW_JETS, module.FOUR_JETS) == (0, 1)
        assert (module.FOUR_JETS_ONE_B, module.FOUR_JETS_TWO_B) == (2, 3)
    else:
        ups_and_downs = [f"btag_var_{i}_{side}" for i in range(4) for side in ("up", "down")]
        assert list(module.VARIATIONS) == ups_and_downs


@of(*INDEPENDENT)
@each_implementation
def test_ordinary_events_have_the_answer_of_another_library(
    kernel: Kernel, implementation: Implementation
) -> None:
    rng = np.random.default_rng(3)
    columns = typical(kernel.inputs, rng.integers(0, 8, 300).tolist()).columns
    arguments = [as_double(argument) for argument in kernel.arguments(columns)]
    want = INDEPENDENT[kernel.name](*arguments)
    got = kernel.run(implementation, *arguments)
    assert_close(got, want, 1e-9)


def as_double(argument: Any) -> Any:
    """Single precision made double, where the other library would go on in single precision."""
    if not isinstance(argument, ak.Array):
        return argument
    single = str(argument.type).endswith("float32")
    return ak.values_astype(argument, np.float64) if single else argument


def assert_close(got: Any, want: Any, rtol: float) -> None:
    """The same lists to a relative tolerance; NaN equals NaN."""
    for one, other in zip(parts_of(got), parts_of(want), strict=True):
        if isinstance(one, ak.Array):
            assert ak.num(one).to_list() == [len(event) for event in other]
        flat = (
            (ak.flatten(one), ak.flatten(ak.Array(other)))
            if isinstance(one, ak.Array)
            else (one, other)
        )
        np.testing.assert_allclose(*flat, rtol=rtol, atol=0)


# The proofs: the implementations are equal.


@each_kernel
@against_reference
@given(data=st.data())
def test_agrees_with_reference(
    kernel: Kernel, implementation: Implementation, data: st.DataObject
) -> None:
    sample = data.draw(samples(kernel))
    arguments = kernel.arguments(sample.columns)
    before = [contents_of(argument) for argument in arguments]
    want = kernel.run("reference", *arguments)
    got = kernel.run(implementation, *arguments)
    assert kernel.agree(got, want, *arguments), f"{got} is not {want}"
    assert [contents_of(argument) for argument in arguments] == before, "an input was changed"


@each_kernel
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_agrees_with_reference_where_any_two_special_values_meet(
    kernel: Kernel, precision: Precision
) -> None:
    for names in {kernel.inputs, branches_of(kernel)}:
        prove(kernel, corners(names, precision))


@each_kernel
def test_agrees_with_reference_on_many_ordinary_events(kernel: Kernel) -> None:
    counts = np.random.default_rng(0).integers(0, 8, 400).tolist()
    for names in {kernel.inputs, branches_of(kernel)}:
        prove(kernel, typical(names, counts))


def prove(kernel: Kernel, sample: Sample) -> None:
    """All at once; the event is looked for where that fails."""
    arguments = kernel.arguments(sample.columns)
    want = kernel.run("reference", *arguments)
    for implementation in IMPLEMENTATIONS[1:]:
        got = kernel.run(implementation, *arguments)
        if not kernel.agree(got, want, *arguments):
            pytest.fail(f"{implementation}: {first_disagreement(kernel, implementation, sample)}")


def first_disagreement(kernel: Kernel, implementation: Implementation, sample: Sample) -> str:
    """The first event on which an implementation does not agree with the reference."""
    for event in sample.events:
        arguments = kernel.arguments(replace(sample, events=[event]).columns)
        got, want = (kernel.run(one, *arguments) for one in (implementation, "reference"))
        if not kernel.agree(got, want, *arguments):
            return f"{got} is not {want} on {event}"
    return "no single event"


def contents_of(array: Any) -> tuple[str, int, dict[str, bytes]]:
    """Everything that an array holds, to the last bit."""
    form, length, buffers = ak.to_buffers(array)
    return form.to_json(), length, {key: bytes(one) for key, one in buffers.items()}


@each_kernel
@each_implementation
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_of_the_same_data_gives_the_same_result(
    kernel: Kernel, implementation: Implementation, layout: str
) -> None:
    counts = [4] * 12 if layout == REGULAR else [4, 0, 2, 1, 3, 5, 4, 4, 6, 3, 4, 0]
    arguments = kernel.arguments(typical(branches_of(kernel), counts).columns)
    want = kernel.run("reference", *arguments)
    got = kernel.run(implementation, *(relaid(one, layout) for one in arguments))
    if layout == REGULAR and isinstance(got, ak.Array):
        got = ak.from_regular(got, axis=None)
    assert kernel.agree(got, want, *arguments), f"{got} is not {want}"


def relaid(argument: Any, layout: str) -> Any:
    """An argument in another layout; results of other kernels that are numpy stay so."""
    if not isinstance(argument, ak.Array):
        return argument
    return LAYOUTS[layout](argument) if argument.ndim > 1 else relaid_flat(argument, layout)


@each_kernel
@each_implementation
@pytest.mark.parametrize("counts", [[], [0], [0, 0, 0], [1], [2]], ids=str)
def test_few_events_and_objects_give_a_result_of_the_usual_type(
    kernel: Kernel, implementation: Implementation, counts: list[int]
) -> None:
    names = branches_of(kernel)
    many, few = (kernel.arguments(typical(names, n).columns) for n in ([5, 4], counts))
    usual = kernel.run("reference", *many)
    got = kernel.run(implementation, *few)
    assert [type_of(part) for part in parts_of(got)] == [type_of(part) for part in parts_of(usual)]


def type_of(part: Any) -> str:
    if isinstance(part, ak.Array):
        return str(ak.without_parameters(part).type.content)
    return f"{part.dtype}{part.shape[1:]}"


def parts_of(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


# The registry.


def test_every_kernel_has_known_events() -> None:
    assert set(KNOWN) == set(KERNELS), (
        "add events computed by hand to tests/analysis/kernels/known.py"
    )
    assert all(KNOWN.values())


def test_every_line_has_a_proof() -> None:
    for proof in (
        test_known_events_have_the_known_answer,
        test_agrees_with_reference,
        test_any_layout_of_the_same_data_gives_the_same_result,
        test_the_comparison_can_fail,
    ):
        marks = [mark for mark in vars(proof)["pytestmark"] if mark.args[0] == "kernel"]
        assert {one.id for one in marks[0].args[1]} == set(KERNELS)


@each_kernel
def test_every_input_can_be_drawn(kernel: Kernel) -> None:
    unknown = [name for name in (*kernel.inputs, *branches_of(kernel)) if not known(name)]
    assert not unknown, f"tests/support/strategies.py cannot draw {unknown}"


def test_every_module_is_a_line() -> None:
    modules = {module.name for module in pkgutil.iter_modules(analysis.kernels.__path__)}
    assert {name for name in modules if not name.startswith("_")} == set(KERNELS)


@each_kernel
def test_implementations_have_one_signature(kernel: Kernel) -> None:
    signatures = [
        inspect.signature(getattr(kernel.module, implementation))
        for implementation in IMPLEMENTATIONS
    ]
    assert signatures[0] == signatures[1] == signatures[2]
    positional = [
        one for one in signatures[0].parameters.values() if one.kind is not one.KEYWORD_ONLY
    ]
    assert len(positional) == len(kernel.inputs)
    assert set(kernel.options) <= set(signatures[0].parameters)


@each_kernel
def test_reference_is_documented(kernel: Kernel) -> None:
    assert kernel.module.__doc__
    text = inspect.getdoc(kernel.module.reference) or ""
    documented, _, returned = text.partition("Returns\n-------\n")
    _, _, documented = documented.partition("Parameters\n----------\n")
    assert documented, "no section Parameters"
    assert returned, "no section Returns"
    names = {
        name.strip()
        for line in documented.splitlines()
        if line and not line.startswith(" ")
        for name in line.split(",")
    }
    assert names == set(inspect.signature(kernel.module.reference).parameters)


@each_kernel
def test_a_bound_is_stated_where_results_are_not_exact(kernel: Kernel) -> None:
    if not kernel.exact:
        text = inspect.getdoc(kernel.module.agree) or ""
        assert any(word in text for word in ("rounding", "TOLERANCE")), text


# The check can fail.

COUNTS: Final = [5, 0, 3, 1, 4, 2, 6, 4, 3, 5]


@each_kernel
def test_the_comparison_can_fail(kernel: Kernel) -> None:
    arguments = kernel.arguments(typical(kernel.inputs, COUNTS).columns)
    want = kernel.run("reference", *arguments)
    assert kernel.agree(want, want, *arguments)
    tried = 0
    for what, wrong in perturbed(want, exact=kernel.exact):
        assert not kernel.agree(wrong, want, *arguments), what
        assert not kernel.agree(want, wrong, *arguments), what
        tried += 1
    assert tried > 3


@each_kernel
def test_a_bound_is_as_wide_as_rounding(kernel: Kernel) -> None:
    if kernel.exact:
        return
    arguments = kernel.arguments(typical(kernel.inputs, COUNTS).columns)
    want = kernel.run("reference", *arguments)
    got = tuple(
        rebuilt(part, np.nextafter(values, math.inf)) if values.dtype.kind == "f" else part
        for part, values in ((part, values_of(part)) for part in parts_of(want))
    )
    assert kernel.agree(got if isinstance(want, tuple) else got[0], want, *arguments)


def perturbed(result: Any, *, exact: bool) -> Iterator[tuple[str, Any]]:
    """The result with one thing changed: every value in turn, the type, the length, the lists."""
    for number, part in enumerate(parts_of(result)):

        def put(new: Any, number: int = number) -> Any:
            if not isinstance(result, tuple):
                return new
            return (*result[:number], new, *result[number + 1 :])

        values = values_of(part)
        for index in np.ndindex(values.shape):
            for other in others(values[index], exact=exact):
                changed = values.copy()
                changed[index] = other
                what = f"part {number}: {other} for {values[index]} at {index}"
                yield what, put(rebuilt(part, changed))
        double, single = np.dtype(np.float64), np.dtype(np.float32)
        another = single if values.dtype == double else double
        yield f"part {number} of another type", put(rebuilt(part, values.astype(another)))
        yield f"part {number} without the last event", put(part[:-1])
        if isinstance(part, ak.Array):
            for event in range(1, len(part)):
                counts = ak.to_numpy(ak.num(part)).copy()
                if counts[event]:
                    counts[event - 1 : event + 1] += [1, -1]
                    moved = ak.unflatten(values, counts)
                    yield f"an object of event {event} moved to the one before", put(moved)


def others(value: Any, *, exact: bool) -> list[Any]:
    """Values that are not this one: as near as can be where results are exact."""
    if value.dtype.kind == "b":
        return [not value]
    if value.dtype.kind == "i":
        return [value + 1, value - 1]
    if not np.isfinite(value):
        return [0.0]
    near = [np.nextafter(value, math.inf)] if exact else [value * (1 + 1e-9) if value else 1e-3]
    return [*near, value + 1.0, math.nan]


def values_of(part: Any) -> NDArray[Any]:
    values: NDArray[Any] = ak.to_numpy(ak.flatten(part)) if isinstance(part, ak.Array) else part
    return values


def rebuilt(part: Any, values: NDArray[Any]) -> Any:
    return ak.unflatten(values, ak.num(part)) if isinstance(part, ak.Array) else values


# The strategies.


def test_samples_shrink_to_readable_events() -> None:
    def two_equal_jets(sample: Sample) -> bool:
        return any(
            a["pt"] == b["pt"]
            for event in sample.events
            for a, b in zip(event["Jet"], event["Jet"][1:], strict=False)
        )

    shrunk = find(
        samples(KERNELS["jets"]),
        two_equal_jets,
        settings=settings(max_examples=2000, database=None, derandomize=True),
    )
    jet = {"pt": 50.0, "eta": 0.0, "jetId": 6}
    assert shrunk == Sample(shrunk.names, "float32", [{"Jet": [jet, jet]}])


@pytest.mark.parametrize(
    "holds",
    [
        pytest.param(lambda events: not events, id="no events"),
        pytest.param(lambda events: any(not one["Jet"] for one in events), id="no objects"),
        pytest.param(lambda events: any(len(one["Jet"]) > 6 for one in events), id="many objects"),
        *(
            pytest.param(
                lambda events, holds=holds: any(
                    holds(jet) for one in events for jet in one["Jet"]
                ),
                id=name,
            )
            for name, holds in {
                "NaN": lambda jet: math.isnan(jet["pt"]),
                "infinity": lambda jet: math.isinf(jet["eta"]),
                "phi at pi": lambda jet: abs(jet["phi"]) == math.pi,
                "mass of zero": lambda jet: jet["mass"] == 0,
                "very large": lambda jet: 1e29 < jet["pt"] < math.inf,
                "very small": lambda jet: 0 < jet["pt"] < 1e-29,
            }.items()
        ),
    ],
)
def test_samples_hold_what_matters(holds: Callable[[list[Event]], bool]) -> None:
    find(
        samples(KERNELS["trijet_mass"]),
        lambda sample: holds(sample.events),
        settings=settings(
            max_examples=5000, database=None, derandomize=True, phases=[Phase.generate]
        ),
    )


# Random numbers, against the vectors of Random123 and against the normal distribution.

PHILOX: Final[dict[str, tuple[Words, tuple[int, int], Words]]] = {
    "zero": (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    "ones": (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


def philox(implementation: Implementation, counter: Words, key: tuple[int, int]) -> Words:
    if implementation == "reference":
        return _random.philox_reference(counter, key)
    if implementation == "compiled":
        words = _random.philox_compiled(*map(np.uint64, (*counter, *key)))
    else:
        numbers = [np.array([number], dtype=np.uint64) for number in (*counter, *key)]
        x0, x1, x2, x3, k0, k1 = numbers
        words = tuple(word[0] for word in _random.philox_columnar((x0, x1, x2, x3), (k0, k1)))
    a, b, c, d = map(int, words)
    return a, b, c, d


def normal(implementation: Implementation, high: int, low: int) -> float:
    if implementation == "reference":
        return _random.normal_reference((high, low, 0, 0))
    if implementation == "compiled":
        return float(_random.normal_compiled(np.uint64(high), np.uint64(low)))
    words = (np.array([word], dtype=np.uint64) for word in (high, low))
    return float(_random.normal_columnar(*words)[0])


@each_implementation
@pytest.mark.parametrize("vector", PHILOX)
def test_philox_gives_the_vectors_of_random123(
    implementation: Implementation, vector: str
) -> None:
    counter, key, words = PHILOX[vector]
    assert philox(implementation, counter, key) == words


uint32 = st.integers(0, 2**32 - 1)


@given(counter=st.tuples(uint32, uint32, uint32, uint32), key=st.tuples(uint32, uint32))
def test_philox_is_one_function(counter: Words, key: tuple[int, int]) -> None:
    assert (
        philox("reference", counter, key)
        == philox("columnar", counter, key)
        == philox("compiled", counter, key)
    )


# Uniform numbers at the ends of the range, in the tails and at the seams of AS241.
_UNIFORM: Final = (0.0, 1e-15, 1.3e-11, 1.4e-11, 1e-3, 0.074999999, 0.075, 0.0750001, 0.3, 0.5)
_HIGH: Final = sorted(
    {int(side * 2**32) for u in _UNIFORM for side in (u, 1 - u)} - {2**32} | {1, 2**32 - 1}
)


@given(high=st.sampled_from(_HIGH) | uint32, low=st.sampled_from([0, 2**32 - 1]) | uint32)
def test_normal_numbers_are_quantiles_of_the_normal_distribution(high: int, low: int) -> None:
    got = normal("reference", high, low)
    assert got == normal("columnar", high, low) == normal("compiled", high, low)
    uniform = ((high << 20 | low >> 12) + 0.5) * 2.0**-52
    assert got == pytest.approx(NormalDist().inv_cdf(uniform), rel=2e-15, abs=1e-15)
    # And back, by a function that has nothing to do with AS241. In the upper tail from above,
    # since 1 - uniform is exact.
    tail, sign = (uniform, -1) if uniform < 0.5 else (1 - uniform, 1)
    assert math.erfc(sign * got / math.sqrt(2)) / 2 == pytest.approx(tail, rel=1e-13)


def standard_normals(n: int, jets: int) -> NDArray[np.float64]:
    """What jet_resolution draws: events x jets."""
    pt = jagged([[1.0] * jets] * n, np.float64)
    run, block, event = np.full(n, 1), np.full(n, 7), np.arange(n)
    smeared = KERNELS["jet_resolution"].run("compiled", run, block, event, pt)
    normals: NDArray[np.float64] = (ak.to_numpy(smeared) - 1.0) / RESOLUTION
    return normals


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    z = standard_normals(25_000, 4).ravel()
    n = len(z)
    # Within 4 standard errors.
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    # Kolmogorov-Smirnov at 1 in 1000.
    cdf = np.array([NormalDist().cdf(x) for x in np.sort(z)[::10]])
    assert np.abs(cdf - np.arange(0, n, 10) / n).max() < 1.95 / math.sqrt(n) + 1 / n


def test_normal_numbers_of_neighbours_are_independent() -> None:
    n = 50_000
    z = standard_normals(n, 2)
    pairs = {
        "jets": (z[:, 0], z[:, 1]),
        "events": (z[:-1, 0], z[1:, 0]),
        "a jet and the next event's": (z[:-1, 1], z[1:, 0]),
    }
    pt = jagged([[1.0]] * n, np.float64)
    word = {"run": 1, "block": 1, "event": 1, "upper word of the event": 2**32}
    for number, (name, step) in enumerate(word.items()):
        ids = [np.full(n, 5), np.full(n, 9), np.arange(n)]
        other = [*ids]
        other[min(number, 2)] = other[min(number, 2)] + step
        one, two = (
            ak.to_numpy(KERNELS["jet_resolution"].run("compiled", *three, pt))[:, 0]
            for three in (ids, other)
        )
        pairs[name] = one, two
    for name, (a, b) in pairs.items():
        for c, d in ((a, b), ((a - a.mean()) ** 2, (b - b.mean()) ** 2)):
            assert abs(np.corrcoef(c, d)[0, 1]) < 4 / math.sqrt(len(a)), name


@of("jet_resolution")
@each_implementation
def test_resolution_depends_on_neither_the_chunk_nor_other_events(
    kernel: Kernel,
    implementation: Implementation,
) -> None:
    columns = typical(kernel.inputs, COUNTS * 3).columns
    columns["event"] = ak.Array(np.arange(30, dtype=np.uint64) + 2**33)
    whole = kernel.run(implementation, *kernel.arguments(columns))
    for size in (1, 7, 30):
        chunks = [
            kernel.run(implementation, *(one[i : i + size] for one in kernel.arguments(columns)))
            for i in range(0, 30, size)
        ]
        assert ak.array_equal(ak.concatenate(chunks), whole)
    order = np.random.default_rng(1).permutation(30)
    shuffled = kernel.run(implementation, *(one[order] for one in kernel.arguments(columns)))
    assert ak.array_equal(shuffled, whole[order])


@of("jet_resolution")
@each_implementation
def test_resolution_of_a_jet_is_not_that_of_another_event(
    kernel: Kernel, implementation: Implementation
) -> None:
    ids = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 1, 2**32 + 1), (1, 1, 2**32 + 2)]
    run, block, event = (np.array(one, dtype=np.uint64) for one in zip(*ids, strict=True))
    smeared = kernel.run(implementation, run, block, event, jagged([[50.0] * 9] * 6, np.float32))
    assert len(set(ak.flatten(smeared).to_list())) == 6 * 9


@given(
    angle=st.floats(-math.pi, math.pi)
    | st.floats(-_trigonometry.ANGLE_MAX, _trigonometry.ANGLE_MAX)
    | st.integers(-60_000, 60_000).map(lambda quarters: quarters * math.pi / 2)
)
def test_sine_and_cosine_are_those_of_the_c_library(angle: float) -> None:
    # Absolute: where they are zero but for the rounding of pi, only 1e-10 of them is left.
    sine, cosine = _trigonometry.sine_cosine(angle)
    assert sine == pytest.approx(math.sin(angle), rel=0, abs=2.0**-52)
    assert cosine == pytest.approx(math.cos(angle), rel=0, abs=2.0**-52)


# Real events.


@pytest.fixture(scope="module")
def real_columns() -> dict[str, Any]:
    """Columns of the real events, by where they come from: filled by `real`."""
    return {}


@pytest.fixture
def real(shared_data: Path, real_columns: dict[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The branches that kernels need of 1000 simulated CMS events, of uproot and of coffea."""
    if not real_columns:
        import uproot
        from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

        path = shared_data / "real" / "NanoAODv5_TTJets_1000.root"
        names = sorted({name for kernel in KERNELS.values() for name in branches_of(kernel)})
        with uproot.open(path) as file:
            real_columns["uproot"] = {
                name: file["Events"][name].array(library="ak") for name in names
            }
        events = NanoEventsFactory.from_root(
            {str(path): "Events"}, schemaclass=NanoAODSchema, mode="virtual"
        ).events()
        for source, some in {"coffea": events, "chosen": events[np.arange(1000) % 3 == 1]}.items():
            real_columns[source] = {
                name: some[name] if name in some.fields else some[tuple(name.split("_", 1))]
                for name in names
            }
    return real_columns


@each_kernel
@pytest.mark.parametrize("source", ["coffea", "chosen", "uproot"])
@pytest.mark.filterwarnings("ignore:Missing cross-reference index", "ignore:Branch Photon_")
def test_agrees_with_reference_on_real_events(
    kernel: Kernel, source: str, real: Mapping[str, Mapping[str, Any]]
) -> None:
    arguments = kernel.arguments(real[source])
    want = kernel.run("reference", *arguments)
    for implementation in ("columnar", "compiled"):
        got = kernel.run(implementation, *arguments)
        assert kernel.agree(got, want, *arguments), implementation
