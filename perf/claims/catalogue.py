"""Claims about speed and memory, each measured so that it can be refuted."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from analysis.errors import InputError
from analysis.kernels import KERNELS, bind
from perf.cases.case import VECTORISED
from perf.cases.data import Store
from perf.cases.executors import MAX_PLAIN_TASKS
from perf.claims import limits
from perf.claims import start as starting
from perf.claims.executors import (
    MAX_CPU,
    PLAIN_ROUNDS,
    as_worker,
    executor,
    independent_processes,
    iterative,
)
from perf.claims.fits import fits
from perf.claims.verdict import Arm, Verdict, checked
from perf.measure.paired import interleaved, ratio
from perf.records.record_file import What

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from analysis.kernels import Implementation
    from perf.records.record_file import Input

ROUNDS: Final = 30
"""Pairs: the interval of a median of 30 rests on about the 8th and the 23rd of them."""

TRIJET_EVENTS: Final = 100_000
SELECTION_EVENTS: Final = 10_000

MIN_TRIJET_RATIO: Final = 4.0
MIN_SELECTION_RATIO: Final = 5.0

# --- the claims


def trijet(store: Store, rng: np.random.Generator, rounds: int = ROUNDS) -> Verdict:
    """The trijet of largest pt: compiled at least four times as fast as columnar."""
    kernel = KERNELS["trijet_pt"]
    events = store.dense(TRIJET_EVENTS)
    arguments = kernel.arguments(events.columns)
    return _pair(
        f"trijet_pt, {TRIJET_EVENTS:,} events: columnar / compiled",
        ("at least", MIN_TRIJET_RATIO),
        {name: partial(kernel.run, name, *arguments) for name in VECTORISED},
        lambda result, expected: kernel.agree(result, expected, *arguments),
        {"group": "trijet_pt", "kind": "kernel", "subject": "trijet_pt"},
        events.identity,
        rng,
        rounds,
    )


def selection(store: Store, rng: np.random.Generator, rounds: int = ROUNDS) -> Verdict:
    """Selection of objects and regions: compiled at least five times as fast as columnar."""
    events = store.events(SELECTION_EVENTS)
    return _pair(
        f"objects and regions, {SELECTION_EVENTS:,} events: columnar / compiled",
        ("at least", MIN_SELECTION_RATIO),
        {name: partial(select, events.columns, name) for name in VECTORISED},
        lambda result, expected: all(map(np.array_equal, result, expected)),
        {
            "group": "objects and regions",
            "kind": "selection",
            "subject": "electrons, muons, jets, leptons, regions",
        },
        events.identity,
        rng,
        rounds,
    )


def select(columns: Mapping[str, Any], implementation: Implementation) -> tuple[Any, Any]:
    """The selection of the analysis: channel and region of each event."""
    kernels = bind(implementation)

    def mask(name: str) -> Any:
        return kernels(name, *KERNELS[name].arguments(columns))

    channel = kernels("leptons", mask("electrons"), mask("muons"))
    return channel, kernels("regions", mask("jets"), columns["Jet_btagCSVV2"])


class Claim(NamedTuple):
    """What is measured under a name, and gives verdicts."""

    name: str
    measure: Callable[[], Sequence[Verdict]]


def every(store: Store, rng: np.random.Generator, only: Sequence[str] = ()) -> list[Claim]:
    """Every claim whose name matches a pattern (shell's), by default all; measured when called.

    An InputError if a pattern matches none.
    """

    def single(measure: Callable[..., Verdict], *args: Any) -> Callable[[], Sequence[Verdict]]:
        return lambda: [measure(*args)]

    # To be sent to another process: without what this one has read.
    fresh = Store(store.directory, store.file_events)
    claims = [
        Claim("trijet", single(trijet, store, rng)),
        Claim("selection", single(selection, store, rng)),
        Claim("limit", partial(limits.limit, store, rng)),
        Claim("implementations", partial(limits.implementations, store, rng)),
        *(
            Claim(f"reading-{allocator}", partial(limits.reading, store, rng, allocator))
            for allocator in limits.MAX_READING
        ),
        Claim("held-out", partial(limits.held_out, store, rng)),
        Claim("real-file", partial(limits.real_file, rng)),
        *(Claim(f"memory-{name}", single(limits.memory, store, name)) for name in limits.WITH_ALL),
        Claim("fit", partial(fits, rng)),
        Claim("executor-iterative", partial(as_worker, iterative, rng)),
        Claim(
            "executor-independent-processes",
            partial(as_worker, independent_processes, fresh, rng),
        ),
        *(
            Claim(f"executor-{name}", partial(as_worker, executor, fresh, rng, name))
            for name in MAX_CPU
        ),
        *(
            Claim(
                f"executor-{name}-plain",
                partial(as_worker, executor, fresh, rng, name, "plain", PLAIN_ROUNDS),
            )
            for name in MAX_PLAIN_TASKS
        ),
        *(
            Claim(f"start-{name}", partial(as_worker, starting.start, fresh, rng, name))
            for name in starting.MAX_CPU
        ),
    ]
    for pattern in only:
        if not any(fnmatch(claim.name, pattern) for claim in claims):
            names = ", ".join(claim.name for claim in claims)
            msg = f"there is no claim {pattern!r}: there are {names}"
            raise InputError(msg)
    return [
        claim for claim in claims if not only or any(fnmatch(claim.name, name) for name in only)
    ]


def _pair(
    claim: str,
    bound: tuple[Literal["at least", "at most"], float],
    sides: Mapping[str, Callable[[], Any]],
    agree: Callable[[Any, Any], bool],
    what: Mapping[str, Any],
    identity: Input,
    rng: np.random.Generator,
    rounds: int,
) -> Verdict:
    """CPU time of the first of two implementations over that of the second, which must agree."""
    check = checked(sides, agree)
    samples = interleaved(sides, rounds=rounds, rng=rng)
    numerator, denominator = (samples.cpu[name] for name in sides)
    slug = what["group"].replace(", ", "_").replace(" ", "_")
    arms = tuple(
        Arm(
            What(name=f"claim-{slug}-{name}", implementation=name, size=identity.events, **what),
            identity,
            samples.wall[name],
            samples.cpu[name],
            samples.iterations[name],
            check[name],
        )
        for name in sides
    )
    return Verdict(claim, *bound, ratio(numerator, denominator, rng), "ratio", arms)
