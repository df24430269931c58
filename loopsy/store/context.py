"""The context table in SQL. An entry whose time is over is not there, whether or not it was purged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from attrs import evolve

from loopsy.config import ContextLimits
from loopsy.core import context as rules
from loopsy.wire.context import Entry

COLUMNS = "key, value, from_node_id, created_at, updated_at, ttl, expires_at"
LIVE = "(expires_at IS NULL OR expires_at > :now)"
PAGE_ROWS = 16
"""Values may have a MiB each, so a page of a listing stays around 16 MiB at the worst."""


def _entry(row: tuple[str, str, str, int, int, float | None, int | None]) -> Entry:
    key, value, from_node_id, created_at, updated_at, ttl, expires_at = row
    return Entry(
        key=key,
        value=value,
        from_node_id=from_node_id,
        created_at=created_at,
        updated_at=updated_at,
        ttl=int(ttl) if ttl is not None and ttl == int(ttl) else ttl,
        expires_at=expires_at,
    )


def get(db: sqlite3.Connection, key: str, now: int) -> Entry | None:
    """The entry of ``key`` at ``now`` (ms)."""
    row = db.execute(f"SELECT {COLUMNS} FROM context WHERE key = ?", (key,)).fetchone()  # noqa: S608 - constants
    if row is None or (row[6] is not None and row[6] <= now):
        return None
    return _entry(row)


def count(db: sqlite3.Connection, now: int) -> int:
    """How many entries there are at ``now``."""
    (dead,) = db.execute("SELECT count(*) FROM context WHERE expires_at <= ?", (now,)).fetchone()
    (rows,) = db.execute("SELECT count(*) FROM context").fetchone()
    return int(rows) - int(dead)


def pages(db: sqlite3.Connection, prefix: str, now: int) -> Iterator[list[Entry]]:
    """The entries whose keys start with ``prefix``, by key, in pages; between two pages the table may change."""
    query = (
        f"SELECT {COLUMNS} FROM context WHERE key > :after AND substr(key, 1, :length) = :prefix AND {LIVE}"  # noqa: S608
        " ORDER BY key LIMIT :rows"
    )
    # The greatest key below every one that starts with the prefix is not known, but '' is below all.
    after = ""
    while True:
        values = {"after": after, "prefix": prefix, "length": len(prefix), "now": now, "rows": PAGE_ROWS}
        page = [_entry(row) for row in db.execute(query, values).fetchall()]
        if page:
            yield page
        if len(page) < PAGE_ROWS:
            return
        after = page[-1].key


def put(db: sqlite3.Connection, entry: Entry, limits: ContextLimits, now: int) -> Entry:
    """Store an entry over an older one of its key, whose creation time stays.

    :raises TooManyEntries: the key is new and the store is full.
    """
    old = get(db, entry.key, now)
    if old is None:
        rules.admit(False, count(db, now), limits)
    else:
        entry = evolve(entry, created_at=old.created_at)
    keep(db, entry)
    return entry


def keep(db: sqlite3.Connection, entry: Entry) -> None:
    """Store an entry just as it is."""
    db.execute(
        f"INSERT OR REPLACE INTO context ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        (entry.key, entry.value, entry.from_node_id, entry.created_at, entry.updated_at, entry.ttl, entry.expires_at),
    )


def delete(db: sqlite3.Connection, key: str, now: int) -> bool:
    """Remove an entry; False: there was none."""
    existed = get(db, key, now) is not None
    db.execute("DELETE FROM context WHERE key = ?", (key,))
    return existed


def purge(db: sqlite3.Connection, now: int) -> int:
    """Remove what has expired; how many that were."""
    return db.execute("DELETE FROM context WHERE expires_at <= ?", (now,)).rowcount
