"""Transfers: their life, their progress, and where things go."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core.transfers import (
    AT_ONCE,
    KEPT,
    Move,
    Progress,
    Running,
    Step,
    TransferTable,
    fold,
    info,
    is_unreadable,
    moves,
    needs_look,
)
from loopsy.errors import (
    FileMissing,
    InvalidRequest,
    LoopsyError,
    PathDenied,
    StorageFull,
    TooManyJobs,
    TransferFailed,
)
from loopsy.wire.transfer import TransferRequest

REQUEST = TransferRequest(direction="send", peer="kai", sources=("/a",), destination="b")


def running(name: str, at: int = 0) -> Running:
    return Running(transfer_id=name, request=REQUEST, started_at=at)


def test_a_transfer_from_its_start_to_its_end() -> None:
    table = TransferTable()
    table.start(running("t", 5))
    table.step("t", Step(bytes_total=10, files_total=1, current="/a"))
    table.step("t", Step(done=10, sent=10, files=1, checksum="c"))
    assert info(table.get("t")).state == "running"
    table.finish("t", None, False, 9)
    table.step("t", Step(done=10))  # too late: changes nothing
    told = info(table.get("t"))
    assert (told.state, told.started_at, told.finished_at) == ("completed", 5, 9)
    assert (told.bytes_done, told.checksum) == (10, "c")


@pytest.mark.parametrize(("cancelled", "state"), [(False, "failed"), (True, "cancelled")])
def test_the_other_ends(cancelled: bool, state: str) -> None:
    table = TransferTable()
    table.start(running("t"))
    table.finish("t", TransferFailed("no", hint="try"), cancelled, 9)
    told = info(table.get("t"))
    assert told.state == state
    assert (told.error, told.error_code, told.hint) == ((None, None, None) if cancelled else ("no", 4005, "try"))


def test_only_the_last_are_remembered_newest_first() -> None:
    table = TransferTable()
    for at in range(KEPT + 5):
        table.start(running(str(at), at))
        table.finish(str(at), None, False, at)
    table.start(running("now", 999))
    assert [info(one).transfer_id for one in table.all()] == ["now", *map(str, range(KEPT + 4, 4, -1))]
    with pytest.raises(FileMissing):
        table.get("0")


def test_not_more_than_so_many_at_once() -> None:
    table = TransferTable()
    for at in range(AT_ONCE):
        table.start(running(str(at)))
    with pytest.raises(TooManyJobs):
        table.start(running("more"))


@given(st.lists(st.builds(Step, done=st.integers(0, 99), sent=st.integers(0, 99), files=st.integers(0, 3))))
def test_progress_adds_up(steps: list[Step]) -> None:
    progress = Progress()
    for step in steps:
        progress = fold(progress, step)
    assert progress.bytes_done == sum(step.done for step in steps)
    assert progress.files_done == sum(step.files for step in steps)


def test_a_broken_connection_takes_back_what_was_not_kept() -> None:
    assert fold(Progress(bytes_done=10, bytes_sent=10), Step(done=-4)) == Progress(bytes_done=6, bytes_sent=10)
    assert fold(Progress(bytes_done=1), Step(done=-4)).bytes_done == 0


@pytest.mark.parametrize(
    ("sources", "destination", "is_directory", "targets"),
    [
        (("/a/f",), "g", False, ["g"]),
        (("/a/f",), "g", True, ["g/f"]),
        (("/a/f",), "g/", False, ["g/f"]),
        (("/a/f",), "/", False, ["/f"]),
        (("/a/d/",), "g", True, ["g/d"]),
        (("/a/d/.",), "g", True, ["g"]),
        (("/a/d/.",), "g/", False, ["g"]),
        (("/a/f", "/a/h"), "g/", False, ["g/f", "g/h"]),
        (("f",), "~", True, ["~/f"]),
    ],
)
def test_where_things_go(sources: tuple[str, ...], destination: str, is_directory: bool, targets: list[str]) -> None:
    expected = tuple(Move(source, target) for source, target in zip(sources, targets, strict=True))
    assert moves(sources, destination, is_directory) == expected


@pytest.mark.parametrize(
    ("sources", "destination", "words"),
    [
        (("/a", "/b"), "g", "need a directory"),
        (("/x/a", "/y/a"), "g/", "two sources"),
        (("/",), "g/", "no name"),
        (("~",), "g/", "no name"),
        ((), "g/", "nothing"),
    ],
)
def test_what_makes_no_transfer(sources: tuple[str, ...], destination: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        moves(sources, destination, False)


def test_one_looks_only_where_it_matters() -> None:
    assert needs_look(("/a",), "b")
    assert not needs_look(("/a",), "b/")
    assert not needs_look(("/a/.",), "b")


@pytest.mark.parametrize(
    ("error", "cause", "unreadable"),
    [
        (PathDenied("permission denied"), PermissionError(errno.EACCES, "permission denied"), True),
        (PathDenied("not permitted"), PermissionError(errno.EPERM, "not permitted"), True),
        (PathDenied("a loop"), OSError(errno.ELOOP, "too many links"), False),
        (PathDenied("inside deniedPaths, or the peer's"), None, False),
        (StorageFull("full"), OSError(errno.ENOSPC, "no space left"), False),
    ],
)
def test_only_the_operating_systems_refusal_is_unreadable(
    error: LoopsyError, cause: OSError | None, unreadable: bool
) -> None:
    error.__cause__ = cause
    assert is_unreadable(error) is unreadable
