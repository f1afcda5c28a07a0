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

    from analysis.runner.job import Done, Job


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


def save(path: Path, job: Job, done: Done) -> None:
    """Write what came of a job, so that the file is there whole or not at all.

    Parameters
    ----------
    path
        Of the file: in a format of `histogram_io` with normalised histograms, cutflow and
        provenance, if the job is the ttbar analysis; otherwise as of ``coffea.util.save``.
    job
        The job.
    done
        What came of it.

    Raises
    ------
    InputError
        If it cannot be written, or histograms cannot be normalised.
    """
    processor = job.processor
    if not (isinstance(processor, ttbar.TtbarProcessor) and job.normalised):
        output.save_coffea(path, done.result.accumulated)
        return
    scaled = ttbar.normalise(done.result.accumulated, done.fileset)
    histogram_io.write(
        path,
        histograms.named(scaled),
        {
            "schema": 1,
            "names": histograms.names(scaled),
            "data": ttbar.real_data(done.fileset),
            "cutflow": cutflow(done),
            "provenance": output.provenance(
                fileset=dict(done.fileset),
                implementation=processor.implementation,
                executor=dict(done.executor),
                chunksize=job.chunksize,
                variations=processor.variations,
                replacements=processor.replacements,
                events=done.result.events,
                skipped=[str(chunk) for chunk in done.result.skipped],
            ),
        },
    )


def cutflow(done: Done) -> dict[str, Any]:
    """The cutflow of the ttbar analysis, with the events that were cut in delivery."""
    return ttbar.whole_cutflow(done.result.accumulated["cutflow"], done.fileset)
