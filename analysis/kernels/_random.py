"""Random numbers that are a pure function of a counter and a key.

Counter-based: the generator Philox4x32-10 (J. K. Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC11) turns them into bits, and algorithm AS241 (M. J. Wichura, Applied Statistics
37 (1988) 477) turns the bits into a standard normal number. There is no state: in any chunk,
executor and order, the same counter gives the same number.

Only additions, multiplications, divisions and square roots are used, also for the logarithm; IEEE
754 defines the rounding of each. So the three implementations agree to the last bit, on every
machine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.kernels._compile import loop

if TYPE_CHECKING:
    from numpy.typing import NDArray

MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
WEYL: Final = (0x9E3779B9, 0xBB67AE85)
ROUNDS: Final = 10
MASK: Final = 0xFFFFFFFF

# AS241 (PPND16), coefficients from the highest power down.
_CENTRE_NUMERATOR = (
    2.5090809287301226727e3,
    3.3430575583588128105e4,
    6.7265770927008700853e4,
    4.5921953931549871457e4,
    1.3731693765509461125e4,
    1.9715909503065514427e3,
    1.3314166789178437745e2,
    3.3871328727963666080e0,
)
_CENTRE_DENOMINATOR = (
    5.2264952788528545610e3,
    2.8729085735721942674e4,
    3.9307895800092710610e4,
    2.1213794301586595867e4,
    5.3941960214247511077e3,
    6.8718700749205790830e2,
    4.2313330701600911252e1,
    1.0,
)
_TAIL_NUMERATOR = (
    7.74545014278341407640e-4,
    2.27238449892691845833e-2,
    2.41780725177450611770e-1,
    1.27045825245236838258e0,
    3.64784832476320460504e0,
    5.76949722146069140550e0,
    4.63033784615654529590e0,
    1.42343711074968357734e0,
)
_TAIL_DENOMINATOR = (
    1.05075007164441684324e-9,
    5.47593808499534494600e-4,
    1.51986665636164571966e-2,
    1.48103976427480074590e-1,
    6.89767334985100004550e-1,
    1.67638483018380384940e0,
    2.05319162663775882187e0,
    1.0,
)
_FAR_NUMERATOR = (
    2.01033439929228813265e-7,
    2.71155556874348757815e-5,
    1.24266094738807843860e-3,
    2.65321895265761230930e-2,
    2.96560571828504891230e-1,
    1.78482653991729133580e0,
    5.46378491116411436990e0,
    6.65790464350110377720e0,
)
_FAR_DENOMINATOR = (
    2.04426310338993978564e-15,
    1.42151175831644588870e-7,
    1.84631831751005468180e-5,
    7.86869131145613259100e-4,
    1.48753612908506148525e-2,
    1.36929880922735805310e-1,
    5.99832206555887937690e-1,
    1.0,
)
_CENTRE = 0.425
_FAR = 5.0
_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_ATANH = tuple(1.0 / (2 * k + 1) for k in range(12, -1, -1))


def _horner(coefficients: tuple[float, ...], x: Any) -> Any:
    """Polynomial of a number or an array, coefficients from the highest power down."""
    value = x * coefficients[0] + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


_horner_compiled = loop(_horner)


def philox_reference(
    counter: tuple[int, int, int, int], key: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Four 32-bit words of a counter of four 32-bit words and a key of two."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = MULTIPLIERS[0] * x0, MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (
            (product1 >> 32) ^ x1 ^ k0,
            product1 & MASK,
            (product0 >> 32) ^ x3 ^ k1,
            product0 & MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return x0, x1, x2, x3


def normal_reference(words: tuple[int, int, int, int]) -> float:
    """Standard normal number of the first two of four 32-bit words."""
    # 52 bits and a half: never 0 or 1, and exact in double precision.
    uniform = ((words[0] << 20 | words[1] >> 12) + 0.5) * 2.0**-52
    q = uniform - 0.5
    if abs(q) <= _CENTRE:
        r = 0.180625 - q * q
        return float(q * _horner(_CENTRE_NUMERATOR, r) / _horner(_CENTRE_DENOMINATOR, r))
    tail = uniform if q < 0 else 1.0 - uniform
    mantissa, exponent = math.frexp(tail)
    if mantissa < _SQRT_HALF:
        mantissa, exponent = 2 * mantissa, exponent - 1
    s = (mantissa - 1) / (mantissa + 1)
    r = math.sqrt(-(exponent * _LN2 + 2 * s * _horner(_ATANH, s * s)))
    if r <= _FAR:
        size = _horner(_TAIL_NUMERATOR, r - 1.6) / _horner(_TAIL_DENOMINATOR, r - 1.6)
    else:
        size = _horner(_FAR_NUMERATOR, r - _FAR) / _horner(_FAR_DENOMINATOR, r - _FAR)
    return float(-size if q < 0 else size)


def philox_columnar(
    counter: tuple[Any, Any, Any, Any], key: tuple[Any, Any]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """As `philox_reference`, for arrays (uint64) of the words."""
    m0, m1, mask, half = (np.uint64(number) for number in (*MULTIPLIERS, MASK, 32))
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = m0 * x0, m1 * x2
        x0, x1, x2, x3 = (
            (product1 >> half) ^ x1 ^ k0,
            product1 & mask,
            (product0 >> half) ^ x3 ^ k1,
            product0 & mask,
        )
        k0, k1 = (k0 + np.uint64(WEYL[0])) & mask, (k1 + np.uint64(WEYL[1])) & mask
    return x0, x1, x2, x3


def normal_columnar(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.float64]:
    """As `normal_reference`, for arrays of the first two words."""
    bits = (high << np.uint64(20)) | (low >> np.uint64(12))
    uniform = (bits.astype(np.float64) + 0.5) * 2.0**-52
    q = uniform - 0.5
    r = 0.180625 - q * q
    normal: NDArray[np.float64] = (
        q * _horner(_CENTRE_NUMERATOR, r) / _horner(_CENTRE_DENOMINATOR, r)
    )
    # One number in seven lies outside the centre.
    (outside,) = np.nonzero(np.abs(q) > _CENTRE)
    q, uniform = q[outside], uniform[outside]
    mantissa, exponent = np.frexp(np.where(q < 0, uniform, 1.0 - uniform))
    small = mantissa < _SQRT_HALF
    mantissa = np.where(small, 2 * mantissa, mantissa)
    exponent = exponent - small
    s = (mantissa - 1) / (mantissa + 1)
    r = np.sqrt(-(exponent * _LN2 + 2 * s * _horner(_ATANH, s * s)))
    near, far = r - 1.6, r - _FAR
    size = np.where(
        r <= _FAR,
        _horner(_TAIL_NUMERATOR, near) / _horner(_TAIL_DENOMINATOR, near),
        _horner(_FAR_NUMERATOR, far) / _horner(_FAR_DENOMINATOR, far),
    )
    normal[outside] = np.where(q < 0, -size, size)
    return normal


@loop
def philox_compiled(x0, x1, x2, x3, k0, k1) -> Any:  # type: ignore[no-untyped-def]
    """As `philox_reference`, for six np.uint64."""
    # np.uint64 throughout: numba turns a mixture of signed and unsigned into floats.
    m0, m1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
    w0, w1 = np.uint64(WEYL[0]), np.uint64(WEYL[1])
    mask, half = np.uint64(MASK), np.uint64(32)
    for _ in range(ROUNDS):
        product0 = m0 * x0
        product1 = m1 * x2
        x0 = (product1 >> half) ^ x1 ^ k0
        x1 = product1 & mask
        x2 = (product0 >> half) ^ x3 ^ k1
        x3 = product0 & mask
        k0 = (k0 + w0) & mask
        k1 = (k1 + w1) & mask
    return x0, x1, x2, x3


@loop
def normal_compiled(high, low) -> Any:  # type: ignore[no-untyped-def]
    """As `normal_reference`, for two np.uint64."""
    bits = (high << np.uint64(20)) | (low >> np.uint64(12))
    uniform = (np.float64(bits) + 0.5) * 2.0**-52
    q = uniform - 0.5
    if abs(q) <= _CENTRE:
        r = 0.180625 - q * q
        return (
            q * _horner_compiled(_CENTRE_NUMERATOR, r) / _horner_compiled(_CENTRE_DENOMINATOR, r)
        )
    mantissa, exponent = math.frexp(uniform if q < 0 else 1.0 - uniform)
    if mantissa < _SQRT_HALF:
        mantissa = 2 * mantissa
        exponent = exponent - 1
    s = (mantissa - 1) / (mantissa + 1)
    depth = math.sqrt(-(exponent * _LN2 + 2 * s * _horner_compiled(_ATANH, s * s)))
    if depth <= _FAR:
        size = _horner_compiled(_TAIL_NUMERATOR, depth - 1.6) / _horner_compiled(
            _TAIL_DENOMINATOR, depth - 1.6
        )
    else:
        size = _horner_compiled(_FAR_NUMERATOR, depth - _FAR) / _horner_compiled(
            _FAR_DENOMINATOR, depth - _FAR
        )
    return -size if q < 0 else size
