"""Numbers with their units as the pages show them; templates have these functions as filters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIXES: Final[Mapping[str, tuple[tuple[float, str], ...]]] = {
    "seconds": ((1, "s"), (1e-3, "ms"), (1e-6, "\N{MICRO SIGN}s"), (1e-9, "ns")),
    "bytes": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
}


def scale(value: float, unit: str) -> tuple[float, str]:
    """The factor and the name of the unit in which a value has one to three digits before the point.

    A value is shown as itself divided by the factor.
    """
    known = _PREFIXES.get(unit)
    if known is None:
        return 1.0, unit
    shown = _rounded(abs(value))
    return next(((factor, name) for factor, name in known if shown >= factor), known[-1])


def _rounded(value: float) -> float:
    """To the three figures that are shown: 999.9 microseconds are 1.00 ms."""
    return float(f"{value:.3g}")


def figures(value: float) -> str:
    """Three significant figures, without an exponent: 0.0123, 1.20, 3,450."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "-"
    digits = max(0, 2 - math.floor(math.log10(_rounded(abs(value)))))
    return f"{value:,.{digits}f}"


def measured(value: float | None, unit: str) -> str:
    """A value with its unit: 12.3 ms, 840 MB, 52,191 instructions; "-" for None."""
    if value is None:
        return "-"
    factor, name = scale(value, unit)
    return f"{figures(value / factor)} {name}"


def span(low: float, high: float, unit: str) -> str:
    """Two ends in one unit: 12.1 to 13.4 ms."""
    factor, name = scale(max(abs(low), abs(high)), unit)
    return f"{figures(low / factor)} to {figures(high / factor)} {name}"


def percent(ratio: float) -> str:
    """A ratio as a change: +27 %, -4.0 %, and from a tenfold one on 12.3 times."""
    change = 100 * (ratio - 1)
    if ratio >= 10:
        return f"{figures(ratio)} times"
    return f"{change:+.0f} %" if abs(change) >= 10 else f"{change:+.1f} %"


def interval(low: float, high: float) -> str:
    """The ends of a ratio's interval as changes: +18 % to +37 %."""
    return f"{percent(low)} to {percent(high)}"


FILTERS: Final = {each.__name__: each for each in (measured, span, percent, interval, figures)}
"""Of the templates."""
