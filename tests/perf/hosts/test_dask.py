"""Dask's scheduler, workers and client on hosts of their own, some of which are cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from analysis.runner.job import Job, execute
from perf.hosts import clusters
from perf.hosts.client import Opening
from perf.hosts.network import Host, Link, network, why_not
from tests.support.hosts import BACK_SECONDS, Cluster, check_ttbar

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENCE: Final = 10
"""Seconds that the scheduler may take to answer."""


@pytest.fixture
def hosts(synthetic: Path) -> Iterator[dict[str, Host]]:
    """A host of each program, with links of 1 Gbit/s."""
    if reason := why_not():
        pytest.skip(reason)
    names = ("files", "scheduler", "client", "one", "two")
    with network({name: Link(rate=1e9) for name in names}, {"files": [synthetic]}) as made:
        yield made


@pytest.mark.slow
def test_dask_on_hosts_that_are_cut_off(
    hosts: dict[str, Host], synthetic: Path, synthetic_fileset: dict[str, Any], tmp_path: Path
) -> None:
    name = "ttbar__nominal"
    fileset = {name: synthetic_fileset[name]}
    (tmp_path / "fileset.json").write_text(json.dumps(fileset))
    expected = execute(Job.of_ttbar(tmp_path / "fileset.json"), "iterative").accumulated
    workers = [hosts["one"], hosts["two"]]
    with (
        clusters.files(hosts["files"], synthetic) as http,
        clusters.dask(hosts["scheduler"], workers) as options,
        clusters.client(
            hosts["client"], Opening("dask", 2, {**options, "silence": SILENCE})
        ) as client,
    ):
        cluster = Cluster(hosts, client, fileset, http)
        check_ttbar(client.run(cluster.ttbar()), expected)
        cluster.check_own(client.run(cluster.own("counts")))
        assert cluster.calls("one") + cluster.calls("two") == 16
        # Dask's limit is 30 s.
        cluster.check_own(cluster.run_and_cut("one", "one", BACK_SECONDS))
        cluster.check_own(cluster.run_and_cut("one", "one"))
        said = cluster.run_and_cut("scheduler", "two")
        assert said == (
            f"the Dask scheduler at tcp://{hosts['scheduler'].address}:8786 has not answered for "
            f"{SILENCE} s: see what stopped it, start it again and repeat the run"
        )
