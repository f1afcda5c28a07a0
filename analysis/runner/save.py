"""What a job gave, on disk: histograms of the ttbar analysis, or a file of coffea's.

It is the last stop of the way: `FileSet`, `Job`, `Inspected`, `Result`, saved.
"""

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
    """Whether `save` can write what comes of a job, found out before the work.

    Parameters
    ----------
    path
        Of the file.
    job
        The job.
    inputs
        Files that are read for it, which must not be replaced.

    Raises
    ------
    InputError
        If its name says another format, or it cannot be written.
    """
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
    """Write what came of a job, so that the file is there whole or not at all.

    Parameters
    ----------
    path
        Of the file: in a format of `histogram_io` with normalised histograms, cutflow and
        provenance, if the job is the ttbar analysis; otherwise as of ``coffea.util.save``.
    job
        The job.
    result
        What came of it.

    Raises
    ------
    InputError
        If it cannot be written, or histograms cannot be normalised.
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
                variations=processor.variations,
                replacements=processor.replacements,
                events=result.events,
                skipped=[str(chunk) for chunk in result.skipped],
            ),
        },
    )


def cutflow(result: Result) -> dict[str, Any]:
    """The cutflow of the ttbar analysis, with the events that were cut in delivery."""
    return ttbar.whole_cutflow(result.accumulated["cutflow"], result.fileset)
