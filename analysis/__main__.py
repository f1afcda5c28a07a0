"""Command line of the analysis: ``python -m analysis``."""

from __future__ import annotations

if __name__ == "__main__":
    # Before what takes long to import: signals are heeded from here on, and libraries find a home.
    from analysis import interruption

    interruption.listen()

    from analysis import folders

    folders.settle()

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.errors import InputError
from analysis.executors import DEFAULT_CHUNKSIZE, EXECUTORS
from analysis.interruption import call, interruptible
from analysis.kernels import Implementation

# What imports coffea is imported where it is used: it takes seconds, which --help, a wrong option
# and make-data need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Mapping

    from analysis.runner.job import Done, Job
    from analysis.runner.run import Result

app = typer.Typer(
    help="One CMS analysis as proven kernels, run with coffea.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

OutputOption = Annotated[Path, typer.Option("--output", "-o", help="Where the result goes.")]
ImplementationOption = Annotated[Implementation, typer.Option(help="Of the kernels.")]
ExecutorOption = Annotated[
    str, typer.Option(help=f"One of {', '.join(EXECUTORS)}, or dask-awkward.")
]
EngineOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="KEY=VALUE: an option of the executor, such as retries=0 or address=tcp://HOST:8786; "
        "a wrong KEY lists them.",
    ),
]
SkipOption = Annotated[
    bool,
    typer.Option("--skip-bad-files", help="Leave out what cannot be read, and say what it was."),
]
WorkersOption = Annotated[int, typer.Option(help="Worker processes.")]
ChunksizeOption = Annotated[int, typer.Option(help="Events a chunk, about.")]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", help="BRANCH=OTHER: read OTHER in the place of BRANCH."),
]
TimeoutOption = Annotated[
    float,
    typer.Option(help="Seconds that a server of files (root://, http://, https://) may take."),
]
DataOption = Annotated[str, typer.Option("--data", help="Process that is taken for data.")]
AllowEmptyOption = Annotated[bool, typer.Option("--allow-empty", help="Accept empty trees.")]
TracebackOption = Annotated[
    bool, typer.Option("--traceback", help="Print the traceback of an error in a chunk, too.")
]


@app.command()
def adl(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="NanoAOD files.")],
    output: OutputOption,
    implementation: ImplementationOption = "columnar",
    tree: Annotated[str, typer.Option(help="Name of the tree.")] = "Events",
    executor: ExecutorOption = "iterative",
    workers: WorkersOption = 1,
    chunksize: ChunksizeOption = DEFAULT_CHUNKSIZE,
    engine: EngineOption = None,
    mapping: MapOption = None,
    allow_empty: AllowEmptyOption = False,  # noqa: FBT002  (a flag)
    skip_bad_files: SkipOption = False,  # noqa: FBT002  (a flag)
    timeout: TimeoutOption = 60,
    traceback: TracebackOption = False,  # noqa: FBT002  (a flag)
) -> None:
    """Fill the histograms of the eight ADL queries."""
    from analysis.adl import BTAGS, INPUTS, QUERIES, AdlProcessor
    from analysis.files.fileset import FileSet
    from analysis.files.output import check, write_json
    from analysis.runner.job import Job

    check(output, inputs=[Path(file) for file in files])
    replacements = _replacements(mapping)
    job = Job(
        FileSet.of({"adl": files}, tree=tree, name="the list of files"),
        AdlProcessor(implementation, replacements),
        [*INPUTS, BTAGS],
        replacements=replacements,
        chunksize=chunksize,
        allow_empty=allow_empty,
        skip_bad_files=skip_bad_files,
        timeout=timeout,
    )
    result = _execute(job, executor, workers, engine, output, traceback=traceback).result
    counts = {name: result.accumulated[name].values(flow=True) for name in QUERIES}
    write_json(
        output,
        {
            name: {"edges": query.edges.tolist(), "values": counts[name].tolist()}
            for name, query in QUERIES.items()
        },
    )
    table = Table("query", "filled with", title="ADL queries")
    for heading in ("under", "in", "over"):
        table.add_column(heading, justify="right")
    for name, query in QUERIES.items():
        under, *inside, over = counts[name]
        table.add_row(name, query.title, *(f"{n:.0f}" for n in (under, sum(inside), over)))
    _report(table, result, output)


@app.command("run")
def run_command(
    fileset_path: Annotated[Path, typer.Argument(metavar="FILESET.json")],
    output: OutputOption,
    processor: Annotated[
        str | None,
        typer.Option(
            help="package.module:Class of your own, or of a function of events; OUTPUT is then "
            "its result, as coffea.util.save writes it. By default the ttbar analysis.",
        ),
    ] = None,
    arguments: Annotated[
        str | None,
        typer.Option(help="JSON: keywords to make --processor with.", show_default="{}"),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            help="Of events for --processor: a name in coffea.nanoevents.",
            show_default="NanoAODSchema",
        ),
    ] = None,
    tree: Annotated[
        str | None,
        typer.Option(
            help="Of files that the file set lists without for --processor.",
            show_default="Events",
        ),
    ] = None,
    trace: Annotated[  # noqa: FBT002  (a flag)
        bool,
        typer.Option("--trace", help="Find out what --processor reads, and read it in one go."),
    ] = False,
    implementation: Annotated[
        Implementation | None, typer.Option(help="Of the kernels.", show_default="columnar")
    ] = None,
    executor: ExecutorOption = "iterative",
    workers: WorkersOption = 1,
    chunksize: ChunksizeOption = DEFAULT_CHUNKSIZE,
    engine: EngineOption = None,
    variations: Annotated[
        Literal["all", "nominal"] | None,
        typer.Option(help="Systematic variations.", show_default="all"),
    ] = None,
    mapping: MapOption = None,
    allow_empty: AllowEmptyOption = False,  # noqa: FBT002  (a flag)
    skip_bad_files: SkipOption = False,  # noqa: FBT002  (a flag)
    timeout: TimeoutOption = 60,
    traceback: TracebackOption = False,  # noqa: FBT002  (a flag)
) -> None:
    """Run the ttbar analysis, or a processor of your own, over a file set.

    Histograms of the analysis go to OUTPUT in the format that its name ends in: .json (numbers),
    .uhi.json (UHI, for hist), .root (TH1D) or .coffea.
    """
    from analysis import histograms, ttbar
    from analysis.files import histogram_io
    from analysis.files.fileset import DEFAULT_TREE
    from analysis.files.output import check, provenance
    from analysis.runner.job import Job

    how: dict[str, Any] = {
        "chunksize": chunksize,
        "allow_empty": allow_empty,
        "skip_bad_files": skip_bad_files,
        "timeout": timeout,
    }
    check(output, inputs=[fileset_path])
    if processor is not None:
        _only_without(
            "--processor",
            {"--map": mapping, "--variations": variations, "--implementation": implementation},
        )
        _check_coffea(output)
        job = Job.of_processor(
            fileset_path,
            processor,
            _json(arguments or "{}", "--arguments"),
            schema or "NanoAODSchema",
            tree or DEFAULT_TREE,
            trace=trace,
            **how,
        )
        result = _execute(job, executor, workers, engine, output, traceback=traceback).result
        _save(result.accumulated, output)
        _report(_contents(result.accumulated), result, output)
        return
    own = {"--arguments": arguments, "--schema": schema, "--tree": tree, "--trace": trace or None}
    _only_with("--processor", own)
    histogram_io.check(output)
    implementation, variations = implementation or "columnar", variations or "all"
    replacements = _replacements(mapping)
    job = Job.of_ttbar(fileset_path, implementation, variations, replacements, **how)
    histogram_io.check(output, ttbar.check(job.fileset, variations))
    done = _execute(job, executor, workers, engine, output, traceback=traceback)
    result, fileset = done.result, done.fileset
    cutflow = ttbar.whole_cutflow(result.accumulated["cutflow"], fileset)
    scaled = ttbar.normalise(result.accumulated, fileset)
    histogram_io.write(
        output,
        histograms.named(scaled),
        {
            "schema": 1,
            "names": histograms.names(scaled),
            "data": ttbar.real_data(fileset),
            "cutflow": cutflow,
            "provenance": provenance(
                fileset=dict(fileset),
                implementation=implementation,
                executor={"name": executor, "workers": workers, "hash_seed": done.hash_seed},
                chunksize=chunksize,
                variations=variations,
                replacements=replacements,
                events=result.events,
                skipped=[str(chunk) for chunk in result.skipped],
            ),
        },
    )
    table = Table("process", "sample", "selection", title="Cutflow (events)")
    for step in ttbar.STEPS:
        table.add_column(step, justify="right")
    for process, samples in sorted(cutflow.items()):
        for sample, shifts in sorted(samples.items()):
            for shift, steps in shifts.items():
                table.add_row(
                    escape(process), escape(sample), shift, *(str(steps[s]) for s in ttbar.STEPS)
                )
    _report(table, result, output)


@app.command()
def plot(
    histograms: Annotated[Path, typer.Argument(metavar="HISTOGRAMS", help="Output of `run`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the pictures.")],
    data_format: Annotated[str, typer.Option("--format", help="png, pdf or svg.")] = "png",
    fit: Annotated[
        Path | None, typer.Option(metavar="FIT.json", help="Output of `fit`, to draw as well.")
    ] = None,
    data: DataOption = "pseudodata",
) -> None:
    """Draw prediction and data of each region and channel, and of a fit before and after it."""
    from analysis import plots
    from analysis.files import histogram_io

    for path in plots.plot(histogram_io.read(histograms, data), output, data_format, fit):
        Console().print(str(path), soft_wrap=True, highlight=False)


@app.command("make-data")
def make_data(
    directory: Annotated[Path, typer.Argument(metavar="DIR")],
    events: Annotated[int, typer.Option(help="Events of each sample.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Same seed, same events.")] = 1,
    processes: Annotated[
        str, typer.Option(help="all, or names of processes with commas between them.")
    ] = "all",
    variations: Annotated[
        str, typer.Option(help="all, or names of sample variations with commas between them.")
    ] = "all",
    compression: Annotated[str, typer.Option(help="zstd, lz4, zlib, lzma or none.")] = "zstd",
    data_format: Annotated[
        str, typer.Option("--format", help="ttree, rntuple or parquet.")
    ] = "ttree",
    branches: Annotated[
        str, typer.Option(help="slim: what is read; full: as many as NanoAOD has.")
    ] = "slim",
) -> None:
    """Write synthetic NanoAOD of all processes and variations, and DIR/fileset.json."""
    from analysis.synthetic import write_fileset

    with interruptible("the files that are whole are kept, run it again to go on"):
        fileset = write_fileset(
            directory,
            events=events,
            seed=seed,
            processes=None if processes == "all" else processes.split(","),
            variations=None if variations == "all" else variations.split(","),
            compression=compression,
            format=data_format,
            branches=branches,
            progress=True,
        )
    table = Table("sample", "files", "events", title=str(directory / "fileset.json"))
    for name, dataset in fileset.items():
        table.add_row(name, str(len(dataset["files"])), str(dataset["metadata"]["nevts"]))
    Console().print(table)


ConfigOption = Annotated[
    Path | None,
    typer.Option(help="A servicex.yaml; by default a local endpoint is started."),
]
DeploymentOption = Annotated[
    str | None, typer.Option(help="Name of a ServiceX deployment in your servicex.yaml.")
]
HistogramsArgument = Annotated[
    Path,
    typer.Argument(metavar="HISTOGRAMS", help="What `run` wrote, or as the AGC publishes them."),
]
InputsOption = Annotated[
    Path | None,
    typer.Option(
        "--inputs", help="Of published histograms: nanoaod_inputs.json, for event weights."
    ),
]
FilesPerProcessOption = Annotated[
    int | None, typer.Option(help="Of published histograms: the files of each process.")
]
SignalOption = Annotated[
    str, typer.Option("--signal", help="Process whose strength is the parameter of interest.")
]
BackendOption = Annotated[Literal["numpy", "jax"], typer.Option(help="Of pyhf.")]
OptimizerOption = Annotated[
    Literal["least_squares", "newton", "scipy", "minuit"] | None,
    typer.Option(help="By default least_squares with numpy, newton with jax."),
]


@app.command("fit")
def fit_command(
    histograms: HistogramsArgument,
    output: OutputOption,
    backend: BackendOption = "numpy",
    optimizer: OptimizerOption = None,
    inputs: InputsOption = None,
    files_per_process: FilesPerProcessOption = None,
    data: DataOption = "pseudodata",
    signal: SignalOption = "ttbar",
    workspace: Annotated[
        Path | None, typer.Option(help="Where the pyhf workspace goes, JSON.")
    ] = None,
    ranking: Annotated[bool, typer.Option(help="Rank parameters by their impact.")] = True,  # noqa: FBT002
) -> None:
    """Fit the cross section: a HistFactory model of the histograms, with pyhf."""
    from analysis.inference import results

    source = results.Source(
        histograms, inputs, files_per_process, data, signal, backend, optimizer
    )
    with interruptible("no result was written"):
        results.fit_command(source, output, workspace=workspace, rank=ranking)


@app.command("limit")
def limit_command(
    histograms: HistogramsArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the result goes.")
    ] = None,
    backend: BackendOption = "numpy",
    optimizer: OptimizerOption = None,
    inputs: InputsOption = None,
    files_per_process: FilesPerProcessOption = None,
    data: DataOption = "pseudodata",
    signal: SignalOption = "ttbar",
    level: Annotated[float, typer.Option(help="Of confidence.")] = 0.95,
) -> None:
    """Find the upper limit (CLs) and the discovery significance of a signal strength."""
    from analysis.inference import results

    source = results.Source(
        histograms, inputs, files_per_process, data, signal, backend, optimizer
    )
    with interruptible("no result was written"):
        results.limit_command(source, output, level=level)


@app.command("all")
def all_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of all that is made.")],
    events: Annotated[int, typer.Option(help="Events of each sample that is made.")] = 20_000,
    fileset: Annotated[
        Path | None,
        typer.Option(help="FILESET.json of your own; by default events are made."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the events that are made.")] = 1,
    delivery: Annotated[  # noqa: FBT002  (a flag)
        bool, typer.Option(help="Whether ServiceX delivers what is processed.")
    ] = True,
    config: ConfigOption = None,
    deployment: DeploymentOption = None,
    implementation: ImplementationOption = "columnar",
    executor: ExecutorOption = "futures",
    workers: WorkersOption = 2,
    chunksize: ChunksizeOption = DEFAULT_CHUNKSIZE,
    backend: BackendOption = "numpy",
) -> None:
    """Do the whole analysis, from files to cross section; what is done already is kept."""
    from analysis.files.output import check_folder
    from analysis.pipeline import advance
    from analysis.workflow import Whole

    check_folder(output)
    output.mkdir(parents=True, exist_ok=True)
    whole = Whole(
        folder=output,
        fileset=fileset,
        events=events,
        seed=seed,
        delivery=delivery,
        config=config,
        deployment=deployment,
        implementation=implementation,
        executor=executor,
        workers=workers,
        chunksize=chunksize,
        backend=backend,
    )
    table = Table("stage", title=str(output))
    for heading in ("wall s", "CPU s", "files", "MB"):
        table.add_column(heading, justify="right")
    table.add_column("")
    try:
        for done in advance(whole.stages(), output):
            table.add_row(
                done.name,
                f"{done.wall_seconds:.1f}",
                f"{done.cpu_seconds:.1f}",
                str(len(done.files)),
                f"{done.size / 1e6:.2f}",
                "kept" if done.kept else "",
            )
    finally:
        Console().print(table)


@app.command("deliver")
def deliver_command(
    fileset_path: Annotated[Path, typer.Argument(metavar="FILESET.json")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for what is delivered.")],
    query: Annotated[str, typer.Option(help="uproot-raw or func-adl.")] = "uproot-raw",
    data_format: Annotated[
        str, typer.Option("--format", help="parquet, root-ttree or root-rntuple.")
    ] = "parquet",
    config: ConfigOption = None,
    backend: Annotated[
        str | None, typer.Option(help="Name of a deployment in your servicex.yaml.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes of the local endpoint.")] = 2,
    timeout: Annotated[float, typer.Option(help="Seconds that all of it may take.")] = 3600,
    ignore_cache: Annotated[  # noqa: FBT002  (a flag)
        bool, typer.Option("--ignore-cache", help="Transform anew what was delivered before.")
    ] = False,
    mapping: MapOption = None,
) -> None:
    """Fetch what the ttbar analysis needs of a file set with ServiceX, for `run`."""
    from analysis.delivery.fileset import deliver_fileset

    with interruptible("what was delivered is kept, run it again to go on"):
        fileset = deliver_fileset(
            fileset_path,
            output,
            query=query,
            data_format=data_format,
            config=config,
            backend=backend,
            replacements=_replacements(mapping),
            timeout=timeout,
            workers=workers,
            ignore_cache=ignore_cache,
        )
    table = Table("sample", "files", "events", "delivered", title=str(output / "fileset.json"))
    for name, dataset in fileset.items():
        every, cut = (dataset["metadata"][key] for key in ("nevts", "cut_in_delivery"))
        table.add_row(name, str(len(dataset["files"])), f"{every:.0f}", f"{every - cut:.0f}")
    Console().print(table)


servicex = typer.Typer(help="A local ServiceX endpoint.", no_args_is_help=True)
app.add_typer(servicex, name="servicex")


@servicex.callback()
def _servicex() -> None:
    """A local ServiceX endpoint."""


@servicex.command()
def serve(
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A folder, or the beginning of URLs, whose files it may read."),
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="For its state: it goes on with what it finds there.")
    ] = Path(".servicex"),
    port: Annotated[
        int | None, typer.Option(help="To listen on, of 127.0.0.1; that of last time by default.")
    ] = None,
    workers: WorkersOption = 2,
    seconds: Annotated[int, typer.Option(help="That one file may take.")] = 600,
    memory: Annotated[int, typer.Option(help="MB that one file may take.")] = 4096,
    keep_days: Annotated[float, typer.Option(help="After which results are deleted.")] = 7,
    keep_gb: Annotated[
        int, typer.Option(help="Of results; beyond it fetched ones go, or nothing new is taken.")
    ] = 100,
    follow: Annotated[  # noqa: FBT002  (a flag)
        bool, typer.Option("--follow", help="Servers may lead on to any other, as redirectors do.")
    ] = False,
) -> None:
    """Serve until Ctrl-C; its servicex.yaml is written to the folder."""
    from analysis.servicex.serve import serve as serve_until_stopped

    with interruptible("the endpoint has stopped, start it again to go on with what is left"):
        serve_until_stopped(
            folder,
            allow=allow or [],
            port=port,
            workers=workers,
            seconds=seconds,
            megabytes=memory,
            keep_days=keep_days,
            keep_gigabytes=keep_gb,
            follow=follow,
        )


def _replacements(mapping: list[str] | None) -> dict[str, str]:
    replacements = {}
    for one in mapping or []:
        branch, equals, other = one.partition("=")
        if not (branch and equals and other):
            msg = f"--map takes BRANCH=OTHER, not {one!r}"
            raise InputError(msg)
        replacements[branch] = other
    return replacements


def _options(given: list[str] | None) -> dict[str, Any]:
    """Options of an executor; a value that is not JSON is text."""
    options = {}
    for one in given or []:
        key, equals, value = one.partition("=")
        if not (key and equals):
            msg = f"--option takes KEY=VALUE, not {one!r}"
            raise InputError(msg)
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def _json(text: str, option: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError as error:
        msg = f"{option} takes JSON, and {text!r} is none: {error}"
        raise InputError(msg) from None
    if not isinstance(read, dict):
        msg = f"{option} takes a JSON object, not {text!r}"
        raise InputError(msg)
    return read


def _only_without(option: str, given: Mapping[str, Any]) -> None:
    """Refuse options that would be ignored beside another."""
    if other := [name for name, value in given.items() if value is not None]:
        msg = f"{option} takes no {other[0]}, which is of the ttbar analysis: leave it out"
        raise InputError(msg)


def _only_with(option: str, given: Mapping[str, Any]) -> None:
    """Refuse options that would be ignored without another."""
    if other := [name for name, value in given.items() if value is not None]:
        msg = f"{other[0]} is of a processor of your own: give {option}, or leave it out"
        raise InputError(msg)


def _check_coffea(output: Path) -> None:
    """Whether a file's name says no other format than the one that `_save` writes."""
    if output.suffix in {".json", ".root", ".parquet", ".gz"}:
        msg = (
            f"{output}: what a processor of yours gives is written by coffea.util.save: "
            f"name it {output.stem.removesuffix('.uhi')}.coffea"
        )
        raise InputError(msg)


def _execute(
    job: Job,
    executor: str,
    workers: int,
    engine: list[str] | None,
    output: Path,
    *,
    traceback: bool,
) -> Done:
    """Run a job, and say what was left out of it and what was read ahead."""
    from analysis.runner.job import execute

    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, markup=False, highlight=False)

    try:
        with interruptible("nothing was written"):
            done = execute(job, executor, workers=workers, options=_options(engine))
    except InputError as error:
        if traceback and hasattr(error, "details"):
            say(error.details)
        if hasattr(error, "partial_output"):
            partial = output.with_name(f"{output.name}.partial.coffea")
            _save(error.partial_output, partial)
            say(f"what the other chunks gave was written to {partial}")
        raise
    for name, found in done.result.traced.items():
        say(f"read ahead for {name}: {', '.join(sorted(found.branches)) or 'nothing'}")
        if found.failure:
            say(f"what else is read of {name} was not found out: {found.failure}")
    for reason in done.left_out:
        say(f"left out: {reason}")
    return done


def _save(accumulated: Any, output: Path) -> None:
    """Write with coffea.util.save, so that the file is there whole or not at all."""
    import coffea.util

    from analysis.files.output import whole

    with whole(output) as part:
        coffea.util.save(accumulated, str(part))


def _contents(accumulated: Any) -> Table:
    """What a processor of the user gave, by name and kind."""
    table = Table("name", "kind", title="Result")
    items = accumulated.items() if isinstance(accumulated, dict) else [("result", accumulated)]
    for name, one in items:
        table.add_row(str(name), type(one).__name__)
    return table


def _report(table: Table, result: Result, output: Path) -> None:
    console = Console()
    console.print(table)
    again = f", {result.repeated} of them again after a failure" if result.repeated else ""
    console.print(
        f"{result.events} events in {result.chunks} chunks{again}, {result.wall_seconds:.2f} s; "
        f"written to {output}",
        soft_wrap=True,
        highlight=False,
    )


def main() -> None:
    """Run the command line; an InputError is one sentence and exit status 2."""
    call(app)


if __name__ == "__main__":
    main()
