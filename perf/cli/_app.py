"""The commands of ``python -m perf``, in the order of its help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from perf.cli import (
    advise,
    claims,
    compare,
    history,
    hosts,
    limits,
    peers,
    publish,
    records,
    scale,
    scheduler_load,
)

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "records": records.records,
    "keep": records.keep,
    "picture": records.picture,
    "scale": scale.scale,
    "advise": advise.advise,
    "scheduler-load": scheduler_load.scheduler_load,
    "hosts": hosts.hosts,
    "limits": limits.limits,
    "claims": claims.claims,
    "ablation": claims.ablation,
    "peers": peers.peers,
    "compare": compare.compare,
    "bisect": compare.bisect,
    "compare-trials": compare.compare_trials,
    "publish": publish.publish,
    "report": publish.report,
    "watch": publish.watch,
}

app = typer.Typer(
    help="Measure the analysis, compare versions of coffea and show the results.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(history.app, name="history")
