"""The peer book in SQL: one row a peer, its record as JSON."""

from __future__ import annotations

import json
import sqlite3

from loopsy.core.peers import Record
from loopsy.wire import codec


def load(db: sqlite3.Connection) -> list[Record]:
    """Every record on file."""
    return [codec.parse(Record, json.loads(row[0])) for row in db.execute("SELECT record FROM peers").fetchall()]


def put(db: sqlite3.Connection, record: Record) -> None:
    """File a record."""
    db.execute("INSERT OR REPLACE INTO peers VALUES (?, ?)", (record.node_id, codec.dump(record).decode()))


def delete(db: sqlite3.Connection, node_id: str) -> None:
    """Strike a record."""
    db.execute("DELETE FROM peers WHERE node_id = ?", (node_id,))
