"""A Slurm of this machine: munged, slurmctld and slurmd, as root, with all files in one folder."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PROGRAMS: Final = ("munged", "slurmctld", "slurmd", "sbatch")
PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin"
PATIENCE: Final = 30.0
"""Seconds that the node may take to be idle."""

CONFIGURATION: Final = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=batch_sched_delay=0
# More than the machine has: the jobs of the page are for larger ones.
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000
PartitionName=short Nodes={host} Default=YES State=UP
"""


def why_not() -> str:
    """Why Slurm cannot be started here, empty if it can."""
    if missing := [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]:
        return f"{', '.join(missing)} not installed: make slurm"
    return "" if os.getuid() == 0 else "only root can start Slurm"


@contextmanager
def running(folder: Path) -> Iterator[Mapping[str, str]]:
    """Start Slurm, yield the variables by which its commands find it, and end it."""
    host = socket.gethostname().partition(".")[0]
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o711, parents=True)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    ports = free_port(), free_port()
    configuration.write_text(CONFIGURATION.format(folder=folder, host=host, ports=ports))
    variables = {"SLURM_CONF": str(configuration)}
    of_munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
    commands = (
        ["munged", "--foreground", "--force", f"--socket={folder}/munge/socket", *of_munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    )
    with ExitStack() as stack:
        for command in commands:
            log = stack.enter_context((folder / f"{command[0]}.log").open("wb"))
            process = subprocess.Popen(
                command,
                env={**os.environ, **variables, "PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            stack.callback(_end, process)
            if command[0] == "munged":
                wait_for((folder / "munge" / "socket").exists, folder)
        wait_for(lambda: "idle" in _answer(["sinfo", "-h", "-o", "%T"], variables), folder)
        yield variables
        _answer(["scancel", "--user=root"], variables)


def jobs(variables: Mapping[str, str]) -> list[str]:
    """Names of the jobs that are queued or at work."""
    return _answer(["squeue", "-h", "-o", "%j"], variables).split()


def _answer(command: list[str], variables: Mapping[str, str]) -> str:
    env = {**os.environ, **variables}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stdout


def wait_for(condition: Callable[[], bool], folder: Path) -> None:
    """Wait until a condition holds; else show what programs wrote to a folder."""
    until = time.monotonic() + PATIENCE
    while not condition():
        logs = "\n".join(path.read_text("utf8", "replace") for path in folder.glob("*.log"))
        assert time.monotonic() < until, logs
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
