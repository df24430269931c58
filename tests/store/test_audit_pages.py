"""Reading the audit log backwards."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from loopsy.store.audit import AuditLog, lines
from loopsy.store.audit_pages import newest_first, page


def written(path: Path, count: int, max_bytes: int = 4096) -> Path:
    """A log of ``count`` lines, rotated as it fills."""
    log = AuditLog(path, max_bytes, 100)
    log.append([{"who": f"peer{at % 3}", "path": f"/p{at}"} for at in range(count)])
    log.close()
    return path


def test_backwards_is_forwards_turned_round(tmp_path: Path) -> None:
    """Over rotated files, with a last line that is not whole."""
    path = written(tmp_path / "audit.jsonl", 200)
    with open(path, "ab") as file:
        file.write(b'{"seq":9999,"half')
    assert list(newest_first(path)) == list(lines(path))[::-1]
    assert len(list(newest_first(path))) == 200


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    """Neither missing nor empty."""
    assert page(tmp_path / "audit.jsonl", None, "", 5) == []
    (tmp_path / "audit.jsonl").write_bytes(b"")
    assert page(tmp_path / "audit.jsonl", None, "", 5) == []


@given(st.integers(1, 60), st.integers(1, 70))
def test_pages_join_to_the_whole(limit: int, count: int) -> None:
    """Each page goes on where the one before ended."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "audit.jsonl", count)
        found: list[bytes] = []
        before = None
        while more := page(path, before, "", limit):
            found += more
            before = int(more[-1].split(b",")[0].removeprefix(b'{"seq":'))
        assert found == list(newest_first(path))


def test_only_lines_with_a_word(tmp_path: Path) -> None:
    """Whatever its case."""
    path = written(tmp_path / "audit.jsonl", 30)
    assert len(page(path, None, "PEER1", 100)) == 10
