"""Numbers as people read them."""

from __future__ import annotations

import pytest

from perf.records.format import data_size, duration, label


@pytest.mark.parametrize(
    ("number", "text"), [(16, "16 B"), (1_024, "1 kB"), (100_000, "100 kB"), (16_000_000, "16 MB")]
)
def test_data_size(number: int, text: str) -> None:
    assert data_size(number) == text


@pytest.mark.parametrize(
    ("events", "text"),
    [(0, "0"), (40, "40"), (1_000, "1e3"), (250_000, "25e4"), (1_000_000, "1e6"), (1_234, "1234")],
)
def test_label(events: int, text: str) -> None:
    assert label(events) == text
    assert int(float(text)) == events


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(123.4, "123 s"), (1.0, "1.00 s"), (0.0123, "12.3 ms"), (4.5e-5, "45.0 us"), (2e-8, "20 ns")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
