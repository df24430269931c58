"""Tasks and events in SQL."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from loopsy.store import tasks as table
from loopsy.store.database import SCHEMA
from loopsy.store.tasks import Line


def empty() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    for step in SCHEMA:
        db.executescript(step)
    return db


def add(
    db: sqlite3.Connection, name: str, owner: str = "local", agent: str = "claude", worktree: str | None = None
) -> int:
    return table.insert(db, name, owner, agent, worktree, "{}", f'{{"taskId":"{name}"}}')


def lines(*pairs: tuple[int, int], text: str = "x") -> list[Line]:
    return [Line(seq, at, f"{text}{seq}") for seq, at in pairs]


def test_events_of_two_tasks_are_apart_and_in_order() -> None:
    db = empty()
    a, b = add(db, "a"), add(db, "b")
    table.append(db, a, lines((1, 10), (2, 10)))
    table.append(db, b, lines((1, 11), text="y"))
    table.append(db, a, lines((3, 12)))
    assert table.events(db, a, 0, 10, 1000) == [(1, "x1"), (2, "x2"), (3, "x3")]
    assert table.events(db, a, 2, 10, 1000) == [(3, "x3")]
    assert table.events(db, b, 0, 10, 1000) == [(1, "y1")]
    assert (table.last_seq(db, a), table.last_seq(db, b), table.last_seq(db, 77)) == (3, 1, 0)
    assert table.get(db, "a").bytes == 6  # type: ignore[union-attr]


def test_a_page_of_events_ends_by_rows_or_by_size() -> None:
    db = empty()
    number = add(db, "a")
    table.append(db, number, lines(*((seq, 0) for seq in range(1, 10))))
    assert [seq for seq, _ in table.events(db, number, 0, 4, 1000)] == [1, 2, 3, 4]
    assert [seq for seq, _ in table.events(db, number, 4, 10, 5)] == [5, 6, 7]
    assert table.events(db, number, 2**40, 10, 1000) == []


@given(gaps=st.lists(st.integers(0, 3), min_size=1, max_size=20), since=st.integers(0, 40))
def test_a_time_becomes_the_number_of_the_last_event_until_then(gaps: list[int], since: int) -> None:
    db = empty()
    number = add(db, "a")
    times = [sum(gaps[: at + 1]) for at in range(len(gaps))]
    table.append(db, number, lines(*((seq, at) for seq, at in enumerate(times, 1))))
    assert table.seq_at(db, number, since) == sum(1 for at in times if at <= since)


def test_lists_are_newest_first_and_of_whom_they_are() -> None:
    db = empty()
    for at in range(40):
        add(db, f"t{at}", owner="kai" if at % 2 else "local", agent="codex" if at % 4 else "claude")
    table.update(db, 40, "completed", 5, "{}")

    def names(*args: object) -> list[str]:
        return [row.task_id for page in table.pages(db, *args) for row in page]  # type: ignore[arg-type]

    assert names(None, None, None) == [f"t{at}" for at in reversed(range(40))]
    assert names("kai", None, None) == [f"t{at}" for at in reversed(range(1, 40, 2))]
    assert names(None, "claude", None) == [f"t{at}" for at in reversed(range(0, 40, 4))]
    assert names(None, None, 3) == ["t1", "t0"]
    assert names(None, None, None, True) == ["t39"]
    assert "t39" not in names(None, None, None, False)
    assert [row.task_id for row in table.active(db)][:2] == ["t0", "t1"]


def test_a_worktree_goes_with_the_last_task_that_worked_there() -> None:
    db = empty()
    a, b = add(db, "a", worktree="/w"), add(db, "b", worktree="/w")
    table.append(db, a, lines((1, 0)))
    assert table.delete(db, a) is None
    assert (table.get(db, "a"), table.last_seq(db, a)) == (None, 0)
    assert table.delete(db, b) == "/w"
    assert table.delete(db, b) is None


def test_the_oldest_go_by_age_and_by_size_but_never_what_runs() -> None:
    db = empty()
    for at in range(5):
        number = add(db, f"t{at}")
        table.append(db, number, [Line(1, 0, "x" * 10)])
        if at != 1:
            table.update(db, number, "completed", at, "{}")

    def gone(before: int, size: int) -> list[str]:
        return [row.task_id for row in table.too_old(db, before, size)]

    assert gone(0, 1000) == []
    assert gone(3, 1000) == ["t0", "t2"]
    assert gone(0, 20) == ["t0", "t2"]
    assert gone(0, 9) == ["t0", "t2", "t3", "t4"]


def test_what_it_has_become_is_stored() -> None:
    db = empty()
    number = add(db, "a")
    table.update(db, number, "completed", 7, '{"a":1}', "/w")
    table.update(db, number, "completed", 8, '{"a":2}')
    row = table.get(db, "a")
    assert row is not None
    assert (row.status, row.completed_at, row.record, row.worktree) == ("completed", 8, '{"a":2}', "/w")
    assert table.totals(db) == 1
