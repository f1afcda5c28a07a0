"""Commands that publish what was measured and look for changes in it: ``publish``, ``report``, ``watch``."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from analysis.errors import InputError
from analysis.files.output import check_folder, whole
from perf.cli import _console
from perf.cli._options import FAILED

# asv takes seconds to import.
# ruff: noqa: PLC0415

RootOption = Annotated[
    Path | None,
    typer.Option(
        "--root",
        help="Project whose records are read. By default the working folder, with the history that "
        "came with the suite.",
    ),
]
MoreOption = Annotated[
    list[Path] | None,
    typer.Option("--records", help="File of records to add to the project's (repeatable)."),
]


def publish(
    context: typer.Context,
    html: Annotated[
        Path | None, typer.Option(help="Folder of the pages; replaced. Default: reports/site")
    ] = None,
    root: RootOption = None,
    more: MoreOption = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the pages on this machine.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of --serve; 0 for any.")] = 8765,
    asv: Annotated[
        bool, typer.Option(help="Make asv's own pages as well, which takes as long as all others.")
    ] = True,
) -> None:
    """Publish all that was measured as a site that needs no network."""
    from perf.publish import site
    from perf.publish.causes import causes
    from perf.publish.commands import of_group
    from perf.records import store
    from perf.records.void import voids

    folder, console = html or (root or Path()) / site.HTML, _console.console()
    with console.status("collecting records"):
        records = store.collect(root, more or ())
    with console.status("publishing"):
        reports = store.comparisons(root, more or ())
        commands = of_group("python -m perf", context.find_root().command)
        done = site.publish(
            records, folder, voids(root), reports, [*commands], causes(root), raw=asv
        )
    _console.say(
        f"{done.benchmarks} benchmarks of {done.points} releases and commits of coffea are in "
        f"{folder}: python -m perf publish --serve shows them",
        on=console,
    )
    if done.left_out:
        _console.say(
            f"{done.left_out} records are left out: release date of the measured coffea unknown",
            on=console,
        )
    if serve:
        with site.served(folder, port) as (server, address):
            _console.say(f"{address} until Ctrl-C", on=console)
            with suppress(KeyboardInterrupt):
                server.serve_forever()


def report(
    output: Annotated[
        Path | None, typer.Option(help="Folder to write to. Default: reports")
    ] = None,
    root: RootOption = None,
) -> None:
    """Write the report and its slides, of the kept records alone.

    The same records give the same texts: commit them with perf/kept.
    """
    from perf.publish.causes import causes
    from perf.publish.page import Material
    from perf.publish.pages import written
    from perf.records import store
    from perf.records.void import voids

    folder, console = output or (root or Path()) / "reports", _console.console()
    check_folder(folder)
    with console.status("writing"):
        records = store.collect(root, kept_only=True)
        material = Material.of(
            records, voids(root), store.comparisons(root, kept_only=True), causes=causes(root)
        )
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in written.render(material).items():
            with whole(folder / name) as part:
                part.write_text(text)
            _console.say(str(folder / name), on=console)


def watch(
    root: RootOption = None,
    more: MoreOption = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Earliest date of a release or commit."),
    ] = None,
    least: Annotated[
        float, typer.Option(min=0, help="Smallest change that is reported, as a fraction.")
    ] = 0.05,
    only: Annotated[
        list[str] | None, typer.Option(help="Name or pattern of benchmarks (repeatable).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--json", help="Write the changes to this file as well.")
    ] = None,
) -> None:
    """Report where the history became slower or faster.

    Exit status 1 if anything is slower.
    """
    from perf.publish import change_points
    from perf.publish.series import series
    from perf.records import store
    from perf.records.void import voids

    console = _console.console()
    with console.status("looking for change points"):
        benchmarks = series(store.collect(root, more or ()), voids(root))
        chosen = [
            benchmark
            for name, benchmark in benchmarks.items()
            if not only or any(fnmatchcase(name, pattern) for pattern in only)
        ]
        if not chosen:
            msg = "no benchmark to watch: measure a history, or name others with --only"
            raise InputError(msg)
        changes = change_points.changes(chosen, least=least, since=since.date() if since else None)
    if output is not None:
        output.write_text(json.dumps([change.as_json() for change in changes], indent=1))
    if changes:
        console.print(change_points.table(changes))
    else:
        console.print(f"no change of {least:.0%} or more in {len(chosen)} benchmarks")
    if any(change.worse for change in changes):
        raise typer.Exit(FAILED)
