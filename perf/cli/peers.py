"""The command ``peers``: other tools beside this suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from perf.cases.data import DEFAULT_DIRECTORY
from perf.cli import _console
from perf.cli._options import DataOption, MachineOption, RecordsOption, SeedOption
from perf.cli.claims import measured_and_kept, verdict_table
from perf.records import record_file

# numba and coffea take seconds to import, which --help need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perf.claims.peers import Campaign
    from perf.claims.verdict import Verdict

EVENTS: Final = 500_000
ROUNDS: Final = 6


def peers(
    only: Annotated[
        str | None, typer.Option(help="Names of tools, with commas. By default all.")
    ] = None,
    queries: Annotated[
        str | None, typer.Option(help="Names of queries, with commas. By default all, and ttbar.")
    ] = None,
    events: Annotated[
        int, typer.Option(min=1, help="Events of the file; 6a and 6b have at most 100,000.")
    ] = EVENTS,
    rounds: Annotated[
        int, typer.Option(min=1, help="Processes of each tool, each measured once.")
    ] = ROUNDS,
    records: RecordsOption = Path(record_file.DEFAULT_PATH),
    data: DataOption = Path(DEFAULT_DIRECTORY),
    machine: MachineOption = None,
    seed: SeedOption = 1,
) -> None:
    """Measure the ADL queries and ttbar in other tools, beside this suite.

    CPU time on one thread, reading included; every result is checked bin by bin. `make peers` installs
    the tools; what is not installed is left out, and a sentence says so.
    """
    import numpy as np

    from perf.cases.peers import queries as known
    from perf.claims.peers import Campaign
    from perf.peers.processes import PEERS

    console = _console.console()
    campaign = Campaign(
        data,
        only.split(",") if only else [*PEERS],
        queries.split(",") if queries else [*known()],
        events,
        rounds,
    )
    with console.status("") as status:
        rng = np.random.default_rng(seed)
        verdicts, footnotes = measured_and_kept(
            lambda: campaign.measure(rng, status.update), records, machine
        )
    console.print(_costs(campaign, verdicts))
    console.print(verdict_table(verdicts, "Other tools over this suite, pairs in random order"))
    _console.say(*campaign.missing, *footnotes, on=console)


def _costs(campaign: Campaign, verdicts: Sequence[Verdict]) -> Table:
    """Rows of tools, columns of queries."""
    from perf.claims.peers import costs
    from perf.peers.processes import PEERS

    found = costs(verdicts)
    sizes = {query: campaign.events_of(query) for query in campaign.asked}
    fewer = [query for query, size in sizes.items() if size < campaign.events]
    less = f", {' and '.join(fewer)} {min(sizes.values()):,}" if fewer else ""
    table = Table(
        "CPU ns/event",
        title=f"{campaign.events:,} events{less}; one thread, reading included, zstd",
        pad_edge=False,
    )
    for query in campaign.asked:
        table.add_column(query, justify="right", no_wrap=True)
    for name, peer in PEERS.items():
        if name in found:
            kind = "Parquet" if peer.format == "parquet" else "TTree"
            costs_of = (found[name].get(query) for query in campaign.asked)
            cells = ("-" if cost is None else f"{cost:,.0f}" for cost in costs_of)
            table.add_row(f"{peer.title} ({kind})", *cells)
    return table
