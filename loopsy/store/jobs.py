"""Detached jobs in SQL: what was started, by whom, and what became of it. The record is the wire's JSON."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from attrs import frozen


@frozen
class Row:
    """A job as it is stored."""

    job_id: str
    owner: str
    """The name of the principal that started it."""
    born: float | None
    """When its process began, by the system's word: a process id alone may be another's by now."""
    record: str


def put(db: sqlite3.Connection, row: Row, started_at: int) -> None:
    """Store or replace one."""
    db.execute(
        "INSERT INTO jobs (job_id, owner, born, record, started_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (job_id) DO UPDATE SET born = excluded.born, record = excluded.record",
        (row.job_id, row.owner, row.born, row.record, started_at),
    )


def load(db: sqlite3.Connection) -> Iterator[Row]:
    """All, oldest first."""
    rows = db.execute("SELECT job_id, owner, born, record FROM jobs ORDER BY started_at, job_id").fetchall()
    return (Row(*row) for row in rows)


def delete(db: sqlite3.Connection, job_id: str) -> None:
    """Forget one."""
    db.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))
