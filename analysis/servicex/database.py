"""The endpoint's record of transforms, in SQLite: it outlives the process."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from contextlib import contextmanager
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

RUNNING: Final = "Running"
COMPLETE: Final = "Complete"
CANCELED: Final = "Canceled"

SUCCESS: Final = "success"
FAILURE: Final = "failure"

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS datasets (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, last_used TEXT NOT NULL,
    stale INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS dataset_files (
    id INTEGER PRIMARY KEY, dataset INTEGER NOT NULL REFERENCES datasets(id), path TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS transforms (
    id INTEGER PRIMARY KEY, request_id TEXT UNIQUE NOT NULL, title TEXT,
    dataset INTEGER NOT NULL REFERENCES datasets(id),
    selection TEXT NOT NULL, codegen TEXT NOT NULL, result_format TEXT NOT NULL,
    status TEXT NOT NULL, submitted TEXT NOT NULL, finished TEXT
);
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, transform INTEGER NOT NULL REFERENCES transforms(id) ON DELETE CASCADE,
    path TEXT NOT NULL, object TEXT NOT NULL,
    status TEXT, claimed INTEGER NOT NULL DEFAULT 0, reason TEXT,
    seconds REAL, events INTEGER, bytes INTEGER, sha256 TEXT, created TEXT,
    fetched INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS files_by_transform ON files(transform);
"""
"""A file without status is still to be done; it is `claimed` while a thread transforms it."""
BUSY_SECONDS: Final = 1.0
"""How long a call waits for others, of this process or another, before it fails."""


class Task(NamedTuple):
    """A file to transform."""

    id: int
    transform: int
    request_id: str
    codegen: str
    selection: str
    result_format: str
    path: str
    object: str


class State:
    """Transforms, their files and data sets.

    Every method raises sqlite3.Error if the database cannot be read or written: the disk is full,
    or another process has locked it.
    """

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)
        self._lock = threading.RLock()
        self._database = sqlite3.connect(
            path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
        )
        self._last = datetime.min.replace(tzinfo=UTC)
        try:
            self._prepare()
        except BaseException:  # such as of a file that is no database
            self._database.close()
            raise

    def _prepare(self) -> None:
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode=WAL")
        # Records lost in a power failure are only transformed again.
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute("PRAGMA foreign_keys=ON")
        self._database.executescript(SCHEMA)
        # Files that an earlier process was transforming when it ended.
        self._database.execute("UPDATE files SET claimed = 0 WHERE status IS NULL")
        if row := self._one("SELECT max(created) AS last FROM files"):
            self._last = _time(row["last"]) if row["last"] else self._last

    def probe(self) -> None:
        """Write to the database, to find out whether that is possible."""
        with self._transaction() as database:
            database.execute("PRAGMA user_version = 1")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        if not self._lock.acquire(timeout=BUSY_SECONDS):
            msg = "the database is busy"
            raise sqlite3.OperationalError(msg)
        try:
            yield self._database
        finally:
            self._lock.release()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._alone() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                # Some errors, such as a full disk, have already rolled it back.
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    def _all(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._alone() as database:
            return database.execute(query, values).fetchall()

    def _one(self, query: str, *values: Any) -> sqlite3.Row | None:
        return next(iter(self._all(query, *values)), None)

    def add(
        self,
        request_id: str,
        title: str | None,
        files: Sequence[tuple[str, str]],
        *,
        selection: str,
        codegen: str,
        result_format: str,
    ) -> None:
        """Add a transform; `files` has the path of each file, and of its object the name."""
        now = timestamp(datetime.now(UTC))
        paths = [path for path, _ in files]
        name = hashlib.sha256(" ".join(paths).encode()).hexdigest()
        with self._transaction() as database:
            known = database.execute("SELECT id FROM datasets WHERE name = ?", (name,)).fetchone()
            if known:
                dataset = known["id"]
                database.execute(
                    "UPDATE datasets SET last_used = ?, stale = 0 WHERE id = ?", (now, dataset)
                )
            else:
                dataset = database.execute(
                    "INSERT INTO datasets (name, last_used) VALUES (?, ?)", (name, now)
                ).lastrowid
                database.executemany(
                    "INSERT INTO dataset_files (dataset, path) VALUES (?, ?)",
                    [(dataset, path) for path in paths],
                )
            transform = database.execute(
                "INSERT INTO transforms (request_id, title, dataset, selection, codegen, "
                "result_format, status, submitted) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (request_id, title, dataset, selection, codegen, result_format, RUNNING, now),
            ).lastrowid
            database.executemany(
                "INSERT INTO files (transform, path, object) VALUES (?, ?, ?)",
                [(transform, path, name) for path, name in files],
            )

    def claim(self) -> Task | None:
        """The next file to transform, for this caller alone; None if there is none."""
        with self._transaction() as database:
            row = database.execute(
                "SELECT files.id, transform, request_id, codegen, selection, result_format, path, "
                "object FROM files JOIN transforms ON transforms.id = transform "
                "WHERE files.status IS NULL AND NOT claimed AND transforms.status = ? "
                "ORDER BY files.id LIMIT 1",
                (RUNNING,),
            ).fetchone()
            if row is None:
                return None
            database.execute("UPDATE files SET claimed = 1 WHERE id = ?", (row["id"],))
            return Task(*row)

    def release(self, task: Task) -> None:
        """Give a claimed file back."""
        with self._transaction() as database:
            database.execute("UPDATE files SET claimed = 0 WHERE id = ?", (task.id,))

    def finish(
        self,
        task: Task,
        seconds: float,
        *,
        events: int = 0,
        size: int = 0,
        sha256: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Record the outcome of a file; it failed if there is a reason."""
        with self._transaction() as database:
            # Clients ask for results later than the last one they saw, so no two times are equal.
            self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
            database.execute(
                "UPDATE files SET status = ?, claimed = 0, reason = ?, seconds = ?, events = ?, "
                "bytes = ?, sha256 = ?, created = ? WHERE id = ? AND status IS NULL",
                (
                    *(SUCCESS if reason is None else FAILURE, reason, seconds, events, size),
                    *(sha256, timestamp(self._last), task.id),
                ),
            )
            left = database.execute(
                "SELECT count(*) FROM files WHERE transform = ? AND status IS NULL",
                (task.transform,),
            ).fetchone()[0]
            if not left:
                database.execute(
                    "UPDATE transforms SET status = ?, finished = ? WHERE id = ? AND status = ?",
                    (COMPLETE, timestamp(datetime.now(UTC)), task.transform, RUNNING),
                )

    def cancel(self, request_id: str) -> bool:
        """Cancel a transform; whether it was running."""
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE transforms SET status = ?, finished = ? WHERE request_id = ? "
                "AND status = ?",
                (CANCELED, timestamp(datetime.now(UTC)), request_id, RUNNING),
            ).rowcount
        return bool(changed)

    def object(self, request_id: str, name: str) -> dict[str, Any] | None:
        """The file that a delivered object was made of; None if there is no such object."""
        row = self._one(
            "SELECT files.* FROM files JOIN transforms ON transforms.id = transform "
            "WHERE request_id = ? AND object = ? AND files.status = ?",
            *(request_id, name, SUCCESS),
        )
        return dict(row) if row else None

    def fetched(self, file: int) -> None:
        """Record that all of an object was fetched."""
        with self._transaction() as database:
            database.execute("UPDATE files SET fetched = 1 WHERE id = ?", (file,))

    def delete(self, request_id: str) -> None:
        """Delete a transform and its files."""
        with self._transaction() as database:
            database.execute("DELETE FROM transforms WHERE request_id = ?", (request_id,))

    def wanted(self, task: Task) -> bool:
        """Whether the transform of a file is still running."""
        row = self._one("SELECT status FROM transforms WHERE id = ?", task.transform)
        return row is not None and row["status"] == RUNNING

    def transform(self, request_id: str) -> dict[str, Any] | None:
        """A transform with the counts of its files; None if there is none of that id."""
        return next(iter(self._transforms("WHERE request_id = ?", request_id)), None)

    def transforms(self) -> list[dict[str, Any]]:
        """All transforms, the oldest first."""
        return self._transforms("")

    def _transforms(self, where: str, *values: Any) -> list[dict[str, Any]]:
        rows = self._all(
            "SELECT transforms.*, datasets.name AS did, count(files.id) AS files, "
            "coalesce(sum(files.status = 'success'), 0) AS completed, "
            "coalesce(sum(files.status = 'failure'), 0) AS failed, "
            "coalesce(sum(files.bytes), 0) AS bytes, "
            "coalesce(sum(files.status = 'success' AND NOT fetched), 0) AS unfetched "
            "FROM transforms JOIN datasets ON datasets.id = dataset "
            f"LEFT JOIN files ON files.transform = transforms.id {where} "
            "GROUP BY transforms.id ORDER BY transforms.id",
            *values,
        )
        return [dict(row) for row in rows]

    def results(self, request_id: str, later_than: datetime | None = None) -> list[dict[str, Any]]:
        """Finished files of a transform, in order of time; only those later than a time if given."""
        after = timestamp(later_than) if later_than else ""
        rows = self._all(
            "SELECT files.* FROM files JOIN transforms ON transforms.id = transform "
            "WHERE request_id = ? AND files.status IS NOT NULL AND created > ? ORDER BY created",
            request_id,
            after,
        )
        return [dict(row) for row in rows]

    def datasets(self, *, stale: bool = False) -> list[dict[str, Any]]:
        """Data sets; deleted ones only with `stale`."""
        rows = self._all(
            "SELECT datasets.*, count(dataset_files.id) AS files FROM datasets "
            "LEFT JOIN dataset_files ON dataset = datasets.id WHERE stale <= ? "
            "GROUP BY datasets.id ORDER BY datasets.id",
            int(stale),
        )
        return [dict(row) for row in rows]

    def dataset_files(self, dataset: int) -> list[dict[str, Any]]:
        """Files of a data set."""
        rows = self._all("SELECT * FROM dataset_files WHERE dataset = ?", dataset)
        return [dict(row) for row in rows]

    def delete_dataset(self, dataset: int) -> None:
        """Mark a data set as deleted."""
        with self._transaction() as database:
            database.execute("UPDATE datasets SET stale = 1 WHERE id = ?", (dataset,))


def timestamp(time: datetime) -> str:
    """A time as it is stored: UTC, to the microsecond, so that text sorts as time does."""
    # The first and last day of the calendar cannot be converted to another zone.
    known = time.tzinfo is not None and 1 < time.year < MAXYEAR
    utc = time.astimezone(UTC) if known else time
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
