"""What the site's pages are made of, and what a page is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from perf.publish import change_points, curves
from perf.publish.series import Series, default_machine, series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from perf.publish.causes import Cause
    from perf.publish.change_points import Change
    from perf.publish.commands import Command
    from perf.publish.curves import Benchmark
    from perf.records.record_file import Record
    from perf.records.void import Void


@dataclass(frozen=True)
class Material:
    """What is read once and given to every page.

    Attributes
    ----------
    records
        All of them, oldest first.
    voids
        Declarations that take the meaning of earlier measurements away.
    benchmarks
        Series by name, of the records whose coffea has a date.
    changes
        What ``watch`` judges of these: the only judge of history. The newest come first.
    comparisons
        Reports of ``compare --json``: the only judge of pairs.
    commands
        Those of ``python -m perf``, which knows them.
    causes
        Reasons of changes that somebody found.
    """

    records: Sequence[Record]
    voids: Sequence[Void]
    benchmarks: Mapping[str, Series]
    changes: Sequence[Change]
    comparisons: Sequence[Mapping[str, Any]]
    commands: Sequence[Command] = ()
    causes: Sequence[Cause] = ()

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        voids: Sequence[Void] = (),
        comparisons: Sequence[Mapping[str, Any]] = (),
        commands: Sequence[Command] = (),
        causes: Sequence[Cause] = (),
    ) -> Material:
        """Series of records, and what is judged of them."""
        benchmarks = series(records, voids)
        changes = change_points.changes(benchmarks.values())
        return cls(records, voids, benchmarks, changes, comparisons, commands, causes)

    @cached_property
    def joined(self) -> Mapping[str, Benchmark]:
        """Benchmarks by name, each with those of the same that had other dependencies."""
        return curves.joined(self.benchmarks, self.changes)

    @cached_property
    def machine(self) -> str | None:
        """The machine with most points of history, which others never displace; None without any."""
        return default_machine(self.benchmarks.values())


class Data(NamedTuple):
    """A file of `data/`: what a chart reads, and rows of the same numbers to take away."""

    content: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()


def _nothing(_: Material) -> Iterator[tuple[str, Data]]:
    return iter(())


@dataclass(frozen=True)
class Page:
    """A page of the site.

    Attributes
    ----------
    name
        ``kernels`` is written as ``kernels.html``, from ``templates/kernels.html``.
    title
        In the navigation, and above the page.
    context
        Variables of the template: JSON-compatible values, numbers rather than prose.
    files
        Names of files of ``data/``, each with its content.
    """

    name: str
    title: str
    context: Callable[[Material], Mapping[str, Any]]
    files: Callable[[Material], Iterator[tuple[str, Data]]] = _nothing


Verdict = Literal["slower", "faster", "equal", "undecided", "not judged"]
"""What ``watch``, ``compare`` or ``claims`` says; whatever none of them judged is "not judged"."""
