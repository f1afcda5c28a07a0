"""Random numbers that depend only on their key, for numba loops.

Every event has its own SplitMix64 stream (Steele, Lea, Flood 2014, doi:10.1145/2714064.2660195)
that starts from a hash of (seed, sample, event number). All is 64-bit integer arithmetic, so an
event is the same in every chunk, process and machine.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from analysis.kernels._compile import loop

if TYPE_CHECKING:
    import numpy.typing as npt

GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
"""Increment of the stream: 2**64 / golden ratio, odd."""
MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
MIX_2: Final = np.uint64(0x94D049BB133111EB)
SHIFT_1: Final = np.uint64(30)
SHIFT_2: Final = np.uint64(27)
SHIFT_3: Final = np.uint64(31)
DROPPED_BITS: Final = np.uint64(11)
TO_UNIT: Final = 2.0**-53
HALF_STEP: Final = 2.0**-54
LOW_PART: Final = np.uint64(0xFFFF)
PART_1: Final = np.uint64(16)
PART_2: Final = np.uint64(32)
PART_3: Final = np.uint64(48)
PART_SCALE: Final = 1.0 / 65535.0
ROUGH_SCALE: Final = math.sqrt(3.0)  # the variance of four uniform numbers is 1/3


def stream_key(*parts: object) -> np.uint64:
    """Key of a family of streams: 64 bits of the BLAKE2 hash of what identifies it."""
    text = "\x1f".join(str(part) for part in parts)
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()))


@loop
def mixed(value: np.uint64) -> np.uint64:
    """Finaliser of SplitMix64: a bijection of 64 bits."""
    value = (value ^ (value >> SHIFT_1)) * MIX_1
    value = (value ^ (value >> SHIFT_2)) * MIX_2
    return value ^ (value >> SHIFT_3)


@loop
def event_state(key: np.uint64, event: int) -> np.uint64:
    """State in which the stream of one event starts."""
    state: np.uint64 = mixed(key + mixed(np.uint64(event) * GAMMA + GAMMA))
    return state


@loop
def rough_normal_of(raw: np.uint64) -> float:
    """Sum of the four 16-bit parts of a random number, with mean 0 and variance 1."""
    total = (raw & LOW_PART) + ((raw >> PART_1) & LOW_PART)
    total += ((raw >> PART_2) & LOW_PART) + (raw >> PART_3)
    return (float(total) * PART_SCALE - 2.0) * ROUGH_SCALE


@loop
def uniform(state: npt.NDArray[np.uint64]) -> float:
    """Uniform number in the open interval (0, 1): its logarithm is finite."""
    state[0] += GAMMA
    return float(mixed(state[0]) >> DROPPED_BITS) * TO_UNIT + HALF_STEP


@loop
def normal(state: npt.NDArray[np.uint64]) -> float:
    """Standard normal number (Box and Muller, one of the pair)."""
    radius = math.sqrt(-2.0 * math.log(uniform(state)))
    value: float = radius * math.cos(2.0 * math.pi * uniform(state))
    return value


@loop
def rough_normal(state: npt.NDArray[np.uint64]) -> float:
    """Nearly normal number, within 3.5 deviations: the sum of four uniform ones."""
    state[0] += GAMMA
    value: float = rough_normal_of(mixed(state[0]))
    return value


@loop
def exponential(state: npt.NDArray[np.uint64]) -> float:
    """Exponential number of mean 1."""
    return -math.log(uniform(state))


@loop
def poisson(state: npt.NDArray[np.uint64], mean: float) -> int:
    """Poisson number, by multiplication (Knuth), for small means."""
    limit = math.exp(-mean)
    product = uniform(state)
    count = 0
    while product > limit:
        product *= uniform(state)
        count += 1
    return count


@loop
def power_law(state: npt.NDArray[np.uint64], low: float, high: float, exponent: float) -> float:
    """Number in [low, high) whose density falls as ``x ** -(exponent + 1)``."""
    tail = (low / high) ** exponent
    value: float = low * (1.0 - uniform(state) * (1.0 - tail)) ** (-1.0 / exponent)
    return value
