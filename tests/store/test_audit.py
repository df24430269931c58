"""audit.jsonl on disk: rotated, torn and continued without breaking its chain."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loopsy.core.audit import NOTHING, START, Head, Remembered, verify
from loopsy.store.audit import SURPLUS, AuditLog, files, last_head, lines

RECORD = {"who": "kai", "what": "x" * 80}


def test_the_chain_goes_on_over_reopening_and_rotation(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for _ in range(5):
        log = AuditLog(path, max_bytes=600, keep=3)
        for _ in range(4):
            log.append([RECORD, RECORD])
            log.drop(log.state)
        log.close()
    found = verify(lines(path), log.head, log.state.begin)
    assert (found.fault, found.head.seq, found.head) == (None, 40, last_head(path))
    assert [file.name for file in files(path)] == ["audit.jsonl.2", "audit.jsonl.1", "audit.jsonl"]
    assert all(file.stat().st_size <= 600 for file in files(path))
    assert found.first_seq > 1


def test_with_one_file_kept_the_log_still_goes_on(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "a", max_bytes=300, keep=1)
    for _ in range(10):
        log.append([RECORD])
        log.drop(log.state)
    log.close()
    assert len(files(tmp_path / "a")) == 1
    assert verify(lines(tmp_path / "a"), log.head, log.state.begin).fault is None


def test_old_files_go_when_the_new_begin_is_remembered_and_some_wait_for_it(tmp_path: Path) -> None:
    """Killed at any moment, the log begins no later than what was remembered last."""
    path = tmp_path / "a"
    log = AuditLog(path, max_bytes=300, keep=2)
    before = log.state
    while not log.has_surplus:
        log.append([RECORD])
    log.drop(before)
    assert len(files(path)) == 3
    assert verify(lines(path), before.head, before.begin).fault is None
    now = log.state
    assert now.begin > before.begin == 1
    for _ in range(50):
        log.append([RECORD])
    assert len(files(path)) == 2 + SURPLUS
    log.drop(now)  # older than the log is by now
    assert len(files(path)) == 2 + SURPLUS
    log.drop(log.state)
    assert len(files(path)) == 2
    again = AuditLog(path, 300, 2, log.state)
    assert again.state == log.state
    assert AuditLog(path, 300, 2).state == log.state


def test_a_log_that_was_removed_goes_on_behind_the_gap(tmp_path: Path) -> None:
    path = tmp_path / "a"
    log = AuditLog(path, 10_000, 3)
    log.append([RECORD, RECORD])
    log.close()
    path.unlink()
    again = AuditLog(path, 10_000, 3, log.state)
    assert again.was_cut
    again.append([RECORD])
    fault = verify(lines(path), again.state.head, again.state.begin).fault
    assert fault is not None
    assert fault.text == "is number 3, but the log should begin with 1: what lay before is missing"


@pytest.mark.parametrize("text", [None, "", "x", "5", "5:abc", "5:abc:", "5:abc:x"])
def test_what_can_not_be_read_is_not_remembered(text: str | None) -> None:
    assert Remembered.of(text) == NOTHING
    assert Remembered.of(Remembered(Head(5, "abc"), 3).text()) == Remembered(Head(5, "abc"), 3)


@pytest.mark.parametrize("torn", [b"x", b'{"seq":3,"who', b"\xff" * 5])
def test_a_line_that_a_crash_tore_goes_and_the_next_follows_from_the_one_before(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "a"
    log = AuditLog(path, 10_000, 3)
    log.append([RECORD, RECORD])
    log.close()
    with open(path, "ab") as file:
        file.write(torn)
    log = AuditLog(path, 10_000, 3)
    log.append([RECORD])
    log.close()
    found = verify(lines(path), log.head)
    assert (found.fault, found.lines) == (None, 3)


def test_half_a_write_on_a_full_disk_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    log = AuditLog(path, 10_000, 3)
    log.append([RECORD])
    whole, real, room = path.read_bytes(), os.write, [50]

    def full_soon(descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[: room.pop()])

    monkeypatch.setattr(os, "write", full_soon)
    with pytest.raises(OSError, match="No space"):
        log.append([RECORD, RECORD])
    assert path.read_bytes() == whole
    monkeypatch.undo()
    log.append([RECORD])
    log.close()
    assert verify(lines(path), log.head).lines == 2
    assert verify(lines(path), log.head).fault is None


def test_an_empty_log_starts_at_the_beginning_and_is_its_owners_alone(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "a", 10_000, 3)
    log.close()
    assert log.head == START == last_head(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0


def test_a_symlink_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    with pytest.raises(OSError, match="symbolic links"):
        AuditLog(tmp_path / "a", 10_000, 3)
    assert not (tmp_path / "b").exists()
