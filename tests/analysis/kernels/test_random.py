"""Random numbers, sine and cosine: against the vectors of Random123, quantiles, and the C library."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.kernels import (
    KERNELS,
    Implementation,
    Kernel,
    _random,
    _trigonometry,
)
from analysis.kernels.jet_resolution import RESOLUTION
from tests.support.strategies import (
    jagged,
    typical,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
from tests.analysis.kernels.test_kernels import COUNTS, each_implementation, of

Words = tuple[int, int, int, int]

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
