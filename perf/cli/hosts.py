"""The command ``hosts``: executors whose parts are on hosts of their own."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from perf.cli import _console
from perf.cli._options import MachineOption, RecordsOption, SeedOption
from perf.records import provenance, record_file
from perf.records.table import made_with

# dask and parsl take seconds to import, which --help need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from perf.hosts.campaign import Measured


def hosts(
    executors: Annotated[str, typer.Option(help="Names of executors, with commas.")] = (
        "dask,parsl,spark"
    ),
    events: Annotated[int, typer.Option(min=16, help="Events of the run.")] = 800_000,
    repeat: Annotated[int, typer.Option(min=1, help="Runs in each scenario.")] = 3,
    folder: Annotated[Path, typer.Option(help="Where synthetic events are written.")] = Path(
        ".perf/hosts"
    ),
    records: RecordsOption = Path(record_file.DEFAULT_PATH),
    machine: MachineOption = None,
    seed: SeedOption = 1,
) -> None:
    """Measure executors on hosts of namespaces, as root.

    Near the files and far from them, with a slow host and with one that is lost; and what the client
    sends. All share this machine, which limits the rates. Every result is equal to that of the
    iterative executor.
    """
    import numpy as np

    from perf.hosts import records as own
    from perf.hosts.campaign import ENGINES, Campaign
    from perf.records.record_file import Input

    engines = _console.choices(executors, "--executors", ENGINES)
    campaign = Campaign(folder / str(events), events, repeat)
    console = _console.console()
    run, rows = uuid.uuid4().hex, []
    with console.status("") as status:
        given = Input(
            digest=campaign.job().inspect().digest, events=events, source="synthetic ttbar, seed 7"
        )
        before = provenance.load_average()

        def keep(measured: Measured) -> None:
            made = own.record(measured, given, run, before, machine)
            record_file.append(records, made)
            rows.append(own.row(made))

        campaign.measure(engines, np.random.default_rng(seed), status.update, keep)
    table = Table(
        *(
            "executor",
            "scenario",
            "runs",
            "events/s",
            "sent a chunk",
            "received a chunk",
            "a result",
        ),
        title=f"{events:,} events on hosts with links of 1 Gbit/s; bytes of the client",
        pad_edge=False,
    )
    for one in rows:
        table.add_row(
            *(one.engine, one.scenario, str(one.runs), one.rates),
            *(f"{one.sent:,.0f}", f"{one.received:,.0f}"),
            "-" if one.result is None else f"{one.result:,.0f}",
        )
    console.print(table)
    _console.say(made_with(provenance.versions(), provenance.machine()), on=console)
