"""The time axis of the history: what was measured of coffea, each with its real date.

asv puts results on the commits of a git repository. Ours are of releases, which PyPI has and no
clone need have, and of commits of whichever clone: they are listed, with dates, in a file, and
`Ledger` answers asv's questions about a repository from it. So publishing needs neither a clone
nor a network, and no result is lost because a tag is missing in one.
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

KIND: Final = "ledger"
"""``dvcs`` in asv's configuration."""

BRANCH: Final = "master"
OLD_LINE: Final = "0.7"
"""Branch of releases that were still made of coffea 0.7 after the first one by calendar."""

MILLISECONDS_AN_HOUR: Final = 3_600_000


@dataclass(frozen=True)
class Entry:
    """One thing that was measured.

    Attributes
    ----------
    name
        Of the release (``v2026.9.0``) or the commit (hexadecimal); GitHub finds both.
    date
        Of the release or commit.
    release
        Whether it is a release.
    """

    name: str
    date: datetime
    release: bool

    @property
    def old_line(self) -> bool:
        """Whether it is a release of the line of 0.7."""
        return self.release and self.name.startswith(f"v{OLD_LINE}.")

    @property
    def milliseconds(self) -> int:
        """Since 1970, as asv and JavaScript count."""
        return round(self.date.timestamp() * 1000)


def branches(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries in lines of development, each oldest first.

    A release that mends 0.7 years later stands between two of the main line by its date, and is
    the successor of neither: as one line it would look like a step and back.
    """
    new = [one.date for one in entries if one.release and not one.old_line]
    first = min(new, default=None)
    main = [one for one in entries if not one.old_line or first is None or one.date < first]
    old = [one for one in entries if one.old_line]
    return {BRANCH: main, **({OLD_LINE: old} if not set(old) <= set(main) else {})}


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write the file that `Ledger` reads, oldest first."""
    ordered = sorted(set(entries), key=lambda one: (one.date, one.name))
    path.write_text(
        json.dumps([{**asdict(one), "date": one.date.isoformat()} for one in ordered], indent=1)
    )


def read(path: Path) -> list[Entry]:
    """Entries of a file of `write`."""
    return [
        Entry(one["name"], datetime.fromisoformat(one["date"]).astimezone(UTC), one["release"])
        for one in json.loads(path.read_text())
    ]


class Ledger(Repo):
    """A repository for asv, of which there is only a list.

    Parameters
    ----------
    url
        The file.
    mirror_path
        asv's own; not used.
    """

    dvcs = KIND

    def __init__(self, url: str, mirror_path: str) -> None:  # noqa: ARG002
        self._default_branch = BRANCH
        self._entries = read(Path(url))
        self._number = {one.name: number for number, one in enumerate(self._entries)}

    @classmethod
    def url_match(cls, url: str) -> bool:  # noqa: ARG003
        """Never by its address: it is asked for by name."""
        return False

    def pull(self) -> None:
        """Nothing to fetch."""

    def get_hash_from_name(self, name: str | None) -> str:
        """A name is its own hash; of the branch it is the newest."""
        if name in {None, BRANCH}:
            return self._entries[-1].name
        if name not in self._number:
            raise NoSuchNameError(name)
        return str(name)

    def get_name_from_hash(self, commit: str) -> str | None:
        """The release, if it is one."""
        return commit if self._entries[self._number[commit]].release else None

    def get_tags(self) -> dict[str, str]:
        """All releases, oldest first."""
        return {one.name: one.name for one in self._entries if one.release}

    def get_date(self, hash: str) -> int:
        """In milliseconds since 1970."""
        return self._entries[self._number[hash]].milliseconds

    def get_date_from_name(self, name: str) -> int:
        """As `get_date`."""
        return self.get_date(self.get_hash_from_name(name))

    def get_branch_commits(self, branch: str) -> list[str]:
        """Of a line of development, newest first."""
        return [one.name for one in reversed(branches(self._entries)[branch])]

    def get_revisions(self, commits: Collection[str]) -> dict[str, int]:
        """Of some, as `revisions`."""
        every = self.revisions(self._entries)
        return {name: number for name, number in every.items() if name in commits}

    @staticmethod
    def revisions(entries: Sequence[Entry]) -> dict[str, int]:
        """Hours since 1970, so that the axis is time; the next one if that is taken."""
        found: dict[str, int] = {}
        last = -1
        for one in entries:
            last = max(last + 1, one.milliseconds // MILLISECONDS_AN_HOUR)
            found[one.name] = last
        return found

    def get_range_spec(self, commit_a: str, commit_b: str) -> str:
        """After the first, up to the second."""
        return f"{commit_a}..{commit_b}"

    def get_new_range_spec(self, latest_result: str, branch: str | None = None) -> str:  # noqa: ARG002
        """After one, up to the newest."""
        return self.get_range_spec(latest_result, self._entries[-1].name)

    def get_hashes_from_range(self, range: str) -> list[str]:
        """Of a specification of `get_range_spec`, newest first."""
        first, _, last = range.partition("..")
        begin, end = self._number[first], self._number[self.get_hash_from_name(last)]
        return [one.name for one in reversed(self._entries[begin + 1 : end + 1])]

    def checkout(self, path: Any, commit_hash: str) -> None:
        """There is nothing to check out."""
        raise NotImplementedError
