"""Signals at random moments: ``python -m tests.campaigns.signals``, as ``make signals`` does.

Each trial starts a command, sends SIGINT or SIGTERM at a random moment of the time that it takes,
to the command or to its process group as a terminal does, in a third of the trials once more
while it ends, and looks at what it says, at its exit status, and at what it leaves behind.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
from rich.console import Console
from rich.table import Table

from tests.campaigns._footer import footer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT: Final = Path(__file__).parents[2]
EXECUTORS: Final = ("iterative", "futures", "dask", "parsl", "spark")
EVENTS: Final = 20_000
CHUNKS: Final = 20
MARK: Final = "COFFEA_SIGNALS_TRIAL"
"""Environment variable by which processes of a trial are known."""

PATIENCE: Final = 120.0
"""Seconds in which a command must have ended after the signal."""

GRACE: Final = 3.0
"""Seconds in which its processes must be gone after it."""

GOOD: Final = ("a sentence", "the result")
BAD: Final = ("a traceback", "no sentence", "no end")
BEFORE: Final = "before our first line"
"""What a signal meets in the first hundredths of a second: Python alone, as it starts."""

LEFT: Final = ("left processes", "left files")


@dataclass(frozen=True)
class Act:
    """A command, and where it writes; ``{}`` is the folder of the trial."""

    name: str
    command: Sequence[str]
    ends: Sequence[int] = (0,)
    """Exit statuses of the command itself."""

    def start(self, folder: Path, shared: Path, mark: str) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, with a folder for temporary files of its own."""
        (folder / "tmp").mkdir(parents=True)
        filled = [one.format(folder=folder, shared=shared) for one in self.command]
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            return subprocess.Popen(
                [sys.executable, "-m", *filled],
                cwd=ROOT,
                env=os.environ | {"TMPDIR": str(folder / "tmp"), MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )


def of_executor(name: str) -> Act:
    """The analysis in many chunks."""
    options = [] if name == "iterative" else ["--workers", "2"]
    return Act(
        name,
        [
            *("analysis", "run", "{shared}/data/fileset.json", "-o", "{folder}/out.json"),
            *("--chunksize", str(EVENTS // CHUNKS), "--executor", name, *options),
        ],
    )


OTHERS: Final = (
    Act("make-data", ["analysis", "make-data", "{folder}/data", "--events", "5000"]),
    Act("fit", ["analysis", "fit", "{shared}/all.json", "-o", "{folder}/fit.json"]),
    Act("plot", ["analysis", "plot", "{shared}/all.json", "-o", "{folder}/pictures"]),
    Act("deliver", ["analysis", "deliver", "{shared}/data/fileset.json", "-o", "{folder}/made"]),
    Act("all", ["analysis", "all", "-o", "{folder}/all", "--events", "1000", "--no-delivery"]),
    Act(
        "perf scale",
        [
            *("perf", "scale", "{shared}/data/fileset.json", "--executors", "futures"),
            *("--workers", "1", "--repeat", "1", "--output", "{folder}/scale.jsonl"),
        ],
    ),
    Act(
        "perf compare",
        [
            *("perf", "compare", ".", ".", "--only", "ht-compiled", "--budget", "5"),
            *("--json", "{folder}/compare.json"),
        ],
        # Slower, undecided, not compared: it is noise that is compared.
        ends=(0, 1, 3, 4),
    ),
)
"""Other commands; what they write is kept as far as it is whole."""


@dataclass
class Trial:
    """One signal, and what came of it."""

    act: str
    number: signal.Signals
    group: bool
    moment: float
    again: float | None
    ended: str = ""
    seconds: float = 0.0
    left: list[str] = field(default_factory=list)
    status: int | None = None
    said: str = ""

    def line(self) -> str:
        """For who looks for the cause."""
        to = "group" if self.group else "process"
        more = "" if self.again is None else f", again after {self.again:.2f} s"
        return (
            f"{self.act}: {self.number.name} to the {to} at {self.moment:.2f} s{more}: "
            f"{self.ended}, status {self.status}, {self.seconds:.1f} s, {' '.join(self.left)}\n"
            f"{self.said}"
        )


def attempt(act: Act, trial: Trial, folder: Path, shared: Path) -> Trial:
    """Do one trial."""
    mark = folder.name
    process = act.start(folder, shared, mark)
    send = os.killpg if trial.group else os.kill
    try:
        process.wait(trial.moment)
    except subprocess.TimeoutExpired:
        send(process.pid, trial.number)
    sent = time.monotonic()
    if trial.again is not None:
        try:
            process.wait(trial.again)
        except subprocess.TimeoutExpired:
            send(process.pid, trial.number)
    try:
        trial.status = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        trial.ended = "no end"
    trial.seconds = time.monotonic() - sent
    trial.said = (folder / "stderr").read_text(errors="replace")
    trial.ended = trial.ended or classify(trial, act.ends)
    trial.left = leftovers(folder, mark)
    for one in marked(mark):
        one.kill()
    process.wait()
    return trial


def classify(trial: Trial, ends: Sequence[int]) -> str:
    """How a command ended."""
    lines = [line for line in trial.said.splitlines() if not line.startswith("note: ")]
    wanted = 128 + trial.number
    if trial.status in ends and not lines:
        return "the result"
    if trial.status == wanted and len(lines) == 1 and lines[0].startswith("interrupted: "):
        return "a sentence"
    if trial.status == -trial.number and str(ROOT) not in trial.said:
        return BEFORE
    return "a traceback" if "Traceback" in trial.said else "no sentence"


def leftovers(folder: Path, mark: str) -> list[str]:
    """What is left of a trial that has ended."""
    until = time.monotonic() + GRACE
    while (alive := marked(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    left = ["left processes"] if alive else []
    # What is kept for the next command of the user is meant to stay.
    files = [one for one in (folder / "tmp").iterdir() if "coffea-scaling" not in one.name]
    parts = [one for one in folder.glob("*/*") if ".part-" in one.name or ".json." in one.name]
    return [*left, *(["left files"] if files or parts else []), *(one.name for one in files)]


def marked(mark: str) -> list[psutil.Process]:
    """Processes of a trial that live."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.status() != psutil.STATUS_ZOMBIE and one.environ().get(MARK) == mark:
                found.append(one)
        except psutil.Error:
            continue
    return found


def prepare(shared: Path) -> None:
    """Data and histograms that commands read."""
    commands = [
        [
            *("make-data", f"{shared}/data", "--events", str(EVENTS)),
            *("--processes", "ttbar", "--variations", "nominal"),
        ],
        ["make-data", f"{shared}/every", "--events", "3000"],
        ["run", f"{shared}/every/fileset.json", "-o", f"{shared}/all.json"],
    ]
    for one in commands:
        subprocess.run(
            [sys.executable, "-m", "analysis", *one],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )


def undisturbed(act: Act, folder: Path, shared: Path) -> float:
    """Seconds that a command takes; the second time, when machine code is compiled."""
    for turn in range(2):
        began = time.monotonic()
        process = act.start(folder / f"{turn}", shared, folder.name)
        if process.wait(10 * PATIENCE) not in act.ends:
            said = (folder / f"{turn}" / "stderr").read_text(errors="replace")
            msg = f"{act.name} fails without a signal: {said}"
            raise RuntimeError(msg)
    return time.monotonic() - began


def campaign(
    acts: Sequence[Act],
    number: int,
    seed: int,
    work: Path,
    shared: Path,
    tell: Callable[[Trial], None] = lambda _: None,
) -> list[Trial]:
    """`number` signals, the commands in turn; `tell` is told of each as it is done."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell has it for what it starts in the background.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(seed)
    lasts = {act.name: undisturbed(act, work / f"{act.name}-alone", shared) for act in acts}
    trials = []
    for count in range(number):
        act = acts[count % len(acts)]
        trial = Trial(
            act.name,
            rng.choice((signal.SIGINT, signal.SIGTERM)),
            rng.random() < 0.5,
            rng.uniform(0, lasts[act.name]),
            rng.uniform(0, 0.5) if rng.random() < 1 / 3 else None,
        )
        folder = work / f"{act.name}-{count}"
        trials.append(attempt(act, trial, folder, shared))
        tell(trial)
        shutil.rmtree(folder, ignore_errors=True)
    return trials


def told(trial: Trial) -> None:
    """Print what went wrong, at once."""
    if trial.ended in BAD or trial.left:
        print(trial.line(), file=sys.stderr, flush=True)  # noqa: T201


def table(trials: Sequence[Trial]) -> Table:
    """How trials ended, by command."""
    headings = (*GOOD, BEFORE, *BAD, *LEFT)
    shown = Table("command", "signals", *headings, "slowest end, s")
    names = list(dict.fromkeys(one.act for one in trials))
    for name in (*names, "all of them"):
        mine = [one for one in trials if name in {one.act, "all of them"}]
        counts = Counter(one.ended for one in mine) + Counter(
            left for one in mine for left in one.left if left in LEFT
        )
        slowest = max(one.seconds for one in mine)
        row = (str(counts[heading]) for heading in headings)
        shown.add_row(name, str(len(mine)), *row, f"{slowest:.1f}")
    return shown


def main() -> None:
    """Run the campaign, print its table; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=100, help="signals over five executors")
    parser.add_argument("--others", type=int, default=28, help="signals over other commands")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="this command only")
    asked = parser.parse_args()
    groups = [(list(map(of_executor, EXECUTORS)), asked.number), (list(OTHERS), asked.others)]
    if asked.only:
        chosen = [one for acts, _ in groups for one in acts if one.name == asked.only]
        groups = [(chosen, asked.number)]
    bad = False
    # Not in /tmp, from where servicex moves its cache to the folder for temporary files.
    with tempfile.TemporaryDirectory(prefix="signals-", dir="/var/tmp") as name:
        shared = Path(name, "shared")
        prepare(shared)
        for acts, number in groups:
            if not number:
                continue
            trials = campaign(acts, number, asked.seed, Path(name), shared, told)
            Console(width=150).print(table(trials))
            bad |= any(one.ended in BAD or one.left for one in trials)
    print(f"{footer('signals')}\nseed {asked.seed}")  # noqa: T201
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
