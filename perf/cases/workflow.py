"""The whole analysis stage by stage: what each makes is compared with what it must be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from perf.cases import delivery, inference
from perf.records import difference

# The analysis takes seconds to import, which collecting tests need not wait for.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from analysis.pipeline import Stage
    from analysis.workflow import Whole

StageName = Literal["events", "delivery", "histograms", "fit", "limit", "pictures"]
STAGES: Final[tuple[StageName, ...]] = get_args(StageName)


def advanced(stage: StageName, folder: Path, events: int, workers: int) -> tuple[Whole, Stage]:
    """The analysis of synthetic events, done up to a stage.

    Parameters
    ----------
    stage
        The first that need not be done.
    folder
        Of the analysis; what is done there already is not done again.
    events
        Of each sample.
    workers
        Of the executor and of the delivery.

    Returns
    -------
    tuple
        The analysis, and the stage, ready to be done.
    """
    from analysis.pipeline import advance
    from analysis.workflow import Whole

    whole = Whole(folder, events=events, workers=workers)
    stages = {one.name: one for one in whole.stages()}
    before = [stages[name] for name in STAGES[: STAGES.index(stage)]]
    for _ in advance(before, folder):
        pass
    return whole, stages[stage]


def forget(whole: Whole) -> None:
    """Remove what was delivered, which a second delivery would keep."""
    import shutil

    shutil.rmtree(whole.inputs.parent, ignore_errors=True)


def content(stage: StageName, whole: Whole, paths: Sequence[Path]) -> Any:
    """What of the files that a stage made it is judged by."""
    if stage == "events":
        return _events_in(whole)
    if stage == "delivery":
        return delivery.event_numbers(path for path in paths if path.suffix == ".parquet")
    if stage == "histograms":
        return _histograms(whole.histograms)
    if stage == "fit":
        return float(json.loads(whole.fitted.read_text())["twice_nll"])
    if stage == "limit":
        return float(json.loads(paths[0].read_text())["limit"]["observed"])
    from matplotlib.image import imread

    # One colour would be an empty picture.
    return sorted(path.stem for path in paths if len(np.unique(imread(path))) > 1)


def wanted(stage: StageName, whole: Whole) -> Any:
    """What that must be, found in another way than the stage's own.

    What is delivered by the kernels; histograms of the files as they were before delivery, by one
    process; fit and limit by another backend and optimiser.
    """
    from analysis import __main__ as commands
    from analysis import histograms
    from analysis import inference as statistics
    from analysis.files.fileset import read_fileset

    if stage == "events":
        from analysis.samples import CROSS_SECTIONS, SAMPLE_VARIATIONS, sample_name

        return {
            sample_name(process, variation): whole.events
            for process in CROSS_SECTIONS
            for variation in SAMPLE_VARIATIONS[process]
        }
    if stage == "delivery":
        return delivery.wanted(read_fileset(whole.files))
    if stage == "histograms":
        alone = whole.folder / "alone.json"
        commands.run_command(whole.files, alone, executor="iterative", workers=1)
        return _histograms(alone)
    if stage in {"fit", "limit"}:
        from analysis.inference.templates import merged
        from analysis.workflow import LIMITED

        with statistics.open_backend("jax"):
            templates = statistics.read(whole.histograms)
            if stage == "fit":
                return inference.minimum(statistics.build(templates))
            return inference.observed_limit(statistics.build(merged(templates, LIMITED), LIMITED))
    parts = ["", *(f"_{channel}" for channel in histograms.CHANNELS)]
    regions = histograms.REGIONS
    return sorted(
        [f"before_{region}{part}" for region in regions for part in parts]
        + [f"{when}_{region}" for region in regions for when in ("prefit", "postfit")]
    )


def agree(stage: StageName, got: Any, want: Any) -> bool:
    """Whether a stage made what it must."""
    if stage == "delivery":
        return delivery.agree(got, want)
    if stage == "histograms":
        return difference.agree(got, want)
    if stage in {"fit", "limit"}:
        return inference.AGREE[stage](got, want)
    return bool(got == want)


def _events_in(whole: Whole) -> dict[str, int]:
    """Events of each sample that is made."""
    from analysis import ttbar
    from analysis.files import inspection
    from analysis.files.fileset import read_fileset

    fileset = read_fileset(whole.files)
    counts = dict.fromkeys(fileset, 0)
    for one in inspection.inspect(fileset, ttbar.branches("nominal")):
        counts[one.dataset] += one.events
    return counts


def _histograms(path: Path) -> dict[str, Any]:
    """Contents and variances of all histograms of a file."""
    from analysis.files import histogram_io

    return {
        f"{name} {field}": np.asarray(one[field])
        for name, one in histogram_io.read(path).content["histograms"].items()
        for field in ("values", "variances")
    }
