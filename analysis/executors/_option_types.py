"""What values the options of executors may have, each with the words that say so."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

LEAST_MEMORY: Final = 500_000_000
"""Bytes; a worker that has imported the analysis holds 300 MB before its first chunk."""


def instance(package: str, name: str) -> BeforeValidator:
    """A value is an instance of a class of a package, which is not imported for it."""

    def check(value: Any) -> Any:
        known = getattr(sys.modules.get(package), name, None)
        if value is not None and (known is None or not isinstance(value, known)):
            raise ValueError
        return value

    return BeforeValidator(check)


def _security(value: Any) -> Any:
    if not isinstance(value, Mapping):
        known = getattr(sys.modules.get("distributed"), "Security", ())
        if value is not None and not isinstance(value, known):
            raise ValueError
    elif not all(isinstance(part, str) for pair in value.items() for part in pair):
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
        raise ValueError  # noqa: TRY004  (which pydantic reports)
    from dask.utils import parse_bytes  # noqa: PLC0415

    limit: int = parse_bytes(value)
    if limit < LEAST_MEMORY:
        raise ValueError
    return limit


def _names(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Names = Annotated[Sequence[str], BeforeValidator(_names), 'names of modules, such as ["helpers"]']
Flag = Annotated[bool, "true or false"]
Number = Annotated[int, Field(ge=1), "a whole number of at least 1"]
NumberOrNone = Annotated[int | None, Field(ge=1), "a whole number of at least 1, or null"]
FanIn = Annotated[int, Field(ge=2), "a whole number of at least 2"]
Seconds = Annotated[float, Field(gt=0), "seconds, more than 0"]
Pool = Annotated[Literal["processes", "threads"], "processes or threads"]
Compression = Annotated[
    Annotated[int, Field(ge=0, le=16)] | Literal["auto", "plain"] | None,
    "a level of lz4 (0 to 16), auto, plain or null",
]
Variables = Annotated[
    Mapping[
        Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")],
        Annotated[str, Field(pattern=r"^[^\x00]*$")] | None,
    ],
    'names and text, such as {"OMP_NUM_THREADS": "1"}; null leaves one out',
]
DaskMemory = Annotated[
    str | int | None,
    BeforeValidator(_memory),
    f"bytes, or text such as 2GB, at least {LEAST_MEMORY // 10**6} MB; auto or null",
]
DaskAddress = Annotated[str | None, Field(min_length=1), "an address such as tcp://HOST:8786"]
DaskCluster = Annotated[
    Any, BeforeValidator(_cluster), "a cluster as of dask-jobqueue, in a program"
]
DaskSecurity = Annotated[
    Any,
    BeforeValidator(_security),
    'names and files, such as {"tls_ca_file": "ca.pem", "tls_client_cert": "me.pem", '
    '"tls_client_key": "me.pem"}, or a distributed.Security',
]
DaskPlugins = Annotated[
    Sequence[Annotated[Any, instance("distributed", "WorkerPlugin")]],
    "a list of WorkerPlugin, in a program",
]
SparkMaster = Annotated[
    str | None, Field(min_length=1), "a URL such as spark://HOST:7077, or yarn"
]
SparkMemory = Annotated[
    str | None,
    Field(pattern=r"(?i)^\d+[kmgt]?$"),
    "a number and k, m, g or t, such as 2g, or null",
]
