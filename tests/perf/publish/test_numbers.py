"""Numbers with units: three figures, in the unit that is closest."""

from __future__ import annotations

import pytest

from perf.publish.numbers import interval, measured, percent, span


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "seconds", "12.3 ms"),
        (0.9999e-3, "seconds", "1.00 ms"),
        (0.9994e-3, "seconds", "999 \N{MICRO SIGN}s"),
        (9.996, "seconds", "10.0 s"),
        (3.2e-10, "seconds", "0.320 ns"),
        (0, "seconds", "0 ns"),
        (840e6, "bytes", "840 MB"),
        (52_191, "instructions", "52,191 instructions"),
        (None, "seconds", "-"),
    ],
)
def test_a_value_has_three_figures_and_its_unit(value: float | None, unit: str, text: str) -> None:
    assert measured(value, unit) == text


def test_ends_have_one_unit() -> None:
    assert span(9.9e-4, 1.2e-3, "seconds") == "0.990 to 1.20 ms"
    assert interval(1.18, 1.37) == "+18 % to +37 %"
    assert percent(0.96) == "-4.0 %"
