"""Tasks and their events in SQL.

An event's ``place`` holds its task's number and its own (``number << 24 | seq``), so that a task's events lie together
and in order with no other index. What the wire shows is stored as its JSON text, and sent on as it lies there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from attrs import frozen

from loopsy.core.principals import LOCAL
from loopsy.wire.tasks import PENDING

SEQ_BITS = 24
PAGE_ROWS = 16
"""A task may hold a prompt of 256 KiB and a result of 1 MiB: a page of a listing stays around 20 MiB at the worst."""
COLUMNS = "number, task_id, owner, agent, status, completed_at, bytes, worktree, asked, record"


@frozen
class Row:
    """A task as it is stored."""

    number: int
    task_id: str
    owner: str
    agent: str
    status: str
    completed_at: int | None
    bytes: int
    worktree: str | None
    asked: str
    """The request (JSON), and where a later start of it needs it."""
    record: str
    """The Task of the wire (JSON)."""


@frozen
class Line:
    """An event: its number, its time (ms), and its JSON as the wire shows it."""

    seq: int
    at: int
    text: str


def has_any(db: sqlite3.Connection) -> bool:
    """Whether one is remembered."""
    return db.execute("SELECT 1 FROM tasks LIMIT 1").fetchone() is not None


def insert(
    db: sqlite3.Connection, task_id: str, owner: str, agent: str, worktree: str | None, asked: str, record: str
) -> int:
    """A new task; its number."""
    cursor = db.execute(
        "INSERT INTO tasks (task_id, owner, agent, status, worktree, asked, record) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (task_id, owner, agent, PENDING, worktree, asked, record),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def update(
    db: sqlite3.Connection,
    number: int,
    status: str,
    completed_at: int | None,
    record: str,
    worktree: str | None = None,
) -> None:
    """What it has become."""
    db.execute(
        "UPDATE tasks SET status = ?, completed_at = ?, record = ?, worktree = coalesce(?, worktree) WHERE number = ?",
        (status, completed_at, record, worktree, number),
    )


def append(db: sqlite3.Connection, number: int, lines: Sequence[Line]) -> None:
    """More events, numbered on from the last."""
    base = number << SEQ_BITS
    db.executemany(
        "INSERT INTO task_events VALUES (?, ?, ?)", [(base | line.seq, line.at, line.text) for line in lines]
    )
    size = sum(len(line.text) for line in lines)
    db.execute("UPDATE tasks SET bytes = bytes + ? WHERE number = ?", (size, number))


def get(db: sqlite3.Connection, task_id: str) -> Row | None:
    """One task."""
    row = db.execute(f"SELECT {COLUMNS} FROM tasks WHERE task_id = ?", (task_id,)).fetchone()  # noqa: S608 - constants
    return None if row is None else Row(*row)


def has_session(db: sqlite3.Connection, owner: str, agent: str, session_id: str) -> bool:
    """Whether an owner's task of that agent was in this session."""
    query = "SELECT 1 FROM tasks WHERE owner = ? AND agent = ? AND json_extract(record, '$.sessionId') = ? LIMIT 1"
    return db.execute(query, (owner, agent, session_id)).fetchone() is not None


def active(db: sqlite3.Connection) -> list[Row]:
    """Those that are not over, oldest first."""
    rows = db.execute(f"SELECT {COLUMNS} FROM tasks WHERE completed_at IS NULL ORDER BY number")  # noqa: S608
    return [Row(*row) for row in rows.fetchall()]


def totals(db: sqlite3.Connection) -> int:
    """How many tasks are held."""
    (total,) = db.execute("SELECT count(*) FROM tasks").fetchone()
    return int(total)


def pages(
    db: sqlite3.Connection, owner: str | None, agent: str | None, before: int | None, over: bool | None = None
) -> Iterator[list[Row]]:
    """Tasks, newest first, in pages: of one owner (None: of all), of one agent, with numbers below ``before``, those
    that are ``over`` or not. Between two pages the table may change."""
    at = before if before is not None else 2**62
    query = (
        f"SELECT {COLUMNS} FROM tasks WHERE number < :at AND (:owner IS NULL OR owner = :owner)"  # noqa: S608
        " AND (:agent IS NULL OR agent = :agent) AND (:over IS NULL OR (completed_at IS NOT NULL) = :over)"
        " ORDER BY number DESC LIMIT :rows"
    )
    while True:
        values = {"at": at, "owner": owner, "agent": agent, "over": over, "rows": PAGE_ROWS}
        page = [Row(*row) for row in db.execute(query, values).fetchall()]
        if page:
            yield page
        if len(page) < PAGE_ROWS:
            return
        at = page[-1].number


# -- events -----------------------------------------------------------------------------------------------------------
def events(db: sqlite3.Connection, number: int, after: int, rows: int, size: int) -> list[tuple[int, str]]:
    """Numbers and texts of the events after ``after``: at most ``rows``, and no more once they have ``size``
    characters."""
    base = number << SEQ_BITS
    found: list[tuple[int, str]] = []
    cursor = db.execute(
        "SELECT place, line FROM task_events WHERE place > ? AND place < ? ORDER BY place LIMIT ?",
        (base | min(after, 2**SEQ_BITS - 1), (number + 1) << SEQ_BITS, rows),
    )
    for place, text in cursor:
        found.append((place - base, text))
        size -= len(text)
        if size <= 0:
            break
    cursor.close()
    return found


def last_seq(db: sqlite3.Connection, number: int) -> int:
    """The number of the newest event; 0: there is none. They have no gaps, so it is their count too."""
    base = number << SEQ_BITS
    query = "SELECT max(place) FROM task_events WHERE place > ? AND place < ?"
    (place,) = db.execute(query, (base, (number + 1) << SEQ_BITS)).fetchone()
    return 0 if place is None else int(place) - base


def seq_at(db: sqlite3.Connection, number: int, since: int) -> int:
    """The number of the last event that is not later than ``since`` (ms)."""
    base = number << SEQ_BITS
    row = db.execute(
        "SELECT place FROM task_events WHERE place > ? AND place < ? AND at > ? ORDER BY place LIMIT 1",
        (base, (number + 1) << SEQ_BITS, since),
    ).fetchone()
    return last_seq(db, number) if row is None else int(row[0]) - base - 1


def disown(db: sqlite3.Connection, known: Sequence[str]) -> None:
    """Tasks of owners that are none of the ``known`` ones become this machine's user's."""
    marks = ", ".join("?" * len(known))
    db.execute(f"UPDATE tasks SET owner = ? WHERE owner NOT IN ({marks})", (LOCAL.name, *known))  # noqa: S608


# -- growing old ------------------------------------------------------------------------------------------------------
def delete(db: sqlite3.Connection, number: int) -> str | None:
    """Forget a task and its events. Its worktree, if no other task is left that worked there."""
    row = db.execute("SELECT worktree FROM tasks WHERE number = ?", (number,)).fetchone()
    db.execute("DELETE FROM task_events WHERE place >= ? AND place < ?", _range(number))
    db.execute("DELETE FROM tasks WHERE number = ?", (number,))
    worktree = row[0] if row else None
    if worktree is None or db.execute("SELECT 1 FROM tasks WHERE worktree = ?", (worktree,)).fetchone():
        return None
    return str(worktree)


def _range(number: int) -> tuple[int, int]:
    return number << SEQ_BITS, (number + 1) << SEQ_BITS


def too_old(db: sqlite3.Connection, before: int, keep_bytes: int) -> list[Row]:
    """Finished tasks that go: over since ``before`` (ms), or older than those whose events have ``keep_bytes``."""
    query = (
        f"SELECT {COLUMNS} FROM (SELECT *, sum(bytes) OVER (ORDER BY number DESC) AS held FROM tasks"  # noqa: S608
        " WHERE completed_at IS NOT NULL) WHERE completed_at < ? OR held > ? ORDER BY number LIMIT 1000"
    )
    return [Row(*row) for row in db.execute(query, (before, keep_bytes)).fetchall()]
