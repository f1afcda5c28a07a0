"""Results on disk: histograms of the ttbar analysis, or a file of ``coffea.util.save``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis import histograms, ttbar
from analysis.errors import InputError
from analysis.files import histogram_io, output

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from analysis.runner.job import Job
    from analysis.runner.result import Result


def check(path: Path, job: Job, *, inputs: Collection[Path] = ()) -> None:
    """Raise InputError unless `save` can write the result of a job, without replacing `inputs`."""
    output.check(path, inputs=inputs)
    if isinstance(job.processor, ttbar.TtbarProcessor) and job.normalised:
        histogram_io.check(path, ttbar.check(job.fileset, job.processor.variations))
    elif path.suffix in {".json", ".root", ".parquet", ".gz"}:
        msg = (
            f"{path}: what a processor of yours gives is written by coffea.util.save: "
            f"name it {path.stem.removesuffix('.uhi')}.coffea"
        )
        raise InputError(msg)


def save(path: Path, job: Job, result: Result) -> None:
    """Write the result of a job, so that the file is there whole or not at all.

    That of the ttbar analysis has normalised histograms, cutflow and provenance, in a format of
    `histogram_io`; others are written as by ``coffea.util.save``.
    """
    processor = job.processor
    if not (isinstance(processor, ttbar.TtbarProcessor) and job.normalised):
        output.save_coffea(path, result.accumulated)
        return
    scaled = ttbar.normalise(result.accumulated, result.fileset)
    histogram_io.write(
        path,
        histograms.named(scaled),
        {
            "schema": 1,
            "names": histograms.names(scaled),
            "data": ttbar.real_data(result.fileset),
            "cutflow": cutflow(result),
            "provenance": output.provenance(
                fileset=dict(result.fileset),
                implementation=processor.implementation,
                executor=dict(result.executor),
                chunksize=job.chunksize,
                read_ahead=dict(result.read_ahead),
                variations=processor.variations,
                replacements=processor.replacements,
                events=result.events,
                skipped=[str(chunk) for chunk in result.skipped],
            ),
        },
    )


def cutflow(result: Result) -> dict[str, Any]:
    """Cutflow of the ttbar analysis, with the events that were not delivered."""
    return ttbar.whole_cutflow(result.accumulated["cutflow"], result.fileset)
