"""Numbers as people read them: events, bytes and seconds in a few characters."""

from __future__ import annotations


def label(events: int) -> str:
    """A number of events in short: 1e5, 25e4, 1234."""
    digits = str(events)
    mantissa = digits.rstrip("0") or "0"
    zeros = len(digits) - len(mantissa)
    return f"{mantissa}e{zeros}" if zeros > 2 else digits


def data_size(number: int) -> str:
    """A number of bytes in short: 1 kB, 16 MB."""
    for unit, scale in (("MB", 10**6), ("kB", 10**3)):
        if number >= scale:
            return f"{number / scale:.0f} {unit}"
    return f"{number} B"


def duration(seconds: float) -> str:
    """Seconds with three figures and a unit: 12.3 us."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:#.3g}".rstrip(".") + f" {unit}"
    return f"{seconds * 1e9:.0f} ns"


def rate(events: float | None) -> str:
    """Events a second: 1.23M, 45.6k."""
    if events is None:
        return "-"
    for unit, scale in (("M", 1e-6), ("k", 1e-3)):
        if events * scale >= 1:
            return f"{events * scale:#.3g}".rstrip(".") + unit
    return f"{events:.0f}"
