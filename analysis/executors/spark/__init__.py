"""The Spark executor: batches are the partitions of an RDD."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from analysis.executors.options import SparkOptions
    from analysis.executors.spark.executor import SparkExecutor


def start(options: SparkOptions, workers: int) -> AbstractContextManager[SparkExecutor]:
    """Start Spark: see `executor.start`."""
    # Spark's workers import this package before their path is in order: it must import nothing.
    from analysis.executors.spark import executor  # noqa: PLC0415

    return executor.start(options, workers)
