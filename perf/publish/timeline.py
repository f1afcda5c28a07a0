"""The time axis of the history: releases and commits of coffea with their dates.

asv expects results of commits of a git repository. Ours are of releases, which are on PyPI but
perhaps in no clone, and of commits of any clone. A file lists them with their dates, and `Timeline`
answers asv's questions about a repository from it: publishing needs neither a clone nor a network,
and no result is lost because a clone lacks a tag.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from asv.repo import NoSuchNameError, Repo

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

KIND: Final = "timeline"
"""Value of ``dvcs`` in asv's configuration."""

BRANCH: Final = "master"
OLD_LINE: Final = "0.7"
"""Branch of the releases of coffea 0.7 that are later than the first release by calendar."""

MILLISECONDS_AN_HOUR: Final = 3_600_000


@dataclass(frozen=True)
class Entry:
    """A release (named ``v2026.9.0``) or commit (hexadecimal) of coffea, and its date."""

    name: str
    date: datetime
    release: bool

    @property
    def old_line(self) -> bool:
        """Whether it is a release of coffea 0.7."""
        return self.release and self.name.startswith(f"v{OLD_LINE}.")

    @property
    def milliseconds(self) -> int:
        """Milliseconds since 1970, as in asv and JavaScript."""
        return round(self.date.timestamp() * 1000)


def branches(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries by branch, each oldest first.

    A release of 0.7 may be years later than the first release by calendar. In one line with these
    it would look like a step and back, although it precedes and succeeds none of them.
    """
    new = [entry.date for entry in entries if entry.release and not entry.old_line]
    first = min(new, default=None)
    main = [e for e in entries if not e.old_line or first is None or e.date < first]
    old = [entry for entry in entries if entry.old_line]
    return {BRANCH: main, **({OLD_LINE: old} if not set(old) <= set(main) else {})}


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write the file that `Timeline` reads, oldest first."""
    ordered = sorted(set(entries), key=lambda entry: (entry.date, entry.name))
    path.write_text(
        json.dumps(
            [{**asdict(entry), "date": entry.date.isoformat()} for entry in ordered], indent=1
        )
    )


def read(path: Path) -> list[Entry]:
    """The entries of a file that `write` wrote."""
    return [
        Entry(line["name"], datetime.fromisoformat(line["date"]).astimezone(UTC), line["release"])
        for line in json.loads(path.read_text())
    ]


class Timeline(Repo):
    """A list of entries that asv takes for a repository; `url` is the path of the file."""

    dvcs = KIND

    def __init__(self, url: str, mirror_path: str) -> None:  # noqa: ARG002
        self._default_branch = BRANCH
        self._entries = read(Path(url))
        self._number = {entry.name: number for number, entry in enumerate(self._entries)}

    @classmethod
    def url_match(cls, url: str) -> bool:  # noqa: ARG003
        """Never: asv chooses this class by its name."""
        return False

    def pull(self) -> None:
        """Nothing to fetch."""

    def get_hash_from_name(self, name: str | None) -> str:
        """A name is its own hash; that of the branch is the newest entry's."""
        if name in {None, BRANCH}:
            return self._entries[-1].name
        if name not in self._number:
            raise NoSuchNameError(name)
        return str(name)

    def get_name_from_hash(self, commit: str) -> str | None:
        """The name of a release; None for a commit."""
        return commit if self._entries[self._number[commit]].release else None

    def get_tags(self) -> dict[str, str]:
        """All releases, oldest first."""
        return {entry.name: entry.name for entry in self._entries if entry.release}

    def get_date(self, hash: str) -> int:
        """Milliseconds since 1970."""
        return self._entries[self._number[hash]].milliseconds

    def get_date_from_name(self, name: str) -> int:
        """As `get_date`."""
        return self.get_date(self.get_hash_from_name(name))

    def get_branch_commits(self, branch: str) -> list[str]:
        """The entries of a branch, newest first."""
        return [entry.name for entry in reversed(branches(self._entries)[branch])]

    def get_revisions(self, commits: Collection[str]) -> dict[str, int]:
        """As `revisions`, for some entries."""
        every = self.revisions(self._entries)
        return {name: number for name, number in every.items() if name in commits}

    @staticmethod
    def revisions(entries: Sequence[Entry]) -> dict[str, int]:
        """Hours since 1970, so that the axis is time; the next free one if two are equal."""
        hours: dict[str, int] = {}
        last = -1
        for entry in entries:
            last = max(last + 1, entry.milliseconds // MILLISECONDS_AN_HOUR)
            hours[entry.name] = last
        return hours

    def get_range_spec(self, commit_a: str, commit_b: str) -> str:
        """Entries after the first, up to the second."""
        return f"{commit_a}..{commit_b}"

    def get_new_range_spec(self, latest_result: str, branch: str | None = None) -> str:  # noqa: ARG002
        """Entries after one, up to the newest."""
        return self.get_range_spec(latest_result, self._entries[-1].name)

    def get_hashes_from_range(self, range: str) -> list[str]:
        """The entries of a range of `get_range_spec`, newest first."""
        first, _, last = range.partition("..")
        begin, end = self._number[first], self._number[self.get_hash_from_name(last)]
        return [entry.name for entry in reversed(self._entries[begin + 1 : end + 1])]

    def checkout(self, path: Any, commit_hash: str) -> None:
        """There is nothing to check out."""
        raise NotImplementedError
