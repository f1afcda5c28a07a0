"""Results of asv as records."""

from __future__ import annotations

import itertools
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from perf.records.digest import result_digest
from perf.records.record_file import Input, Machine, Record, What
from perf.records.unreadable import left_out, understood

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

INSTALLED: Final = "installed"
"""Folder of the notes of `perf.asv_environment`: what was installed for each commit."""

ASV: Final = "asv:"
"""Prefix of the names of these records."""

KINDS: Final[dict[str, Literal["kernel", "query", "processor", "events", "import"]]] = {
    "kernels": "kernel",
    "queries": "query",
    "processor": "processor",
    "nanoevents": "events",
    "imports": "import",
}
"""What the modules of `perf/benchmarks` measure."""

PER_EVENT: Final = "_per_event"
"""Suffix of benchmarks whose unit is an event."""


def asv_records(folder: Path) -> list[Record]:
    """The results in asv's ``results_dir``, as records.

    There is one for each benchmark and combination of its parameters that has a result of the
    benchmark as it is now. Times have the samples that asv stored: all with ``--record-samples``,
    otherwise their median alone. A file that cannot be read is left out, and a sentence says so.
    """
    index = folder / "benchmarks.json"
    if not index.is_file():
        return []
    from asv.results import Results  # noqa: PLC0415  (only where there are results)

    records: list[Record] = []
    with left_out(), understood(index, "file of asv"):
        benchmarks = json.loads(index.read_text())
        benchmarks.pop("version", None)
        for machine in sorted(folder.glob("*/machine.json")):
            with left_out(), understood(machine, "file of asv"):
                about = json.loads(machine.read_text())
                name = about["machine"]
                for path in sorted({*machine.parent.glob("*.json")} - {machine}):
                    with left_out(), understood(path, "file of asv"):
                        result = Results.load(str(path), machine_name=name)
                        records += _of_result(result, benchmarks, about, folder.parent / INSTALLED)
    return records


def _of_result(
    result: Any, benchmarks: dict[str, Any], machine: dict[str, Any], notes: Path
) -> Iterator[Record]:
    note = _note(notes, result.commit_hash)
    versions = {"python": str(result.params["python"]), **note.get("installed", {})}
    loads = [load for _, load in note.get("loads", [])]
    committed = datetime.fromtimestamp(result.date / 1000, UTC)
    for name in sorted(result.get_result_keys(benchmarks)):
        benchmark = benchmarks[name]
        params = benchmark["params"]
        values = result.get_result_value(name, params)
        samples = result.get_result_samples(name, params)
        stats = result.get_result_stats(name, params)
        started = result.started_at.get(name)
        ended = datetime.fromtimestamp((started or result.date) / 1000, UTC)
        combinations = list(itertools.product(*params))
        for number, combination in enumerate(combinations):
            value = values[number]
            if value is None or not math.isfinite(value):
                continue
            stored = samples[number] if samples and samples[number] else [value]
            yield Record(
                run=f"asv {result.commit_hash[:12]}",
                timestamp=ended,
                what=_what(name, benchmark["param_names"], combination),
                # Times of one event have an input of one event.
                input=_input(name),
                versions=versions,
                machine=_machine(machine, versions["python"]),
                load_before=loads[0] if loads else None,
                load_after=loads[-1] if loads else None,
                iterations=int((stats[number] or {}).get("number") or 1) if stats else 1,
                check=None,
                commit=result.commit_hash,
                committed=committed,
                **_measured(name, benchmark, stored),
            )


def _note(folder: Path, commit: str) -> dict[str, Any]:
    for path in sorted(folder.glob(f"{commit[:12]}-*.json")):
        note: dict[str, Any] = json.loads(path.read_text())
        return note
    return {}


def _what(name: str, param_names: Sequence[str], combination: Sequence[str]) -> What:
    # asv stores the repr of a value.
    chosen = {key: value.strip("'\"") for key, value in zip(param_names, combination, strict=True)}
    module = name.partition(".")[0]
    return What(
        name=f"{ASV}{name}({', '.join(chosen.values())})",
        group=name,
        kind=KINDS.get(module, "processor"),
        subject=name,
        size=0,
        parameters=cast("dict[str, str | int | float | bool]", chosen),
    )


def _input(name: str) -> Input:
    return Input(digest=result_digest(name), events=int(name.endswith(PER_EVENT)), source="asv")


def _machine(about: dict[str, str], python: str) -> Machine:
    gigabytes, cores = about.get("ram", "").split()[:1], about.get("num_cpu")
    return Machine(
        name=about["machine"],
        cpu=about.get("cpu", ""),
        cores=int(cores) if cores else None,
        memory=round(float(gigabytes[0]) * 2**30) if gigabytes else None,
        kernel=about.get("os", ""),
        python=python,
    )


def _measured(name: str, benchmark: dict[str, Any], samples: Sequence[float]) -> dict[str, Any]:
    match benchmark["type"]:
        case "time":
            clock = "cpu_seconds" if "_cpu_" in name else "wall_seconds"
            return {clock: tuple(samples)}
        case "peakmemory" | "memory":
            return {"peak_memory": round(samples[-1])}
        case _:
            return {"counts": {benchmark["unit"]: tuple(map(float, samples))}}
