"""The database: batches, refusals, damage."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopsy.errors import DataDirError, KeyNotFound, StorageFailed
from loopsy.store.database import SCHEMA, Database, get_fact, set_fact


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "loopsy.db")
    yield made
    made.close()


def fact(name: str) -> Any:
    return lambda db: set_fact(db, name, "1")


def refuse(_: object) -> None:
    raise KeyNotFound("no")


def break_sql(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO nowhere VALUES (1)")


def test_a_refusal_stands_in_its_place_and_the_rest_is_kept(database: Database) -> None:
    results = database.write([fact("a"), refuse, fact("b"), lambda db: 7])
    assert isinstance(results[1], KeyNotFound)
    assert results[3] == 7
    assert (get_fact(database.reader, "a"), get_fact(database.reader, "b")) == ("1", "1")


@pytest.mark.parametrize(("operation", "error"), [(break_sql, StorageFailed), (lambda db: 1 / 0, ZeroDivisionError)])
def test_a_failing_batch_keeps_nothing_and_the_next_one_works(database: Database, operation: Any, error: Any) -> None:
    with pytest.raises(error):
        database.write([fact("a"), operation])
    assert get_fact(database.reader, "a") is None
    database.write([fact("b")])
    assert get_fact(database.reader, "b") == "1"


def test_a_fact_can_be_changed_and_survives_reopening(tmp_path: Path) -> None:
    for value in ("1", "2"):
        database = Database(tmp_path / "db")
        database.write([lambda db, value=value: set_fact(db, "x", value)])
        database.close()
    database = Database(tmp_path / "db")
    assert get_fact(database.reader, "x") == "2"
    database.close()


def test_the_reader_cannot_write(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError):
        set_fact(database.reader, "a", "1")


def test_every_commit_waits_for_the_disk(database: Database) -> None:
    assert database.write([lambda db: db.execute("PRAGMA synchronous").fetchone()]) == [(2,)]
    assert database.reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_file_is_its_owners_alone(database: Database, tmp_path: Path) -> None:
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_what_is_no_database_and_what_is_newer_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(b"not a database" * 100)
    with pytest.raises(DataDirError, match="file is not a database"):
        Database(tmp_path / "garbage")
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute(f"PRAGMA user_version={len(SCHEMA) + 1}")
    newer.close()
    with pytest.raises(DataDirError, match="was written by a newer loopsy"):
        Database(tmp_path / "newer")
    os.mkdir(tmp_path / "directory")
    with pytest.raises(DataDirError):
        Database(tmp_path / "directory")
