"""The peer book on disk."""

from __future__ import annotations

import sqlite3

from hypothesis import given

from loopsy.core.peers import Record
from loopsy.store import peers as table
from loopsy.store.database import SCHEMA
from tests.strategies import values


@given(values(Record))
def test_a_record_is_read_back_as_it_was_filed(record: Record) -> None:
    db = sqlite3.connect(":memory:")
    db.executescript(SCHEMA[0])
    for _ in range(2):
        table.put(db, record)
    assert table.load(db) == [record]
    table.delete(db, record.node_id)
    assert table.load(db) == []
    db.close()
