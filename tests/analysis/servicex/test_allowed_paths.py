"""An endpoint reads nothing but what it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from analysis.servicex.allowed_paths import NotAllowedError, Roots

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """One folder and one server."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "file").touch()
    (tmp_path / "out" / "file").touch()
    return Roots.of((tmp_path / "in", "root://server:1094//data/"))


def test_what_is_in_a_folder(roots: Roots, tmp_path: Path) -> None:
    inside = str(tmp_path / "in" / "file")
    assert roots.resolve(inside) == inside
    assert roots.resolve(f"file://{inside}") == inside
    assert roots.resolve(str(tmp_path / "out" / ".." / "in" / "file")) == inside
    assert roots.resolve("root://server:1094//data/x.root") == "root://server:1094//data/x.root"


def test_a_link_is_what_it_leads_to(roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "out" / "link").symlink_to(tmp_path / "in" / "file")
    assert roots.resolve(str(tmp_path / "out" / "link")) == str(tmp_path / "in" / "file")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out" / "file")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in" / "loop")
    for path in ("in/link", "in/folder/file", "in/loop"):
        with pytest.raises(NotAllowedError, match="not in the folders"):
            roots.resolve(str(tmp_path / path))


@pytest.mark.parametrize(
    "path",
    [
        "{0}/out/file",
        "{0}/in/../out/file",
        "{0}/inside",
        "{0}/in/file\0.root",
        "{0}/in/fi\nle",
        "{0}/in/fil*",
        "{0}/in/fil?",
        "{0}/in/[f]ile",
        "file",
        "in/file",
        "/etc/passwd",
        "file:///etc/passwd",
        "",
        "http://server:1094//data/x",
        "root://server:1095//data/x",
        "root://server//data/x",
        "root://other@server:1094//data/x",
        "root://server:1094@other//data/x",
        "root://server:1094//data/../x",
        "root://server:1094//data/%2e%2e/x",
        "root://server:1094//other/x",
        "s3://bucket/x",
        "simplecache::file:///etc/passwd",
        "simplecache::file://{0}/in/file",
    ],
)
def test_what_is_outside(path: str, roots: Roots, tmp_path: Path) -> None:
    with pytest.raises(NotAllowedError, match="not in the folders"):
        roots.resolve(path.format(tmp_path))


@pytest.mark.parametrize("root", ["/no/such/folder", "s3://bucket", "http://"])
def test_roots_that_are_none(root: str) -> None:
    with pytest.raises(NotAllowedError, match=r"no folder|names no server"):
        Roots.of((root,))
