"""The site: what a real headless Chromium makes of it, from a server and from the disk."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from perf.publish import site
from perf.publish.page import Data
from tests.support.factories import record

if TYPE_CHECKING:
    from pathlib import Path

VENDOR = site.HERE / "static/vendor"


def test_libraries_are_those_of_npm() -> None:
    sums = dict(line.split()[::-1] for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in VENDOR.glob("*.js")}
    assert found == sums
    licences = (VENDOR / "LICENSES").read_text()
    assert all(name in licences for name in sums)


def test_records_without_a_date_are_counted_and_an_empty_store_is_published(
    tmp_path: Path,
) -> None:
    done = site.publish([record(versions={"coffea": "1999.1.0"})], tmp_path / "site", raw=False)
    assert done == site.Published(benchmarks=0, points=0, left_out=1)
    site.publish([], tmp_path / "site")
    assert (tmp_path / "site/index.html").is_file()
    assert not (tmp_path / "site/asv").exists()


def test_data_are_a_script_and_the_same_as_json_and_csv(tmp_path: Path) -> None:
    site._write(tmp_path / "a.b", "a.b", Data({"x": [1, 2]}, [{"n": 1, "v": 0.5}]))
    assert (tmp_path / "a.b.js").read_text() == 'site.data("a.b",{"x":[1,2]});\n'
    assert json.loads((tmp_path / "a.b.json").read_text()) == {"x": [1, 2]}
    assert (tmp_path / "a.b.csv").read_text() == "n,v\n1,0.5\n"
