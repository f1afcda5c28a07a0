"""The commands of ``python -m analysis``, in the order of its help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import typer

from analysis.cli import data, inference, run, workflow

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "adl": run.adl,
    "run": run.run,
    "plot": inference.plot,
    "make-data": data.make_data,
    "fit": inference.fit,
    "limit": inference.limit,
    "all": workflow.whole,
    "deliver": data.deliver,
}

app = typer.Typer(
    help="One CMS analysis as proven kernels, run with coffea.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(data.servicex, name="servicex")
