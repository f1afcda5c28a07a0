"""Options of executors: what each takes, by what default, and one sentence on what is wrong.

``python -m analysis.executors.options`` prints the table of docs/executors.md.
"""

from __future__ import annotations

import os
import reprlib
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import pydantic
from pydantic import BeforeValidator, Field

from analysis.errors import InputError
from analysis.executors.worker import HASH_SEED

WORDS: Final = {"true": True, "false": False, "none": None, "null": None}
"""What text means, in any case: `--option tuned=False` is not JSON, and still no text."""

WRITTEN: Final = {"True": "true", "False": "false", "None": "null", "()": "none", "{}": "none"}
"""Defaults as users write them."""

LEAST_MEMORY: Final = 500_000_000
"""Bytes; a worker that has imported the analysis holds 300 MB before its first chunk."""

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


def _instance(package: str, name: str) -> BeforeValidator:
    """A value is an instance of a class, which need not be installed as long as it is not used."""

    def check(value: Any) -> Any:
        known = getattr(sys.modules.get(package), name, None)
        if value is not None and (known is None or not isinstance(value, known)):
            raise ValueError
        return value

    return BeforeValidator(check)


def _security(value: Any) -> Any:
    if isinstance(value, Mapping):
        if all(isinstance(one, str) for pair in value.items() for one in pair):
            return value
        raise ValueError
    known = getattr(sys.modules.get("distributed"), "Security", ())
    if value is not None and not isinstance(value, known):
        raise ValueError
    return value


def _cluster(value: Any) -> Any:
    if value is not None and not hasattr(value, "scheduler_address"):
        raise ValueError
    return value


def _memory(value: Any) -> Any:
    if value is None or value == "auto":
        return value
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError  # noqa: TRY004  (of which pydantic takes note)
    from dask.utils import parse_bytes  # noqa: PLC0415

    limit: int = parse_bytes(value)
    if limit < LEAST_MEMORY:
        raise ValueError
    return limit


def _one(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Flag = Annotated[bool, "true or false"]
Number = Annotated[int, Field(ge=1), "a whole number of at least 1"]
Seconds = Annotated[float, Field(gt=0), "seconds, more than 0"]
Pool = Annotated[Literal["processes", "threads"], "processes or threads"]
Size = Annotated[
    str | None,
    Field(pattern=r"(?i)^\d+[kmgt]?$"),
    "a number and k, m, g or t, such as 2g, or null",
]
Variables = Annotated[
    Mapping[
        Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")],
        Annotated[str, Field(pattern=r"^[^\x00]*$")] | None,
    ],
    'names and text, such as {"OMP_NUM_THREADS": "1"}; null leaves one out',
]


class Options(pydantic.BaseModel):
    """What every executor can be told."""

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

    modules: Annotated[
        Sequence[str], BeforeValidator(_one), 'names of modules, such as ["helpers"]'
    ] = ()
    """Modules or packages that workers cannot import, sent with the processor."""

    retries: Annotated[int, Field(ge=0), "a whole number of at least 0"] = 3
    """How often a chunk that failed is tried again, and one whose worker died."""

    status: Flag = True
    """Whether to show progress, on a terminal."""

    chunk_timeout: Annotated[float | None, Field(gt=0), "seconds, more than 0, or null"] = None
    """For a chunk, with all attempts at it: one that takes longer ends the run."""

    recoverable: Flag = False
    """Whether a run that fails processes all chunks that it can; their result is the exception's
    `partial_output`."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _words(cls, values: Any) -> Any:
        return {
            key: WORDS.get(value.lower(), value) if isinstance(value, str) else value
            for key, value in dict(values).items()
        }

    @pydantic.model_validator(mode="after")
    def _fit(self) -> Self:
        """Whether the options fit together.

        Raises
        ------
        InputError
            If not.
        """
        for ours, reason in self.idle().items():
            if ours in self.model_fields_set:
                msg = f"the option {ours} of the {self.name} executor does nothing {reason}"
                raise InputError(msg)
        return self

    def idle(self) -> dict[str, str]:
        """Options that do nothing beside the others, and a clause that says why."""
        return {}

    @property
    def hash_seed(self) -> str | None:
        """PYTHONHASHSEED of the processes that process, by which sets are ordered; None if not known."""
        return os.environ.get("PYTHONHASHSEED", "random")

    def keywords(self, modules: Sequence[str] = ()) -> dict[str, Any]:
        """Keywords of `open_executor` for what was given, with more modules."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return {**given, "modules": (*modules, *self.modules)}

    def batched(self, **otherwise: Any) -> dict[str, Any]:
        """Fields of `BatchedExecutor`; with other defaults for what was not given."""
        given = {name: getattr(self, name) for name in BATCHED if hasattr(self, name)}
        missing = otherwise.keys() - self.model_fields_set
        return {**given, **{name: otherwise[name] for name in missing}}

    @classmethod
    def allowed(cls, option: str) -> str:
        """What a value may be, in words."""
        metadata = cls.model_fields[option].metadata
        return next(one for one in metadata if isinstance(one, str))


class IterativeOptions(Options):
    """Of the iterative executor."""

    name = "iterative"


class EngineOptions(Options):
    """What every executor with workers can be told."""

    of_user: ClassVar[tuple[str, ...]] = ()
    """Options that name workers which are not started here."""

    ours: ClassVar = frozenset({"batch", "fan_in", "chunk_timeout", "recoverable"})
    """Options that coffea's own executor does not have."""

    compression: Annotated[
        Annotated[int, Field(ge=0, le=16)] | Literal["auto", "plain"] | None,
        "a level of lz4 (0 to 16), auto, plain or null",
    ] = "auto"
    """Of results on their way: `auto` where a sample shrinks to half, null not at all, `plain` not
    even pickled first (the default for threads). null by default on a Dask cluster of this
    machine."""

    batch: Annotated[int | None, Field(ge=1), "a whole number of at least 1, or null"] = None
    """Most chunks in a task; 1 makes a task of each."""

    fan_in: Annotated[int, Field(ge=2), "a whole number of at least 2"] = 16
    """Results that are merged in one task on workers, where the engine can (Dask and Spark)."""

    environment: Variables = Field(default_factory=dict)
    """Environment variables of worker processes."""

    tuned: Flag = True
    """false for coffea's own executor as it comes."""

    def idle(self) -> dict[str, str]:
        """As of `Options.idle`."""
        found = super().idle()
        if getattr(self, "pool", None) == "threads":
            found["environment"] = "with threads, which have the environment of this process"
        if not self.tuned:
            reason = "with tuned=false: coffea's own executor does not have it"
            found |= dict.fromkeys(self.ours, reason)
            if isinstance(self.compression, str):
                found["compression"] = (
                    "with tuned=false unless it is a number or null: coffea has no other"
                )
        return found

    @property
    def hash_seed(self) -> str | None:
        """As of `Options`."""
        if getattr(self, "pool", None) == "threads" or not getattr(self, "processes", True):
            return super().hash_seed
        if not self.tuned or any(getattr(self, name) is not None for name in self.of_user):
            return None
        return self.environment.get("PYTHONHASHSEED", HASH_SEED) or "random"

    def of_coffea(self) -> dict[str, Any]:
        """Fields of coffea's own executor: what was given."""
        return {
            name: getattr(self, name)
            for name in ("retries", "compression", "status", "recoverable")
            if name in self.model_fields_set
        }


class FuturesOptions(EngineOptions):
    """Of the futures executor."""

    name = "futures"
    ours = EngineOptions.ours - {"recoverable"} | {"pool", "environment"}

    pool: Pool = "processes"
    """Threads share this process, which spares starting and sending; Python's lock then lets one of
    them at a time do anything but decompressing and compiled loops."""


class DaskOptions(EngineOptions):
    """Of the Dask executor."""

    name = "dask"
    ours = EngineOptions.ours | {"processes", "dashboard", "silence", "config"}
    of_user = ("address", "cluster")
    of_own: ClassVar = ("threads", "memory_limit", "processes", "dashboard", "config")
    """Options of a cluster that is started here."""

    threads: Number = 1
    """Threads of each worker."""

    memory_limit: Annotated[
        str | int | None,
        BeforeValidator(_memory),
        f"bytes, or text such as 2GB, at least {LEAST_MEMORY // 10**6} MB; auto or null",
    ] = "auto"
    """Of each worker: one that takes more is ended and started again. `auto` is an equal share of the
    machine's memory, null no limit."""

    processes: Flag = True
    """false for workers that are threads of this process."""

    dashboard: Annotated[bool | str, "true, false or an address"] = False
    """Whether to serve Dask's dashboard, at a free port (`executor.client.dashboard_link`) or at
    which address."""

    address: Annotated[str | None, Field(min_length=1), "an address such as tcp://HOST:8786"] = (
        None
    )
    """Of a scheduler that runs already: nothing but a client is then started and ended."""

    cluster: Annotated[
        Any, BeforeValidator(_cluster), "a cluster as of dask-jobqueue, in a program"
    ] = None
    """The same for a cluster object."""

    security: Annotated[
        Any,
        BeforeValidator(_security),
        'names and files, such as {"tls_ca_file": "ca.pem", "tls_client_cert": "me.pem", '
        '"tls_client_key": "me.pem"}, or a distributed.Security',
    ] = None
    """Certificates for an address that begins with tls://; by default those of Dask's
    configuration."""

    patience: Seconds = 60.0
    """To wait for a worker of such a cluster when there is none; and for the scheduler, but no more
    than 10."""

    plugins: Annotated[
        Sequence[Annotated[Any, _instance("distributed", "WorkerPlugin")]],
        "a list of WorkerPlugin, in a program",
    ] = ()
    """Of workers, registered for as long as the executor is open."""

    priority: Annotated[int, "a whole number"] = 0
    """Of tasks, among those of others on the same cluster."""

    affinity: Flag = False
    """Whether a chunk goes to the same worker in every run, for what that has cached."""

    silence: Seconds = 60.0
    """That the scheduler may take to answer whether it is there."""

    config: Annotated[Mapping[str, Any], "names and values"] = Field(default_factory=dict)
    """Dask's configuration of a cluster that is started here."""

    def idle(self) -> dict[str, str]:
        """As of `Options.idle`."""
        found = super().idle()
        if self.address is not None or self.cluster is not None:
            reason = "on a cluster that runs already: leave it out"
            found |= dict.fromkeys((*self.of_own, "environment"), reason)
        if not self.processes:
            found["environment"] = "with threads, which have the environment of this process"
        if self.cluster is not None:
            found |= dict.fromkeys(("address", "security"), "beside cluster: give one of them")
        return found


class ParslOptions(EngineOptions):
    """Of the Parsl executor."""

    name = "parsl"
    of_user = ("config",)
    ours = EngineOptions.ours - {"recoverable"}

    pool: Pool = "processes"
    """As of futures."""

    config: Annotated[Any, _instance("parsl", "Config"), "a parsl.Config, in a program"] = None
    """Parsl's, with any provider and executor. What it starts is ended here; Parsl cannot use one
    twice. By default a kernel that is loaded already is used and left as it is, or one of this
    machine is started."""

    address: Annotated[str, Field(pattern=r"^\S+$"), "a host or its number"] = "127.0.0.1"
    """Where workers connect to."""

    memory: Annotated[float | None, Field(gt=0), "GB, more than 0, or null"] = None
    """That each worker has to find free when it starts. Parsl does not limit what it takes."""

    encrypted: Flag = True
    """Whether what is sent is, which also keeps other users from posing as workers."""

    patience: Seconds = 120.0
    """In which workers have to start."""

    def idle(self) -> dict[str, str]:
        """As of `Options.idle`."""
        found = super().idle()
        if self.config is not None:
            reason = "beside config, which says it: leave it out"
            found |= dict.fromkeys(("pool", "address", "memory", "encrypted"), reason)
        return found


class SparkOptions(EngineOptions):
    """Of the Spark executor."""

    name = "spark"
    ours = EngineOptions.ours | {"partitions"}

    fan_in: Annotated[int, Field(ge=2), "a whole number of at least 2"] = 128
    """Results that are merged in one task on workers, where there are more."""

    master: Annotated[
        str | None, Field(min_length=1), "a URL such as spark://HOST:7077, or yarn"
    ] = None
    """By default workers are processes of this machine. Elsewhere they must find Python at the same
    path (or at PYSPARK_PYTHON), and this package."""

    memory: Size = None
    """Of the Java processes. Python workers are limited by `spark.executor.pyspark.memory` in the
    configuration, which is of all workers of an executor together."""

    configuration: Annotated[
        Mapping[str, str], 'names and text, such as {"spark.ui.enabled": "true"}'
    ] = Field(default_factory=dict)
    """Spark's own settings, before ours."""

    partitions: Annotated[int | None, Field(ge=1), "a whole number of at least 1, or null"] = None
    """Number of tasks, all of about the same size; by default they are large first and small
    last."""

    timeout: Seconds = 120.0
    """To wait for Spark and its first worker."""

    def idle(self) -> dict[str, str]:
        """As of `Options.idle`."""
        found = super().idle()
        if self.partitions is not None:
            found["batch"] = "beside partitions: give one of them"
        return found


class TaskvineOptions(EngineOptions):
    """Of the TaskVine executor."""

    name = "taskvine"

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
    )
}
"""Models by the name of the executor."""


def parse_options(name: str, options: Mapping[str, Any], *, workers: int = 1) -> Options:
    """Check the options of an executor; nothing is imported or started for it.

    Parameters
    ----------
    name
        Of the executor.
    options
        Values by name, as of `open_executor`; ``modules`` is one of them.
    workers
        How many are going to be asked for.

    Raises
    ------
    InputError
        If there is no such executor or option, if a value is not allowed, or if it cannot have so
        many workers.
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
            msg = f"the {name} executor has no option {option!r}: it has {', '.join(options_of(name))}"
        else:
            value = " ".join(reprlib.repr(options[option]).split())
            msg = (
                f"the option {option} of the {name} executor cannot be {value}: "
                f"it takes {model.allowed(option)}"
            )
        raise InputError(msg) from None


def options_of(name: str) -> list[str]:
    """Names of the options of an executor."""
    return sorted(MODELS[name].model_fields)


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


if __name__ == "__main__":
    sys.stdout.write(table())
