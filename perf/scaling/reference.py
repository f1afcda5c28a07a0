"""The result that every run of a scaling measurement must have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.errors import InputError
from analysis.executors import open_executor
from perf.measure import clocks
from perf.records import difference
from perf.scaling.stages import WrappedProcessor

if TYPE_CHECKING:
    from analysis.runner.job import Inspected
    from analysis.runner.result import Result


class WrongError(Exception):
    """A result is not that of the reference, or chunks were not processed once each."""


class Reference(NamedTuple):
    """The result that all others must have, by the iterative executor.

    `single` says whether the data are of single precision; `sizes` are those of sums, as of
    `difference.Sizes`.
    """

    accumulated: Any
    chunks: int
    single: bool
    sizes: dict[str, Any]


@dataclass
class Observed:
    """Whether events that were processed had single precision, and how large sums of them are."""

    single: bool = False
    sizes: difference.Sizes = field(default_factory=difference.Sizes)


observed = Observed()


class ObservedProcessor(WrappedProcessor):
    """A processor that notes in `observed` what it was given and what it returned."""

    def process(self, events: Any) -> Any:
        """As the processor's own."""
        observed.single = observed.single or '"float32"' in events.layout.form.to_json()
        result = self.own(events)
        observed.sizes.add(result)
        return result


def make_reference(inspected: Inspected, chunksize: int) -> Reference:
    """Process every event by the iterative executor."""
    vars(observed).update(vars(Observed()))
    with open_executor("iterative") as executor, clocks.gc_frozen():
        result = inspected.run(executor, chunksize=chunksize, wrap=ObservedProcessor)
    arithmetic = difference.Arithmetic(inspected.events, result.chunks, single=observed.single)
    sizes = observed.sizes.of(result.accumulated, arithmetic)
    return Reference(result.accumulated, result.chunks, observed.single, sizes)


def check_result(inspected: Inspected, expected: Reference, result: Result) -> None:
    """Raise if a result is not that of the reference, or a chunk was not processed once."""
    if result.events != inspected.events:
        msg = f"{result.events} of {inspected.events} events were processed"
        raise WrongError(msg)
    if result.repeated is None:
        msg = (
            "the workers do not share a folder with this machine, so that it is not known whether "
            "each chunk was processed once: name one with --scratch"
        )
        raise InputError(msg)
    if result.repeated:
        msg = f"{result.repeated} chunks were processed more than once"
        raise InputError(msg)
    arithmetic = difference.Arithmetic(
        inspected.events, max(result.chunks, expected.chunks), single=expected.single
    )
    differs = difference.difference(
        result.accumulated, expected.accumulated, arithmetic=arithmetic, sizes=expected.sizes
    )
    if differs is not None:
        msg = f"the result differs from the reference: {differs}"
        raise WrongError(msg)
