"""Damaged files: ``python -m tests.campaigns.damage``, as ``make damage`` does.

Each trial spoils a copy of a good file and gives it to ``analysis run``. That has to end in one
sentence or in a result: that of the good file, where what was spoilt is not read. How often values
were other ones and nobody noticed is told by format and compression, whether or not they moved to
another bin of a histogram.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import awkward as ak
import uproot
from rich.console import Console
from rich.table import Table

from analysis.synthetic import write_fileset
from analysis.synthetic.writer import COMPRESSION_LEVELS, FORMATS, PARQUET_CODECS
from analysis.ttbar import INPUTS
from tests.campaigns._footer import footer
from tests.support.cli import analysis

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

EVENTS: Final = 2000
CLUSTER: Final = 500
PATIENCE: Final = 120.0
"""Seconds that a file may take."""

MEMORY: Final = 6 << 30
"""Bytes of addresses: a damaged number may ask for any."""

ENDS: Final = ("a sentence", "all as it was", "other values")
BAD: Final = ("a traceback", "a crash", "a hang")

WHY: Final = """\
Values that are other ones unnoticed: what was spoilt has no checksum that is compared. There is one
  zlib   Adler-32 of each block in ROOT; gzip in Parquet: CRC-32 of each page
  lzma   CRC-32 of each block
  lz4    XXH64 of each block in ROOT; none in Parquet
  zstd   none: ROOT and Arrow write zstd without the checksum that it could have
  none   none
and of blocks only that are compressed, which those are not that do not shrink. Beside them, TTree
has no checksum; RNTuple has some, which uproot does not compare; Parquet could have one of each
page, which Arrow does not write unless asked to."""


def truncated(content: bytearray, rng: random.Random) -> None:
    """As an interrupted copy leaves it."""
    del content[rng.randrange(len(content)) :]


def flipped(content: bytearray, rng: random.Random) -> None:
    """As memory or a cable does it: one to eight bits."""
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def zeroed(content: bytearray, rng: random.Random) -> None:
    """As a file system does it that lost a block."""
    start, size = rng.randrange(len(content)), 1 << rng.randint(0, 12)
    content[start : start + size] = bytes(len(content[start : start + size]))


def overwritten(content: bytearray, rng: random.Random) -> None:
    """As by another file."""
    start, size = rng.randrange(len(content)), 1 << rng.randint(0, 12)
    content[start : start + size] = rng.randbytes(len(content[start : start + size]))


DAMAGES: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    truncated,
    flipped,
    zeroed,
    overwritten,
)


@dataclass(frozen=True)
class Kind:
    """Of a good file."""

    format: str
    compression: str


@dataclass
class Trial:
    """One damaged file, and what came of it."""

    kind: Kind
    damage: str
    path: Path
    ended: str = ""
    said: Any = ""


def kinds(*formats: str) -> list[Kind]:
    """All compressions of the formats."""
    return [
        Kind(one, compression)
        for one in formats
        for compression in (PARQUET_CODECS if one == "parquet" else COMPRESSION_LEVELS)
    ]


def make(kind: Kind, folder: Path, events: int) -> Path:
    """A good file."""
    fileset = write_fileset(
        folder / f"{kind.format}-{kind.compression}",
        events=events,
        seed=1,
        processes=["ttbar"],
        variations=["nominal"],
        format=kind.format,
        compression=kind.compression,
        cluster=events // 4,
    )
    return Path(next(iter(fileset["ttbar__nominal"]["files"])))


def result(path: Path) -> tuple[str, Any]:
    """What the analysis makes of a file: how it ends, and what it gives or says."""
    fileset, output = path.with_suffix(".json"), path.with_suffix(".out.json")
    metadata = {"process": "ttbar", "variation": "nominal", "xsec": 729.84, "nevts": EVENTS}
    content = {"one": {"files": {str(path): "Events"}, "metadata": metadata}}
    fileset.write_text(json.dumps(content))
    outcome = analysis("run", fileset, "-o", output)
    lines = outcome.error.splitlines()
    if outcome.exit_code == 0:
        made = json.loads(output.read_text())
        output.unlink()
        kept = {name: made[name] for name in ("histograms", "cutflow")}
        return "a result", kept | {"values": values(path)}
    if outcome.exit_code == 2 and len(lines) == 1 and not output.exists():
        return "a sentence", lines[0]
    return "a traceback", outcome.error


def values(path: Path) -> str | None:
    """Digest of what the analysis reads of a file; None if it is not as it was in the shape."""
    names = sorted(INPUTS)
    try:
        if path.suffix == ".parquet":
            read = ak.from_parquet(path, columns=names)
        else:
            with uproot.open(path) as file:
                read = file["Events"].arrays(names)
        form, length, buffers = ak.to_buffers(ak.to_packed(read))
        parts = [
            f"{form.to_json()}, {length}".encode(),
            *(buffers[key] for key in sorted(buffers)),
        ]
        return hashlib.sha256(b"".join(bytes(one) for one in parts)).hexdigest()
    except Exception:  # noqa: BLE001  (of a damaged file, any)
        return None


def _work(paths: Sequence[Path], pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(10)
    for path in paths:
        try:
            pipe.send(result(path))
        except Exception as error:  # noqa: BLE001  (what the campaign is after)
            pipe.send(("a traceback", repr(error)))


def attempt(trials: Sequence[Trial], patience: float = PATIENCE) -> None:
    """Do trials one after the other, in a process that may crash or hang; then in another."""
    context = multiprocessing.get_context("spawn")
    todo = list(trials)
    while todo:
        receive, send = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=([one.path for one in todo], send))
        worker.start()
        send.close()
        while todo:
            trial = todo[0]
            if not receive.poll(patience):
                trial.ended = "a hang"
            else:
                try:
                    trial.ended, trial.said = receive.recv()
                except EOFError:
                    trial.ended = "a crash"
            todo.pop(0)
            if trial.ended in {"a hang", "a crash"}:
                break
        worker.kill()
        worker.join()
        receive.close()


def campaign(
    chosen: Sequence[Kind], number: int, seed: int, folder: Path, events: int = EVENTS
) -> list[Trial]:
    """`number` damaged files, the kinds and damages in turn."""
    rng = random.Random(seed)
    good = {kind: Trial(kind, "none", make(kind, folder, events)) for kind in chosen}
    trials = []
    for count in range(number):
        kind = chosen[count % len(chosen)]
        damage = DAMAGES[count // len(chosen) % len(DAMAGES)]
        path = good[kind].path
        content = bytearray(path.read_bytes())
        damage(content, rng)
        spoilt = folder / f"{count}{path.suffix}"
        spoilt.write_bytes(content)
        trials.append(Trial(kind, damage.__name__, spoilt))
    attempt([*good.values(), *trials])
    for kind, one in good.items():
        if one.ended != "a result" or one.said["values"] is None:
            msg = f"the good file of {kind} ends in {one.ended}: {one.said}"
            raise RuntimeError(msg)
    for trial in trials:
        if trial.ended == "a result":
            same = trial.said == good[trial.kind].said
            trial.ended = "all as it was" if same else "other values"
    return trials


def table(trials: Sequence[Trial], by: Callable[[Trial], str], title: str) -> Table:
    """How trials ended."""
    shown = Table(title, "files", *ENDS, *BAD)
    names = list(dict.fromkeys(map(by, trials)))
    for name in (*names, "all of them"):
        mine = [one for one in trials if name in {by(one), "all of them"}]
        counts = Counter(one.ended for one in mine)
        shown.add_row(name, str(len(mine)), *(str(counts[end]) for end in (*ENDS, *BAD)))
    return shown


def main() -> None:
    """Run the campaign, print its tables; exit status 1 if anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=int, default=300, help="damaged ROOT files")
    parser.add_argument("--parquet", type=int, default=120, help="damaged Parquet files")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    console, bad = Console(width=150), False
    root = [one for one, suffix in FORMATS.items() if suffix == ".root"]
    with tempfile.TemporaryDirectory(prefix="damage-") as name:
        for number, formats in ((asked.root, root), (asked.parquet, ["parquet"])):
            folder = Path(name, *formats)
            folder.mkdir(parents=True)
            trials = campaign(kinds(*formats), number, asked.seed, folder)
            console.print(
                table(trials, lambda one: f"{one.kind.format}, {one.kind.compression}", "kind")
            )
            console.print(table(trials, lambda one: one.damage, "damage"))
            for one in trials:
                if one.ended in BAD:
                    print(one, file=sys.stderr)  # noqa: T201
                    bad = True
    print(WHY)  # noqa: T201
    print(f"{footer('damage')}\nseed {asked.seed}")  # noqa: T201
    sys.exit(int(bad))


if __name__ == "__main__":
    main()
