"""The output of a detached job on disk."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.store import kept_output
from loopsy.store.kept_output import KeptOutput, read, remove, sizes


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=60), st.integers(20, 400), st.integers(1, 50))
def test_the_end_is_kept_and_read_in_any_pieces(frames: list[bytes], limit: int, most: int) -> None:
    """Whole frames, from ``begin`` on; at least half the limit where there was as much, and hardly more than it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job"
        kept = KeptOutput(path, limit)
        for frame in frames:
            kept.write(frame)
        kept.close()
        whole = b"".join(frames)
        found = b""
        while piece := read(path, len(found), most):
            found += piece
        assert kept.end == len(whole)
        assert found == whole[kept.begin :]
        assert sum(sizes(path)) == len(found)
        starts = {len(b"".join(frames[:at])) for at in range(len(frames) + 1)}
        assert kept.begin in starts
        assert len(found) >= min(len(whole), limit // 2 - 40)
        assert len(found) <= limit + 80
        remove(path)
        assert list(Path(folder).iterdir()) == []


def test_its_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    """An output may hold secrets."""
    kept = KeptOutput(tmp_path / "job", 100)
    kept.write(b"x" * 80)
    kept.write(b"y" * 80)
    kept.close()
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_no_descriptor_but_its_own_is_closed_when_there_is_none_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens many connections may use them up while a job prints."""
    kept = KeptOutput(tmp_path / "job", 100)
    kept.write(b"x" * 80)

    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(kept_output.os, "open", none_left)
        kept.write(b"y" * 80)
    assert kept.is_broken
    assert read(tmp_path / "job", 0, 1000) == b"x" * 80
    assert (kept.begin, kept.end) == (0, 80)
    others = [os.open(tmp_path, os.O_RDONLY) for _ in range(3)]
    kept.close()
    for descriptor in others:
        os.fstat(descriptor)
        os.close(descriptor)
