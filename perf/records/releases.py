"""Which versions of coffea are releases, and when they came out."""

from __future__ import annotations

from datetime import UTC, datetime

from packaging.version import InvalidVersion, Version


def release_date(version: str) -> datetime | None:
    """The day on which a release of coffea came out; None if it is not known."""
    from perf.environments import releases  # noqa: PLC0415

    day = releases().get(version)
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None


def is_release(version: str) -> bool:
    """Whether a version of coffea is a release, and not a commit after one."""
    try:
        parsed = Version(version)
    except InvalidVersion:
        return False
    return not (parsed.is_devrelease or parsed.local)
