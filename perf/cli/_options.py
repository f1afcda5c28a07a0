"""Options that several commands have, and the exit status that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

FAILED: Final = 1
"""Exit status: something failed, does not hold, or is slower."""

RecordsOption = Annotated[Path, typer.Option("--records", help="File of records.")]
DataOption = Annotated[Path, typer.Option(help="Folder of the synthetic events.")]
MachineOption = Annotated[
    str | None,
    typer.Option(
        help="Name of this machine in the records; by default $PERF_MACHINE, or its host name."
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the random order of measurements.")]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(help="Name or pattern, such as 'executor-*' (repeatable). By default all."),
]
OutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", help="File of results; what it has is not measured again."),
]
PinsOption = Annotated[
    str | None,
    typer.Option(help="Release, or file of NAME==VERSION, that pins all packages but coffea."),
]
ResolutionOption = Annotated[
    float, typer.Option(min=0.001, max=1, help="Smallest change that matters, as a fraction.")
]
ClockOption = Annotated[Literal["cpu", "wall"], typer.Option(help="CPU or wall time.")]

ArgumentsOption = Annotated[
    str, typer.Option(help="Keyword arguments of --processor, a JSON object.")
]
SchemaOption = Annotated[
    str, typer.Option(help="Schema of events for --processor: a class of coffea.nanoevents.")
]
TreeOption = Annotated[
    str, typer.Option(help="Tree to read for --processor, where the file set names none.")
]
