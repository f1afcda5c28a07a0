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
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import analysis.kernels
from analysis.kernels import (
    IMPLEMENTATIONS,
    KERNELS,
    Implementation,
    Kernel,
)
from tests.analysis.kernels.known import INDEPENDENT, KNOWN
from tests.support.strategies import (
    LAYOUTS,
    REGULAR,
    Precision,
    Sample,
    branches_of,
    corners,
    known,
    relaid_flat,
    samples,
    typical,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

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
    assert kernel.name in KNOWN, "add events computed by hand to tests/analysis/kernels/known.py"
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


@of("acceptance")
@each_implementation
@given(data=st.data())
def test_acceptance_need_not_be_given_eta(
    kernel: Kernel, implementation: Implementation, data: st.DataObject
) -> None:
    pt, _ = kernel.arguments(data.draw(samples(kernel)).columns)
    edge = data.draw(st.sampled_from([30.0, *(ak.flatten(pt).to_list() or [30.0])]))
    got = getattr(kernel.module, implementation)(pt, pt_min=edge)
    assert got.to_list() == [[one > edge for one in event] for event in pt.to_list()]
    assert str(got.type.content).endswith("* bool")


@of("occupancy")
@each_implementation
def test_occupancy_of_one_value_an_event(kernel: Kernel, implementation: Implementation) -> None:
    """As an array of numpy or awkward; all are filled unless it is said which."""
    function = getattr(kernel.module, implementation)
    numbers = np.array([-1.0, 2.0, 3.0, 5.0, 3.0])
    for values in (numbers, ak.Array(numbers)):
        got = function(values, bins=2, low=2.0, high=4.0)
        assert got.tolist() == [1, 1, 2, 1]
        got = function(values, numbers < 5.0, bins=2, low=2.0, high=4.0)
        assert got.tolist() == [1, 1, 2, 0]


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
