"""What is kept of a command's output."""

import stat
from pathlib import Path

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
    before, outputs.MAX_FILE = outputs.MAX_FILE, 5 * KEEP
    try:
        capture = Capture(place, "stdout")
        for _ in range(20):
            capture.add(b"x" * KEEP)
        capture.save()
        assert capture.path is not None
        assert capture.path.stat().st_size == capture.saved == 5 * KEEP
        assert capture.size == 20 * KEEP
    finally:
        outputs.MAX_FILE = before
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
