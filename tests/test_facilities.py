"""The blocks of docs/facilities.md, taken out of the page, work with the real libraries."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import sys
import time
import zipfile
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import dask
import pyspark
import pytest
from dask_gateway_server.backends.kubernetes.backend import KubeClusterConfig
from distributed import Client
from kubernetes.config import kube_config
from parsl.logconfigs.noop import NoopLogging
from parsl.providers.errors import ScaleOutFailed
from traitlets.config import Config

from analysis.executors import parse_options
from analysis.executors._dask_cluster import CONFIGURATION
from analysis.executors.dask import job_environment
from analysis.executors.options import parse_pair
from analysis.executors.worker import environment
from analysis.runner.job import Job, execute
from tests.support import slurm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from analysis.runner.result import Result

PAGE: Final = Path(__file__).parents[1] / "docs" / "facilities.md"
BLOCK: Final = re.compile(r"^```(?:python|sh)\n# ([\w-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Expected(NamedTuple):
    """A file set, and what the job of the page gives for it."""

    fileset: Path
    result: Result


@cache
def blocks() -> dict[str, str]:
    """The page's blocks by name."""
    found = BLOCK.findall(PAGE.read_text())
    assert len(found) == PAGE.read_text().count("\n```") // 2
    assert len(dict(found)) == len(found)
    return dict(found)


def evaluated(name: str, **names: Any) -> dict[str, Any]:
    """Variables that a block of Python leaves."""
    exec(compile(blocks()[name], f"{PAGE.name}: {name}", "exec"), names)  # noqa: S102
    return names


# --- what is on the page


def test_the_page_is_of_these_blocks() -> None:
    assert set(blocks()) == {
        *("slurm-dask", "htcondor-dask", "gateway-server", "gateway-client", "run-dask"),
        *("spark-kubernetes", "parsl-slurm", "parsl-htcondor", "parsl-kubernetes", "run-parsl"),
    }


def test_dask_reads_the_environment_of_jobs_as_our_configuration() -> None:
    read = dask.config.collect_env(job_environment())
    with dask.config.set(read):
        assert {name: dask.config.get(name) for name in CONFIGURATION} == CONFIGURATION


def test_shells_take_the_environment_of_jobs_as_it_is() -> None:
    variables = job_environment()
    assert environment().items() <= variables.items()
    assert all(
        shlex.split(f"{name}={value}") == [f"{name}={value}"] for name, value in variables.items()
    )


# --- dask-jobqueue


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where blocks find FILESET.json, and write."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def cluster_of(name: str, **changes: str) -> Iterator[Any]:
    """The cluster of a block, which has asked for no worker; texts of the block are replaced."""
    text = re.sub(r"^cluster.scale.*\n", "", blocks()[name], flags=re.MULTILINE)
    for before, after in changes.items():
        text = text.replace(before, after)
    names: dict[str, Any] = {}
    exec(compile(text, f"{PAGE.name}: {name}", "exec"), names)  # noqa: S102
    with names["cluster"] as cluster:
        yield cluster


def worker_of(command: str) -> dict[str, str]:
    """Options with which a worker is started."""
    words = shlex.split(command)
    begin = words.index("distributed.cli.dask_worker")
    options = {
        a: b for a, b in zip(words[begin:], words[begin + 1 :], strict=False) if a[:2] == "--"
    }
    return {"python": words[begin - 2], "scheduler": words[begin + 1], **options}


@pytest.mark.usefixtures("working_folder")
def test_slurm_job_has_variables_cores_memory_and_time() -> None:
    with cluster_of("slurm-dask") as cluster:
        script = cluster.job_script()
    assert {"#SBATCH -p short", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=8G"} <= {
        *script.splitlines()
    }
    assert "#SBATCH -t 02:00:00" in script
    exported = dict(re.findall(r"^export (\w+)=(.*)$", script, flags=re.MULTILINE))
    assert exported == job_environment()
    started = worker_of(script.splitlines()[-1])
    assert started["scheduler"].startswith("tls://")
    assert (started["--nworkers"], started["--nthreads"]) == ("4", "1")
    assert started["--memory-limit"] == "1.86GiB"
    assert started["--local-directory"] == "/tmp"
    assert started["python"] == sys.executable


@pytest.mark.usefixtures("working_folder")
def test_htcondor_job_has_variables_cores_memory_disk_and_image() -> None:
    with cluster_of("htcondor-dask") as cluster:
        script = cluster.job_script()
    said = dict(re.findall(r"^([\w.+]+) = (.*)$", script, flags=re.MULTILINE))
    assert said["universe"] == "container"
    assert said["container_image"] == "docker://REGISTRY/coffea-scaling:1"
    assert said["MY.DaskWorkerCores"] == "4"
    assert said["MY.DaskWorkerMemory"] == "8000000000"
    assert said["MY.DaskWorkerDisk"] == "10000000000"
    assert said["+MaxRuntime"] == "7200"
    # HTCondor's way of quoting: "-c '...'".
    shell, command = shlex.split(said["Arguments"].strip('"').replace('""', '"'))
    assert (said["Executable"], shell) == ("/bin/sh", "-c")
    *exports, start = command.split("; ")
    assert dict(one.removeprefix("export ").split("=", 1) for one in exports) == job_environment()
    started = worker_of(start)
    assert started["python"] == "/usr/local/bin/python3"
    assert started["--local-directory"] == "$_CONDOR_SCRATCH_DIR"
    assert (started["--nworkers"], started["--nthreads"]) == ("4", "1")


# --- runs


@pytest.fixture(scope="module")
def expected(
    synthetic_fileset: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Expected:
    """What the job of the page gives in this process, with its file set."""
    path = tmp_path_factory.mktemp("expected") / "fileset.json"
    path.write_text(json.dumps({"ttbar__nominal": synthetic_fileset["ttbar__nominal"]}))
    return Expected(path, execute(Job.of_ttbar(path), "iterative"))


def run(name: str, folder: Path, expected: Expected, **names: Any) -> None:
    """Run a block of the page on the file set of the tests, and compare what it gives."""
    (folder / "FILESET.json").symlink_to(expected.fileset)
    left = evaluated(name, **names)
    result, wanted = left["result"], expected.result
    assert (result.events, result.chunks) == (wanted.events, wanted.chunks)
    assert result.accumulated == wanted.accumulated
    assert json.loads((folder / "OUT.json").read_text())


@pytest.fixture(scope="module")
def batch_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Slurm on this machine."""
    if reason := slurm.why_not():
        pytest.skip(reason)
    with (
        slurm.running(tmp_path_factory.mktemp("slurm")) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        yield
        until = time.monotonic() + slurm.PATIENCE
        while slurm.jobs(variables):
            assert time.monotonic() < until, "jobs are left when their cluster has ended"
            time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.usefixtures("batch_system")
def test_the_analysis_runs_on_slurm_by_dask_jobqueue(
    working_folder: Path, expected: Expected
) -> None:
    # Jobs of two workers, for a machine of two cores.
    with cluster_of("slurm-dask", **{"processes=4": "processes=2"}) as cluster:
        cluster.scale(jobs=1)

        def look(dask_worker: Any) -> dict[str, str]:
            return {**os.environ, "pause": str(dask_worker.memory_manager.memory_pause_fraction)}

        with Client(cluster, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=120)
            variables = list(client.run(look).values())
        run("run-dask", working_folder, expected, cluster=cluster)
    for found in variables:
        assert job_environment().items() <= found.items()
        assert found["pause"] == "False"
        assert "SLURM_JOB_ID" in found


@pytest.mark.slow
@pytest.mark.usefixtures("batch_system")
def test_the_analysis_runs_on_slurm_by_parsl(working_folder: Path, expected: Expected) -> None:
    config = evaluated("parsl-slurm")["config"]
    config.initialize_logging = NoopLogging()  # Parsl leaves its log open.
    run("run-parsl", working_folder, expected, config=config)


# --- dask-gateway


def test_the_gateway_starts_workers_with_this_image_and_environment() -> None:
    configuration = Config()
    evaluated("gateway-server", c=configuration)
    assert configuration.DaskGateway.backend_class.endswith(".KubeBackend")
    of_cluster = KubeClusterConfig(config=configuration)
    assert of_cluster.environment == job_environment()
    assert of_cluster.image == "REGISTRY/coffea-scaling:1"
    assert of_cluster.worker_memory == 2 << 30
    assert of_cluster.worker_cores == 1
    commands = of_cluster.scheduler_cmd, of_cluster.worker_cmd
    known = {one.name for one in entry_points(group="dask_cli")}
    assert all(first == "dask" and second in known for first, second in commands)
    assert set(configuration.KubeClusterConfig) <= set(of_cluster.trait_names())


# --- Parsl


@pytest.fixture
def cluster_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Access to a Kubernetes cluster that there is not: constructing a provider asks nothing."""
    cluster = {"name": "one", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "one", "context": {"cluster": "one", "user": "one"}}
    path = tmp_path / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [cluster],
                "contexts": [context],
                "current-context": "one",
                "users": [{"name": "one", "user": {"token": "none"}}],
            }
        )
    )
    # The variable KUBECONFIG is read when the client is imported.
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))


@pytest.mark.usefixtures("cluster_access")
@pytest.mark.parametrize("system", ["slurm", "htcondor", "kubernetes"])
def test_our_parsl_executor_takes_a_config_whose_workers_have_the_variables(system: str) -> None:
    config = evaluated(f"parsl-{system}")["config"]
    assert parse_options("parsl", {"config": config}, workers=8).keywords() == {"config": config}
    (executor,) = config.executors
    provider = executor.provider
    exported = dict(
        line.removeprefix("export ").split("=", 1) for line in provider.worker_init.splitlines()
    )
    assert exported == environment()
    assert provider.max_blocks * 4 == 8, "blocks of four workers, and eight in the run's block"
    assert "workers=8" in blocks()["run-parsl"]
    assert executor.cores_per_worker == 1


def test_htcondor_blocks_of_parsl_ask_for_what_four_workers_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = evaluated("parsl-htcondor")["config"].executors[0].provider
    provider.script_dir = str(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # No HTCondor: the files are written all the same.
    with pytest.raises(ScaleOutFailed):
        provider.submit("the command of a manager", 1, "block")
    (submit,) = tmp_path.glob("*.submit")
    assert {"RequestCpus = 4", "RequestMemory = 8192"} <= {*submit.read_text().splitlines()}
    (script,) = tmp_path.glob("*.script")
    lines = script.read_text().splitlines()
    assert {f"export {name}={value}" for name, value in environment().items()} <= {*lines}
    assert lines.index("export PARSL_CORES=4") < lines.index("the command of a manager")


# --- Spark


def spark_options() -> tuple[int, dict[str, Any]]:
    """Workers and options of the block's command, as the command line reads them."""
    words = shlex.split(blocks()["spark-kubernetes"].replace("\\\n", " "))
    given = [parse_pair(b) for a, b in itertools.pairwise(words) if a == "--option"]
    return int(words[words.index("--workers") + 1]), dict(given)


def test_our_spark_executor_takes_the_options_of_the_block() -> None:
    workers, options = spark_options()
    assert set(options) == {"master", "memory", "timeout", "configuration"}
    assert isinstance(options["configuration"], dict)
    parsed = parse_options("spark", options, workers=workers)
    assert parsed.keywords() == options


def test_spark_knows_the_settings_of_kubernetes() -> None:
    _, options = spark_options()
    jars = Path(pyspark.__file__).parent / "jars"
    (path,) = jars.glob("spark-kubernetes_*.jar")
    with zipfile.ZipFile(path) as jar:
        known = b"".join(jar.read(name) for name in jar.namelist() if "k8s/Config" in name)
    named = [name for name in options["configuration"] if name.startswith("spark.kubernetes.")]
    assert len(named) == 3
    for name in named:
        # Names that begin alike are put together of their parts.
        prefix, last = name.rpartition(".")[::2]
        assert name.encode() in known or (f"{prefix}".encode() in known and last.encode() in known)
