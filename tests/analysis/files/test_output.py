"""Results go where they are asked to, whole or not at all, and replace nothing else."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from analysis.errors import InputError
from analysis.files import output


def write(path: Path, text: str = "result") -> None:
    output.check(path)
    with output.whole(path) as part:
        part.write_text(text)


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("before")
    with output.whole(path) as part:
        part.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "out.json"

    def fail() -> None:
        with output.whole(path) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(tmp_path.iterdir())


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "target.json"
    for before in ("there", None):
        if before:
            target.write_text(before)
        else:
            target.unlink()
        link = tmp_path / f"{before}.json"
        link.symlink_to(target)
        write(link)
        assert link.is_symlink()
        assert target.read_text() == "result"
        assert not list(tmp_path.glob(".*"))


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe)
    reader.join(timeout=30)
    assert read == ["result"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(os.getuid() != 0, reason="making a device takes root")
def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    device = tmp_path / "null.json"
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    write(device)
    assert stat.S_ISCHR(device.stat().st_mode)


def test_standard_output_may_be_a_file(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from analysis.files import output\n"
        "print('before', flush=True)\n"
        "with output.whole(Path('/dev/stdout')) as part: part.write_text('result\\n')\n"
        "print('after')"
    )
    got = tmp_path / "got"
    with got.open("w") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert got.read_text().split() == ["before", "result", "after"]


def test_what_cannot_be_written_is_said_before(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder: name a file in it"):
        output.check(tmp_path)
    with pytest.raises(InputError, match=r"there is no folder .*missing.* make it first"):
        output.check(tmp_path / "missing" / "out.json")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="leads to itself: remove it"):
        output.check(tmp_path / "loop")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        output.check_folder(tmp_path / "file" / "pictures")
    output.check_folder(tmp_path / "new" / "pictures")


def test_an_input_is_not_replaced(tmp_path: Path) -> None:
    fileset = tmp_path / "fileset.json"
    fileset.touch()
    (tmp_path / "link.json").symlink_to(fileset)
    for path in (fileset, tmp_path / "link.json", tmp_path / "." / "fileset.json"):
        with pytest.raises(InputError, match="would be replaced"):
            output.check(path, inputs=[fileset])
    output.check(tmp_path / "other.json", inputs=[fileset, tmp_path / "not there"])
