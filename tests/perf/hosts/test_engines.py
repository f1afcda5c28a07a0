"""Engines whose parts are on hosts of their own, some of which are cut off in mid-run."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from analysis.errors import NotInstalledError
from analysis.executors.spark.jvm import find_java
from analysis.runner.job import Job, execute
from perf.hosts import clusters
from perf.hosts.client import Opening
from perf.hosts.network import SEARCHED, Host, Link, network, why_not
from tests.support.hosts import BACK_SECONDS, CHUNK, Cluster, check_ttbar

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENCE: Final = 10
"""Seconds that Dask's scheduler may take to answer."""

NAME: Final = "ttbar__nominal"


@pytest.fixture
def hosts(synthetic: Path) -> Iterator[dict[str, Host]]:
    """A host of each program, with links of 1 Gbit/s."""
    if reason := why_not():
        pytest.skip(reason)
    names = ("files", "scheduler", "client", "one", "two")
    with network({name: Link(rate=1e9) for name in names}, {"files": [synthetic]}) as made:
        yield made


@pytest.fixture(scope="module")
def fileset(synthetic_fileset: dict[str, Any]) -> dict[str, Any]:
    return {NAME: synthetic_fileset[NAME]}


@pytest.fixture(scope="module")
def expected(fileset: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the analysis gives in this process."""
    path = tmp_path_factory.mktemp("expected") / "fileset.json"
    path.write_text(json.dumps(fileset))
    return execute(Job.of_ttbar(path), "iterative").accumulated


def require(program: str) -> None:
    if shutil.which(program, path=SEARCHED) is None:
        pytest.skip(f"{program} not installed: make xrootd")


def compile_on(host: Host) -> Path:
    """Have a kernel compiled on a host; where its folder of machine code is on every host."""
    code = (
        "from analysis.kernels import histogram; histogram.bin_of_compiled(1.0); "
        "from analysis.executors import machine_code; "
        "print(machine_code._folder(machine_code._packages()['analysis.kernels']))"
    )
    with host.start(sys.executable, "-c", code) as process:
        return Path(process.answer(120).strip())


def seen(host: Host, folder: Path) -> set[str]:
    """Names of files in a folder of a host."""
    there = host.root / folder.relative_to("/")
    return {path.name for path in there.glob("*.nb[ci]")}


def check_runs(cluster: Cluster, expected: Any) -> None:
    """The analysis and own modules give what they have to, with a host cut off and without."""
    check_ttbar(cluster.client.run(cluster.ttbar()), expected)
    cluster.check_own(cluster.client.run(cluster.own("counts")))
    assert cluster.calls("one") + cluster.calls("two") == 4000 // CHUNK
    cluster.check_own(cluster.run_and_cut("one", "one", BACK_SECONDS))
    cluster.check_own(cluster.run_and_cut("one", "one"))


@pytest.mark.slow
def test_dask_on_hosts(
    hosts: dict[str, Host], synthetic: Path, fileset: dict[str, Any], expected: Any
) -> None:
    require("nginx")
    folder = compile_on(hosts["client"])
    assert seen(hosts["client"], folder)
    assert not seen(hosts["one"], folder)
    with (
        clusters.files(hosts["files"], synthetic) as address,
        clusters.dask(hosts["scheduler"], [hosts["one"], hosts["two"]]) as options,
        clusters.client(
            hosts["client"], Opening("dask", 2, {**options, "silence": SILENCE})
        ) as client,
    ):
        for name in ("one", "two"):
            assert seen(hosts["client"], folder) <= seen(hosts[name], folder)
        cluster = Cluster(hosts, client, fileset, address)
        check_runs(cluster, expected)
        said = cluster.run_and_cut("scheduler", "two")
        assert said == (
            f"the Dask scheduler at tcp://{hosts['scheduler'].address}:8786 has not answered for "
            f"{SILENCE} s: see what stopped it, start it again and repeat the run"
        )


@pytest.mark.slow
def test_parsl_on_hosts(
    hosts: dict[str, Host], synthetic: Path, fileset: dict[str, Any], expected: Any
) -> None:
    """Its interchange is beside the client, with which it would be cut off."""
    require("xrootd")
    with (
        clusters.files(hosts["files"], synthetic, "root") as address,
        clusters.agents([hosts["one"], hosts["two"]]) as blocks,
        clusters.client(
            hosts["client"], Opening("parsl", 2, {}, hosts["client"].address, blocks)
        ) as client,
    ):
        check_runs(Cluster(hosts, client, fileset, address), expected)


@pytest.mark.slow
def test_spark_on_hosts(
    hosts: dict[str, Host], synthetic: Path, fileset: dict[str, Any], expected: Any
) -> None:
    require("nginx")
    try:
        find_java()
    except NotInstalledError as error:
        pytest.skip(str(error))
    workers = [hosts["one"], hosts["two"]]
    with (
        clusters.files(hosts["files"], synthetic) as address,
        clusters.spark(hosts["scheduler"], workers, hosts["client"]) as options,
        clusters.client(hosts["client"], Opening("spark", 2, options)) as client,
    ):
        cluster = Cluster(hosts, client, fileset, address)
        check_runs(cluster, expected)
        # The master gives workers at the start: the run does not need it.
        cluster.check_own(cluster.run_and_cut("scheduler", "two"))
