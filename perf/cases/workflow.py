"""Cases of the whole workflow, from files to plots, stage by stage, each result checked."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from perf.cases import delivery, inference
from perf.cases.case import WORKERS, Case, Ready
from perf.cases.tasks import orphans_adopted
from perf.records import difference
from perf.records.digest import result_digest
from perf.records.format import label
from perf.records.record_file import Input, What

# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from analysis.workflow import Stage, Workflow
    from perf.cases.case import Inputs
    from perf.cases.scales import Scale

StageName = Literal["events", "delivery", "histograms", "fit", "limit", "pictures"]
STAGES: Final[tuple[StageName, ...]] = get_args(StageName)


def advanced(name: StageName, folder: Path, events: int, workers: int) -> tuple[Workflow, Stage]:
    """The workflow on synthetic events, done up to a stage, and that stage, ready to be done.

    What is done in `folder` already is not done again; `events` are those of each sample.
    """
    from analysis.workflow import Workflow, advance

    workflow = Workflow(folder, events=events, workers=workers)
    stages = {stage.name: stage for stage in workflow.stages()}
    before = [stages[earlier] for earlier in STAGES[: STAGES.index(name)]]
    for _ in advance(before, folder):
        pass
    return workflow, stages[name]


def forget(workflow: Workflow) -> None:
    """Remove what was delivered, which a second delivery would keep."""
    shutil.rmtree(workflow.inputs.parent, ignore_errors=True)


def content(stage: StageName, workflow: Workflow, paths: Sequence[Path]) -> Any:
    """What is compared of the files that a stage made."""
    if stage == "events":
        return _events_in(workflow)
    if stage == "delivery":
        return delivery.event_numbers(path for path in paths if path.suffix == ".parquet")
    if stage == "histograms":
        return _histograms(workflow.histograms)
    if stage == "fit":
        return float(json.loads(workflow.fitted.read_text())["twice_nll"])
    if stage == "limit":
        return float(json.loads(paths[0].read_text())["limit"]["observed"])
    from matplotlib.image import imread

    # One colour would be an empty picture.
    return sorted(path.stem for path in paths if len(np.unique(imread(path))) > 1)


def expected(stage: StageName, workflow: Workflow) -> Any:
    """What `content` must be, computed in another way than the stage does.

    Delivered events by the kernels; histograms from the files before delivery, in one process;
    fit and limit by another backend and optimiser.
    """
    from analysis import histograms
    from analysis import inference as statistics
    from analysis.files.fileset import read_fileset

    if stage == "events":
        from analysis.samples import CROSS_SECTIONS, SAMPLE_VARIATIONS, sample_name

        return {
            sample_name(process, variation): workflow.events
            for process in CROSS_SECTIONS
            for variation in SAMPLE_VARIATIONS[process]
        }
    if stage == "delivery":
        return delivery.required_events(read_fileset(workflow.files))
    if stage == "histograms":
        from analysis.runner import save
        from analysis.runner.job import Job, execute

        alone = workflow.folder / "alone.json"
        job = Job.of_ttbar(workflow.files)
        save.save(alone, job, execute(job, "iterative"))
        return _histograms(alone)
    if stage in {"fit", "limit"}:
        from analysis.inference.templates import merged
        from analysis.workflow import LIMITED

        with statistics.open_backend("jax"):
            templates = statistics.read(workflow.histograms)
            if stage == "fit":
                return inference.minimum(statistics.build(templates))
            return inference.observed_limit(statistics.build(merged(templates, LIMITED), LIMITED))
    parts = ["", *(f"_{channel}" for channel in histograms.CHANNELS)]
    regions = histograms.REGIONS
    return sorted(
        [f"before_{region}{part}" for region in regions for part in parts]
        + [f"{when}_{region}" for region in regions for when in ("prefit", "postfit")]
    )


def agree(stage: StageName, made: Any, expected: Any) -> bool:
    """Whether a stage made what it must."""
    if stage == "delivery":
        return delivery.agree(made, expected)
    if stage == "histograms":
        return difference.agree(made, expected)
    if stage in {"fit", "limit"}:
        return inference.AGREE[stage](made, expected)
    return bool(made == expected)


def _events_in(workflow: Workflow) -> dict[str, int]:
    """Events of each sample that is made."""
    from analysis import ttbar
    from analysis.files import inspection
    from analysis.files.fileset import read_fileset

    fileset = read_fileset(workflow.files)
    counts = dict.fromkeys(fileset, 0)
    for file in inspection.inspect(fileset, ttbar.branches("nominal")):
        counts[file.dataset] += file.events
    return counts


def _histograms(path: Path) -> dict[str, Any]:
    """Contents and variances of all histograms of a file."""
    from analysis.files import histogram_io

    return {
        f"{name} {field}": np.asarray(histogram[field])
        for name, histogram in histogram_io.read(path).content["histograms"].items()
        for field in ("values", "variances")
    }


@dataclass(frozen=True)
class StageCase(Case):
    """A stage of `python -m analysis all`; those before it are done."""

    stage: StageName
    events: int
    """Of each sample."""
    workers: int = WORKERS
    """Of the executor and of the delivery."""

    in_workers = True
    cold = True
    """A stage is begun once, by a command."""

    @property
    def what(self) -> What:
        """Named by the stage."""
        return What(
            name=f"whole-{label(self.events)}-{self.stage}",
            group="whole analysis",
            kind="whole",
            subject=self.stage,
            workers=self.workers,
            size=self.events,
        )

    def rounds(self, scale: Scale) -> int | None:
        """A stage takes seconds."""
        return scale.start_rounds

    @contextmanager
    def open(self, inputs: Inputs) -> Iterator[Ready]:
        """Do the stages before it, unless the cases before this one did."""
        inputs.close_executor()
        with orphans_adopted():
            folder = inputs.folder(f"whole-{self.events}")
            workflow, stage = advanced(self.stage, folder, self.events, self.workers)
            yield Ready(
                run=stage.make,
                expected=partial(expected, self.stage, workflow),
                result_key=("whole", self.stage, self.events),
                compare=partial(agree, self.stage),
                identity=Input(
                    digest=result_digest([workflow.seed, self.events]),
                    events=0,
                    source="synthetic",
                ),
                setup=partial(forget, workflow) if self.stage == "delivery" else None,
                content=partial(content, self.stage, workflow),
            )


def stages(scale: Scale) -> list[StageCase]:
    """Each stage of the workflow, in order; without details, those before the fit."""
    measured = STAGES if scale.details else STAGES[: STAGES.index("fit")]
    return [StageCase(stage, scale.workflow_events) for stage in measured]
