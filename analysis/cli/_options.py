"""Options that several commands have, and what their values mean."""

from __future__ import annotations

import functools
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from analysis.errors import InputError
from analysis.executors import DEFAULT_CHUNKSIZE, EXECUTORS
from analysis.kernels import Implementation

if TYPE_CHECKING:
    from collections.abc import Callable

OutputOption = Annotated[Path, typer.Option("--output", "-o", help="File for the result.")]
ImplementationOption = Annotated[Implementation, typer.Option(help="Of the kernels.")]
# As analysis.ttbar has them, which takes seconds to import.
TtbarImplementation = Literal[Implementation, "fused"]
TTBAR_IMPLEMENTATION: Final = "Of the kernels, or all of them fused into one compiled pass."
ExecutorOption = Annotated[
    str, typer.Option(help=f"One of {', '.join(EXECUTORS)}, or dask-awkward.")
]
WorkersOption = Annotated[int, typer.Option(help="Number of worker processes.")]
ChunksizeOption = Annotated[int, typer.Option(help="Approximate number of events in a chunk.")]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", help="BRANCH=OTHER: read OTHER in the place of BRANCH (repeatable)."),
]
DataOption = Annotated[str, typer.Option("--data", help="Process that is taken for data.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(help="A servicex.yaml; by default a local endpoint is started."),
]
BackendOption = Annotated[Literal["numpy", "jax"], typer.Option(help="Backend of pyhf.")]


@dataclass(frozen=True)
class RunOptions:
    """How events are processed: options of `run` and `adl`."""

    executor: ExecutorOption = "iterative"
    workers: WorkersOption = 1
    chunksize: ChunksizeOption = DEFAULT_CHUNKSIZE
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            help="KEY=VALUE: an option of the executor, such as retries=0 or "
            "address=tcp://HOST:8786 (repeatable); a wrong KEY lists them.",
        ),
    ] = None
    mapping: MapOption = None
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Accept empty trees.")] = False
    skip_bad_files: Annotated[
        bool,
        typer.Option("--skip-bad-files", help="Leave out what cannot be read, and say so."),
    ] = False
    timeout: Annotated[
        float,
        typer.Option(help="Seconds to wait for a server of files (root://, http://, https://)."),
    ] = 60
    reader: Annotated[
        Literal["bulk", "uproot"],
        typer.Option(
            help="What reads branches of TTrees that are known; uproot takes longer. Of no effect on "
            "RNTuples and Parquet."
        ),
    ] = "bulk"
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Print the traceback of an error in a chunk, too.")
    ] = False

    @property
    def of_job(self) -> dict[str, Any]:
        """Those that are attributes of a `Job`."""
        names = ("chunksize", "allow_empty", "skip_bad_files", "timeout", "reader")
        return {name: getattr(self, name) for name in names}

    @property
    def of_executor(self) -> dict[str, Any]:
        """Options of the executor."""
        from analysis.executors.options import parse_pair  # noqa: PLC0415  (imports pydantic)

        return dict(parse_pair(pair) for pair in self.engine or [])


@dataclass(frozen=True)
class FitOptions:
    """What is fitted, and with what: options of `fit` and `limit`, in the order of `Source`."""

    histograms: Annotated[
        Path,
        typer.Argument(
            metavar="HISTOGRAMS", help="Output of `run`, or histograms as the AGC publishes them."
        ),
    ]
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--inputs", help="For published histograms: nanoaod_inputs.json, for event weights."
        ),
    ] = None
    files_per_process: Annotated[
        int | None, typer.Option(help="For published histograms: number of files of a process.")
    ] = None
    data: DataOption = "pseudodata"
    signal: Annotated[
        str,
        typer.Option("--signal", help="Process whose strength is the parameter of interest."),
    ] = "ttbar"
    backend: BackendOption = "numpy"
    optimizer: Annotated[
        Literal["least_squares", "newton", "scipy", "minuit"] | None,
        typer.Option(help="By default least_squares with numpy, newton with jax."),
    ] = None


def with_options(group: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of a dataclass as parameters; it receives them as ``options``."""
    shared = inspect.signature(group, eval_str=True).parameters

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        every = {**signature.parameters, **shared}
        del every["options"]

        @functools.wraps(command)
        def called(**given: Any) -> None:
            options = group(**{name: given.pop(name) for name in shared})
            command(**given, options=options)

        # What typer reads.
        keywords = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in every.values()]
        called.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]
        called.__annotations__ = {name: parameter.annotation for name, parameter in every.items()}
        return called

    return decorate


def replacements(mapping: list[str] | None) -> dict[str, str]:
    """Branch to read in the place of another, of `MapOption`."""
    pairs = {}
    for pair in mapping or []:
        branch, equals, other = pair.partition("=")
        if not (branch and equals and other):
            msg = f"--map takes BRANCH=OTHER, not {pair!r}"
            raise InputError(msg)
        pairs[branch] = other
    return pairs


def json_object(text: str, option: str) -> dict[str, Any]:
    """The JSON object that an option is."""
    try:
        read = json.loads(text)
    except ValueError as error:
        msg = f"{option} must be a JSON object, got {text!r}: {error}"
        raise InputError(msg) from None
    if not isinstance(read, dict):
        msg = f"{option} must be a JSON object, got {text!r}"
        raise InputError(msg)
    return read
