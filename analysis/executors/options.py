"""Options of executors: a field of an executor's model is an option, with values and a default.

To add one, add a field to the model, with what it takes in its annotation and a sentence below it;
read it in the executor's `start`; and run ``python -m analysis.executors.options docs/executors.md``.
The module has more than 450 lines because the options of all executors stand side by side, each
with its text.
"""

from __future__ import annotations

import json
import os
import reprlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self

import pydantic
from pydantic import Field

from analysis.allocator import ALLOCATOR, in_force
from analysis.errors import InputError
from analysis.executors._option_types import (
    Compression,
    DaskAddress,
    DaskCluster,
    DaskMemory,
    DaskPlugins,
    DaskSecurity,
    FanIn,
    Flag,
    Names,
    Number,
    NumberOrNone,
    Pool,
    Seconds,
    SparkMaster,
    SparkMemory,
    Variables,
    instance,
)
from analysis.executors.worker import HASH_SEED

WORDS: Final = {"true": True, "false": False, "none": None, "null": None}
"""What text means, in any case: `--option tuned=False` is not JSON, and not meant as text."""

WRITTEN: Final = {"True": "true", "False": "false", "None": "null", "()": "none", "{}": "none"}
"""Defaults as users write them."""

OF_COFFEA: Final = {
    **dict.fromkeys(
        ("merging", "mergepool", "treereduction"),
        "workers merge what they process, and fan_in says of how many results at a time",
    ),
    "use_dataframes": "let the processor return an accumulator, such as of columns",
    "tailtimeout": "it does nothing in coffea either",
}
"""Options of coffea's executors that these do not have, and what there is instead."""

BATCHED: Final = (
    *("retries", "compression", "batch", "fan_in"),
    *("chunk_timeout", "recoverable", "status"),
)
"""Options that are fields of `batches.BatchedExecutor`."""


class Options(pydantic.BaseModel):
    """Options of every executor."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
    )

    name: ClassVar[str]
    """Of the executor."""

    install: ClassVar[str] = ""
    """What the executor needs and how to install it, for who has it not."""

    modules: Names = ()
    """Modules or packages that workers cannot import; they are sent with the processor."""

    retries: Annotated[int, Field(ge=0), "a whole number of at least 0"] = 3
    """How often a chunk that failed is tried again, and one whose worker died."""

    status: Flag = True
    """Whether to show a progress bar, on a terminal."""

    chunk_timeout: Annotated[float | None, Field(gt=0), "seconds, more than 0, or null"] = None
    """Longest time for a chunk, with all attempts at it: one that takes longer ends the run."""

    recoverable: Flag = False
    """Whether a run that fails processes all chunks that it can; their result is the exception's
    `partial_output`."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Raise TypeError for an option without its texts."""
        for option, field in cls.model_fields.items():
            if not (field.description and any(isinstance(text, str) for text in field.metadata)):
                msg = (
                    f"{cls.__name__}.{option}: say what it takes in its annotation, such as "
                    'Annotated[int, Field(ge=0), "a whole number of at least 0"], and what it '
                    "does in a sentence below it"
                )
                raise TypeError(msg)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _words(cls, values: Any) -> Any:
        return {
            key: WORDS.get(value.lower(), value) if isinstance(value, str) else value
            for key, value in dict(values).items()
        }

    @pydantic.model_validator(mode="after")
    def _no_option_without_effect(self) -> Self:
        """Raise InputError for an option that does nothing."""
        for option, reason in self.without_effect().items():
            if option in self.model_fields_set:
                msg = f"the option {option} of the {self.name} executor does nothing {reason}"
                raise InputError(msg)
        return self

    def without_effect(self) -> dict[str, str]:
        """Options that do nothing beside the others, and a clause that says why."""
        return {}

    @property
    def hash_seed(self) -> str | None:
        """PYTHONHASHSEED of the processes that run the processor; None if it is not known."""
        return os.environ.get("PYTHONHASHSEED", "random")

    @property
    def allocator(self) -> bool | None:
        """Whether these processes were started with ALLOCATOR; None if it is not known."""
        return in_force()

    def keywords(self) -> dict[str, Any]:
        """Keywords of `open_executor` for what was given."""
        return {name: getattr(self, name) for name in self.model_fields_set}

    def batched(self, **defaults: Any) -> dict[str, Any]:
        """Fields of `BatchedExecutor`, with other defaults for what was not given."""
        given = {name: getattr(self, name) for name in BATCHED if hasattr(self, name)}
        missing = defaults.keys() - self.model_fields_set
        return {**given, **{name: defaults[name] for name in missing}}

    @classmethod
    def allowed(cls, option: str) -> str:
        """What a value may be, in words."""
        metadata = cls.model_fields[option].metadata
        return next(entry for entry in metadata if isinstance(entry, str))


class IterativeOptions(Options):
    """Options of the iterative executor."""

    name = "iterative"


class ComputeOptions(Options):
    """Options of coffea.compute, whose workers are threads of this process."""

    name = "compute"
    install = (
        "a coffea that has coffea.compute, which no release has: "
        "`coffea-perf scale --compute compute@CLONE` takes it of the branch of a clone"
    )

    fan_in: FanIn = 4
    """Results that a thread merges in one task."""


class EngineOptions(Options):
    """Options of every executor with workers."""

    of_user: ClassVar[tuple[str, ...]] = ()
    """Options that name workers which are not started here."""

    stock: ClassVar = frozenset(
        {"modules", "retries", "status", "compression", "environment", "tuned"}
    )
    """Options that do something with tuned=false too, for coffea's own executor."""

    compression: Compression = "auto"
    """Of results on their way: `auto` where a sample shrinks to half, null not at all, `plain` not
    even pickled first (the default for threads). null by default on a Dask cluster of this
    machine."""

    batch: NumberOrNone = None
    """Most chunks in a task; 1 makes a task of each."""

    fan_in: FanIn = 16
    """Results that are merged in one task on workers, where the engine can (Dask and Spark)."""

    environment: Variables = Field(default_factory=dict)
    """Environment variables of worker processes."""

    tuned: Flag = True
    """false for coffea's own executor with its defaults."""

    def without_effect(self) -> dict[str, str]:
        """Those that coffea's own executor, or threads, cannot heed."""
        useless = super().without_effect()
        if getattr(self, "pool", None) == "threads" or not getattr(self, "processes", True):
            useless["environment"] = "with threads, which have the environment of this process"
        if not self.tuned:
            reason = "with tuned=false: coffea's own executor does not have it"
            ours = (name for name in type(self).model_fields if name not in self.stock)
            useless |= dict.fromkeys(ours, reason)
            if isinstance(self.compression, str):
                useless["compression"] = (
                    "with tuned=false unless it is a number or null: coffea has no other"
                )
        return useless

    @property
    def _in_this_process(self) -> bool:
        return getattr(self, "pool", None) == "threads" or not getattr(self, "processes", True)

    @property
    def _of_others(self) -> bool:
        return not self.tuned or any(getattr(self, name) is not None for name in self.of_user)

    @property
    def hash_seed(self) -> str | None:
        """That of workers which are started here."""
        if self._in_this_process:
            return super().hash_seed
        if self._of_others:
            return None
        return self.environment.get("PYTHONHASHSEED", HASH_SEED) or "random"

    @property
    def allocator(self) -> bool | None:
        """That of workers which are started here."""
        if self._in_this_process:
            return super().allocator
        if self._of_others:
            return None
        return all(self.environment.get(*one) == one[1] for one in ALLOCATOR.items())

    def of_coffea(self) -> dict[str, Any]:
        """Fields of coffea's own executor: what was given."""
        return {
            name: getattr(self, name)
            for name in ("retries", "compression", "status", "recoverable")
            if name in self.model_fields_set
        }


class FuturesOptions(EngineOptions):
    """Options of the futures executor."""

    name = "futures"
    stock = EngineOptions.stock - {"environment"} | {"recoverable"}

    pool: Pool = "processes"
    """Threads share this process, which spares starting and sending; Python's lock then lets one of
    them at a time do anything but decompressing and compiled loops."""


class DaskOptions(EngineOptions):
    """Options of the Dask executor."""

    name = "dask"
    install = "Dask: pip install 'coffea[dask]'"
    stock = EngineOptions.stock | {
        *("threads", "memory_limit", "address", "cluster", "security", "patience"),
        *("plugins", "priority", "affinity"),
    }
    of_user = ("address", "cluster")
    of_own: ClassVar = ("threads", "memory_limit", "processes", "dashboard", "config")
    """Options of a cluster that is started here."""

    threads: Number = 1
    """Threads of each worker."""

    memory_limit: DaskMemory = "auto"
    """Of each worker: one that takes more is ended and started again. `auto` is an equal share of the
    machine's memory, null no limit."""

    processes: Flag = True
    """false for workers that are threads of this process."""

    dashboard: Annotated[bool | str, "true, false or an address"] = False
    """Whether to serve Dask's dashboard, at a free port (`executor.client.dashboard_link`) or at
    which address."""

    address: DaskAddress = None
    """Of a scheduler that runs already: nothing but a client is then started and ended."""

    cluster: DaskCluster = None
    """The same for a cluster object."""

    security: DaskSecurity = None
    """Certificates for an address that begins with tls://; by default those of Dask's
    configuration."""

    patience: Seconds = 60.0
    """To wait for a worker of such a cluster when there is none; and for the scheduler, but no more
    than 10."""

    plugins: DaskPlugins = ()
    """Of workers, registered for as long as the executor is open."""

    priority: Annotated[int, "a whole number"] = 0
    """Of tasks, among those of others on the same cluster."""

    affinity: Flag = False
    """Whether a chunk goes to the same worker in every run, for what that has cached."""

    silence: Seconds = 60.0
    """Time that the scheduler may take to answer whether it is there."""

    config: Annotated[Mapping[str, Any], "names and values"] = Field(default_factory=dict)
    """Dask's configuration of a cluster that is started here."""

    def without_effect(self) -> dict[str, str]:
        """Also those of a cluster that is not started here."""
        useless = super().without_effect()
        if self.address is not None or self.cluster is not None:
            reason = "on a cluster that runs already: leave it out"
            useless |= dict.fromkeys((*self.of_own, "environment"), reason)
        if self.cluster is not None:
            useless |= dict.fromkeys(("address", "security"), "beside cluster: give one of them")
        return useless


class ParslOptions(EngineOptions):
    """Options of the Parsl executor."""

    name = "parsl"
    install = "Parsl: pip install 'coffea[parsl]'"
    stock = EngineOptions.stock | {
        *("recoverable", "pool", "config", "address", "memory", "encrypted", "patience"),
    }
    of_user = ("config",)

    pool: Pool = "processes"
    """As of futures."""

    config: Annotated[Any, instance("parsl", "Config"), "a parsl.Config, in a program"] = None
    """Parsl's, with any provider and executor. What it starts is ended here; Parsl cannot use one
    twice. By default a kernel that is loaded already is used and left as it is, or one of this
    machine is started."""

    address: Annotated[str, Field(pattern=r"^\S+$"), "a host or its number"] = "127.0.0.1"
    """Where workers connect to."""

    memory: Annotated[float | None, Field(gt=0), "GB, more than 0, or null"] = None
    """Memory that each worker must find free when it starts. Parsl does not limit what it takes."""

    encrypted: Flag = True
    """Whether messages are encrypted, which also keeps other users from posing as workers."""

    patience: Seconds = 120.0
    """In which workers have to start."""

    def without_effect(self) -> dict[str, str]:
        """Also those that a config says."""
        useless = super().without_effect()
        if self.config is not None:
            reason = "beside config, which says it: leave it out"
            useless |= dict.fromkeys(("pool", "address", "memory", "encrypted"), reason)
        return useless


class SparkOptions(EngineOptions):
    """Options of the Spark executor."""

    name = "spark"
    install = "Spark: pip install 'pyspark>=4'"
    stock = EngineOptions.stock | {"master", "memory", "configuration", "timeout"}

    fan_in: FanIn = 128
    """Results that are merged in one task on workers, where there are more."""

    master: SparkMaster = None
    """By default workers are processes of this machine. Elsewhere they must find Python at the same
    path (or at PYSPARK_PYTHON), and this package."""

    memory: SparkMemory = None
    """Of the Java processes. Python workers are limited by `spark.executor.pyspark.memory` in the
    configuration, which is of all workers of an executor together."""

    configuration: Annotated[
        Mapping[str, str], 'names and text, such as {"spark.ui.enabled": "true"}'
    ] = Field(default_factory=dict)
    """Spark's own settings, which override ours."""

    partitions: NumberOrNone = None
    """Number of tasks, all of about the same size; by default they are large first and small
    last."""

    timeout: Seconds = 120.0
    """To wait for Spark and its first worker."""

    def without_effect(self) -> dict[str, str]:
        """Also `batch` beside `partitions`."""
        useless = super().without_effect()
        if self.partitions is not None:
            useless["batch"] = "beside partitions: give one of them"
        return useless


class TaskvineOptions(EngineOptions):
    """Options of the TaskVine executor."""

    name = "taskvine"
    install = "TaskVine, which pip does not have: conda install -c conda-forge ndcctools"
    stock = EngineOptions.stock | {"patience"}

    patience: Seconds = 60.0
    """In which workers have to start."""


MODELS: Final[dict[str, type[Options]]] = {
    model.name: model
    for model in (
        IterativeOptions,
        FuturesOptions,
        DaskOptions,
        ParslOptions,
        SparkOptions,
        TaskvineOptions,
        ComputeOptions,
    )
}
"""Models by the name of the executor."""


def parse_options(name: str, options: Mapping[str, Any], *, workers: int = 1) -> Options:
    """Check the options of an executor, `modules` among them; nothing is imported or started.

    Raises InputError for an executor, option, value or number of workers that it does not know.
    """
    if name not in MODELS:
        msg = f"there is no executor {name!r}: use one of {', '.join(MODELS)}"
        raise InputError(msg)
    if type(workers) is not int or workers < 1:
        msg = f"an executor cannot have {workers!r} workers: ask for at least one"
        raise InputError(msg)
    if name == "iterative" and workers != 1:
        msg = (
            f"the iterative executor has one worker, not {workers}: "
            "leave --workers out or use --executor futures"
        )
        raise InputError(msg)
    model = MODELS[name]
    try:
        return model.model_validate(dict(options))
    except pydantic.ValidationError as error:
        wrong = error.errors(include_url=False)
        unknown = [one["loc"][0] for one in wrong if one["type"] == "extra_forbidden"]
        option = str((unknown or [wrong[0]["loc"][0]])[0])
        if unknown and option in OF_COFFEA:
            msg = f"the {name} executor has no option {option}: {OF_COFFEA[option]}"
        elif option == "workers":
            msg = "workers is no option of an executor: give --workers"
        elif unknown:
            msg = f"the {name} executor has no option {option!r}: it has {', '.join(sorted(model.model_fields))}"
        else:
            value = " ".join(reprlib.repr(options[option]).split())
            msg = (
                f"the option {option} of the {name} executor cannot be {value}: "
                f"it takes {model.allowed(option)}"
            )
        raise InputError(msg) from None


def parse_pair(text: str) -> tuple[str, Any]:
    """Name and value of an option ``KEY=VALUE``; a value that is not JSON is text."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        msg = f"--option takes KEY=VALUE, not {text!r}"
        raise InputError(msg)
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def table() -> str:
    """Table of all options, Markdown."""
    rows = ["| option | of | takes | by default | |", "|---|---|---|---|---|"]
    holders: list[tuple[str, type[Options]]] = [
        ("all", Options),
        ("all but iterative", EngineOptions),
        *MODELS.items(),
    ]
    for of, holder in holders:
        for option in holder.__annotations__:
            if (field := holder.model_fields.get(option)) is None:
                continue
            default = field.get_default(call_default_factory=True)
            shown = str(WRITTEN.get(str(default), default))
            text = " ".join((field.description or "").split())
            rows.append(f"| `{option}` | {of} | {holder.allowed(option)} | {shown} | {text} |")
    return "\n".join(rows) + "\n"


def write_table(page: Path) -> None:
    """Replace the table of options in a page."""
    before, head, after = page.read_text().partition(table().partition("\n")[0])
    page.write_text(before + table() + after[after.index("\n\n") + 1 :] if head else before)


if __name__ == "__main__":
    for _page in sys.argv[1:]:
        write_table(Path(_page))
    if not sys.argv[1:]:
        sys.stdout.write(table())
