"""``loopsy.db``: SQLite in WAL mode. One connection writes (from one thread), another reads.

Writes come as batches of operations that commit together: with ``synchronous=FULL`` a commit costs one fsync, however
many operations share it. What was committed is on disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loopsy.errors import DataDirError, LoopsyError, StorageFailed

Operation = Callable[[sqlite3.Connection], Any]
"""Runs inside the batch's transaction. It must decide (and raise a LoopsyError) before it writes."""

SCHEMA = (
    """
    CREATE TABLE context (
        key TEXT PRIMARY KEY, value TEXT NOT NULL, from_node_id TEXT NOT NULL,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, ttl REAL, expires_at INTEGER
    );
    CREATE INDEX context_expires_at ON context (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE peers (node_id TEXT PRIMARY KEY, record TEXT NOT NULL);
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    """,
    """
    CREATE TABLE uploads (upload_id TEXT PRIMARY KEY, record TEXT NOT NULL);
    """,
    """
    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, direction TEXT NOT NULL, peer TEXT NOT NULL, id TEXT NOT NULL,
        from_ TEXT NOT NULL, from_node_id TEXT NOT NULL, to_ TEXT NOT NULL, type TEXT NOT NULL, body TEXT NOT NULL,
        ts INTEGER NOT NULL, state TEXT NOT NULL, state_at INTEGER NOT NULL, thread TEXT NOT NULL, origin TEXT NOT NULL,
        depth INTEGER NOT NULL, received_at INTEGER, in_reply_to TEXT, claimed_from TEXT, expires_at INTEGER,
        reason TEXT, attempts INTEGER NOT NULL DEFAULT 0, owed INTEGER NOT NULL DEFAULT 0,
        v1 INTEGER NOT NULL DEFAULT 0, hidden INTEGER NOT NULL DEFAULT 0,
        UNIQUE (direction, peer, id)
    );
    CREATE INDEX messages_box ON messages (direction, seq);
    CREATE INDEX messages_id ON messages (id);
    CREATE INDEX messages_thread ON messages (thread);
    CREATE INDEX messages_unread ON messages (seq) WHERE state = 'unread';
    CREATE INDEX messages_unread_of ON messages (peer, seq) WHERE state = 'unread';
    CREATE INDEX messages_queued ON messages (peer, seq) WHERE state = 'queued';
    CREATE INDEX messages_owed ON messages (peer, seq) WHERE owed = 1;
    CREATE INDEX messages_due ON messages (expires_at) WHERE state IN ('queued', 'unread') AND expires_at IS NOT NULL;
    """,
    """
    CREATE TABLE tasks (
        number INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL,
        agent TEXT NOT NULL, status TEXT NOT NULL, completed_at INTEGER, bytes INTEGER NOT NULL DEFAULT 0,
        worktree TEXT, asked TEXT NOT NULL, record TEXT NOT NULL
    );
    CREATE INDEX tasks_owner ON tasks (owner, number);
    CREATE INDEX tasks_active ON tasks (number) WHERE completed_at IS NULL;
    CREATE TABLE task_events (place INTEGER PRIMARY KEY, at INTEGER NOT NULL, line TEXT NOT NULL);
    """,
    """
    CREATE TABLE jobs (
        job_id TEXT PRIMARY KEY, owner TEXT NOT NULL, born REAL, started_at INTEGER NOT NULL, record TEXT NOT NULL
    );
    """,
)
"""Step N brings ``PRAGMA user_version`` from N to N + 1. Steps are never changed, only added."""
BUSY_MS = 10_000
PAIRING_PREPARED = "pairing-prepared"
"""The fact that a pairing is agreed on and not known to be kept by both."""


class Database:
    """Both connections. ``write`` is called from one thread only, all else from the reactor's."""

    def __init__(self, path: Path) -> None:
        """Open, or make, the database.

        :raises DataDirError: it is damaged, newer than this loopsy, or can't be opened.
        """
        try:
            path.touch(mode=0o600)
            self._writer = self._connect(path)
            self._writer.execute("PRAGMA journal_mode=WAL")
            self._writer.execute("PRAGMA synchronous=FULL")
            migrate(self._writer, path)
            self._reader = self._connect(path)
            self._reader.execute("PRAGMA query_only=ON")
        except sqlite3.DatabaseError as error:
            raise DataDirError(
                f"{path} can't be used: {error}", hint="restore it from a backup, or move it away to start afresh"
            ) from None
        except OSError as error:
            raise DataDirError(f"{path} can't be used: {error.strerror}") from None

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        connection.execute("PRAGMA cache_size=-2048")  # 2 MiB: the working set is small, the daemon stays lean
        connection.execute("PRAGMA journal_size_limit=16777216")
        return connection

    @property
    def reader(self) -> sqlite3.Connection:
        """For queries. What ``write`` returned from is seen."""
        return self._reader

    def write(self, operations: Sequence[Operation]) -> list[Any]:
        """Run a batch in one transaction and commit it. An operation's LoopsyError stands in its place in the answer.

        :raises StorageFailed: nothing of the batch was kept.
        """
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            results = [self._run(operation) for operation in operations]
            self._writer.execute("COMMIT")
        except BaseException as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StorageFailed(f"the daemon could not write its database, nothing was changed: {error}") from error
            raise
        return results

    def _run(self, operation: Operation) -> Any:
        try:
            return operation(self._writer)
        except LoopsyError as refusal:
            return refusal

    def close(self) -> None:
        """Close both; the write-ahead log is folded in."""
        self._reader.close()
        self._writer.close()


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to this version, each step in a transaction of its own.

    :raises DataDirError: the database is newer than this loopsy.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(SCHEMA):
        raise DataDirError(f"{path} was written by a newer loopsy (schema {version}; this one knows {len(SCHEMA)})")
    for number in range(version, len(SCHEMA)):
        connection.executescript(f"BEGIN; {SCHEMA[number]}; PRAGMA user_version={number + 1}; COMMIT;")


def get_fact(connection: sqlite3.Connection, name: str) -> str | None:
    """A remembered fact (the audit log's head …)."""
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def set_fact(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Remember a fact."""
    connection.execute(
        "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
    )


def delete_fact(connection: sqlite3.Connection, name: str) -> None:
    """Forget a fact."""
    connection.execute("DELETE FROM facts WHERE name = ?", (name,))


def facts_below(connection: sqlite3.Connection, prefix: str) -> dict[str, str]:
    """The facts whose names start with ``prefix``, by the rest of their names."""
    rows = connection.execute("SELECT name, value FROM facts WHERE substr(name, 1, ?) = ?", (len(prefix), prefix))
    return {name[len(prefix) :]: value for name, value in rows.fetchall()}
