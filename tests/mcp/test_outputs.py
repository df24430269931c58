"""What is kept of a command's output."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.mcp import outputs
from loopsy.mcp.outputs import KEEP, Capture, Outputs


@given(st.lists(st.integers(0, 3 * KEEP), max_size=12), st.booleans())
def test_head_gap_and_tail_are_the_whole_and_the_file_has_all(sizes: list[int], save: bool) -> None:
    place = Outputs()
    try:
        capture, whole = Capture(place, "stdout"), b""
        for number, size in enumerate(sizes):
            piece = bytes([number]) * size
            capture.add(memoryview(piece))
            whole += piece
        if save:
            capture.save()
        head, tail = bytes(capture.head), capture.tail
        assert len(head) + capture.gap + len(tail) == capture.size == len(whole)
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert len(head) <= KEEP
        assert len(tail) <= KEEP
        assert not capture.gap or len(head) == len(tail) == KEEP
        if save:
            assert capture.path is not None
            assert capture.path.read_bytes() == whole
            assert capture.saved == capture.size
    finally:
        place.remove()


def test_files_are_for_this_user_alone_few_and_removed() -> None:
    place = Outputs()
    paths: list[Path] = []
    for _ in range(outputs.MAX_FILES + 3):
        file, path = place.open("stdout")
        file.close()
        paths.append(path)
    directory = paths[0].parent
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(paths[-1].stat().st_mode) == 0o600
    assert sorted(directory.iterdir()) == paths[3:]
    place.remove()
    assert not directory.exists()


def test_an_endless_output_fills_no_disk() -> None:
    place = Outputs()
    try:
        capture = Capture(place, "stdout", 5 * KEEP)
        for _ in range(20):
            capture.add(b"x" * KEEP)
        capture.save()
        assert capture.path is not None
        assert capture.path.stat().st_size == capture.saved == 5 * KEEP
        assert capture.size == 20 * KEEP
    finally:
        place.remove()


def test_the_oldest_files_go_when_they_are_too_large_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "MAX_TOTAL", 10 * KEEP)
    place = Outputs()
    try:
        paths = []
        for _ in range(6):
            capture = Capture(place, "stdout")
            capture.add(b"x" * 4 * KEEP)
            capture.save()
            paths.append(capture.path)
        assert [path is not None and path.exists() for path in paths] == [False, False, False, True, True, True]
    finally:
        place.remove()


def test_where_nothing_can_be_saved_the_ends_are_kept() -> None:
    class Full(Outputs):
        def open(self, name: str) -> object:  # type: ignore[override]
            raise OSError("no space")

    capture = Capture(Full(), "stdout")
    capture.add(b"a" * KEEP + b"b" * KEEP + b"c" * KEEP)
    capture.save()
    assert capture.path is None
    assert (bytes(capture.head), capture.tail) == (b"a" * KEEP, b"c" * KEEP)
