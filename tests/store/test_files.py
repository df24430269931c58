"""The small files: written whole, owned by one, held by one."""

from __future__ import annotations

import json
import os
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest

from loopsy.errors import DataDirError
from loopsy.store import atomic, identity, older, pidfile
from loopsy.store.filelock import try_lock
from loopsy.store.layout import Layout, data_dir


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "data")
    made.make()
    return made


# -- atomic -----------------------------------------------------------------------------------------------------------
def test_a_written_file_is_whole_and_its_owners_alone(tmp_path: Path) -> None:
    atomic.write(tmp_path / "f", b"one")
    atomic.write(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.write(tmp_path / "f", b"one")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        atomic.write(tmp_path / "f", b"two")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("f", b"one")]


def test_without_replace_an_existing_file_stays(tmp_path: Path) -> None:
    atomic.write(tmp_path / "f", b"one", replace=False)
    with pytest.raises(FileExistsError):
        atomic.write(tmp_path / "f", b"two", replace=False)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("f", b"one")]


# -- layout -----------------------------------------------------------------------------------------------------------
def test_the_data_directory_is_made_and_tightened(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    (root / "config.yaml").touch()
    (root / "config.yaml").chmod(0o644)
    layout = Layout(root)
    assert layout.too_open() == [root, root / "config.yaml"]
    layout.make()
    assert layout.too_open() == []
    assert stat.S_IMODE(layout.logs.stat().st_mode) == 0o700


def test_a_file_in_the_data_directorys_place_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DataDirError, match=r"can.t be used: (File exists|Not a directory)"):
        Layout(tmp_path / "data").make()


def test_the_option_counts_before_the_variable_before_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/kai")
    monkeypatch.setenv("LOOPSY_DATA_DIR", "~/elsewhere")
    assert data_dir("/x") == "/x"
    assert data_dir() == "/home/kai/elsewhere"
    monkeypatch.delenv("LOOPSY_DATA_DIR")
    assert data_dir() == "/home/kai/.loopsy"


# -- identity ---------------------------------------------------------------------------------------------------------
def test_the_node_id_is_made_once(layout: Layout) -> None:
    made = identity.node_id(layout)
    assert str(uuid.UUID(made)) == made == identity.node_id(layout) == identity.node_id(layout)
    assert layout.node_id.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"kai", b"\xff"])
def test_a_spoilt_node_id_is_an_error_and_never_replaced(layout: Layout, content: bytes) -> None:
    layout.node_id.write_bytes(content)
    with pytest.raises(DataDirError, match="node-id"):
        identity.node_id(layout)
    assert layout.node_id.read_bytes() == content


# -- pid file ---------------------------------------------------------------------------------------------------------
def test_the_pid_file_is_held_by_one_and_free_again_after(layout: Layout) -> None:
    assert pidfile.running(layout.pid) is None
    first = pidfile.PidFile(layout.pid)
    first.acquire()
    assert pidfile.running(layout.pid) == os.getpid()
    with pytest.raises(DataDirError, match=rf"a daemon runs in .* already \(pid {os.getpid()}\)"):
        pidfile.PidFile(layout.pid).acquire()
    first.release()
    assert pidfile.running(layout.pid) is None
    second = pidfile.PidFile(layout.pid)
    second.acquire()
    second.release()
    second.release()


def test_a_number_that_nobody_holds_is_no_daemon(layout: Layout) -> None:
    layout.pid.write_text(f"{os.getpid()}\n")
    assert pidfile.running(layout.pid) is None


def test_asking_whether_a_daemon_runs_keeps_none_from_starting(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = layout.pid.open("wb")  # what running() does in another process, at its worst moment
    assert try_lock(asking.fileno())
    monkeypatch.setattr("time.sleep", lambda _: asking.close())
    daemon = pidfile.PidFile(layout.pid)
    daemon.acquire()
    daemon.release()
    asking.close()


def test_a_pid_file_that_is_a_symlink_is_refused(layout: Layout) -> None:
    layout.pid.symlink_to(layout.root / "victim")
    with pytest.raises(DataDirError, match="can't be used"):
        pidfile.PidFile(layout.pid).acquire()
    assert not (layout.root / "victim").exists()


# -- what an older install left ---------------------------------------------------------------------------------------
ENTRY = {"value": "v", "fromNodeId": "n", "createdAt": 1, "updatedAt": 2}
PEER = {"hostname": "kai", "address": "10.0.0.2", "port": 1, "status": "online", "failureCount": 2, "trusted": True}


@pytest.mark.parametrize(
    "shape",
    [
        [{"key": "k", **ENTRY}],
        {"k": ENTRY},
        [["k", ENTRY]],
        {"entries": [{"key": "k", **ENTRY}]},
        {"entries": {"k": ENTRY}, "version": 1},
        {"entries": [["k", ENTRY]]},
    ],
)
def test_an_older_context_is_read_in_any_of_its_shapes(shape: Any) -> None:
    (entry,) = older.entries(shape)
    assert (entry.key, entry.value, entry.from_node_id, entry.created_at, entry.updated_at) == ("k", "v", "n", 1, 2)


def test_older_peers_are_not_heard_of_yet(layout: Layout) -> None:
    layout.old_peers.write_text(json.dumps({"n1": PEER}))
    (record,) = older.found(layout).peers
    assert (record.node_id, record.hostname, record.endpoint) == ("n1", "kai", ("10.0.0.2", 1))
    assert (record.status, record.failure_count, record.trusted) == ("unknown", 0, False)
    older.retire(layout)
    assert not older.found(layout)
    assert (layout.root / "peers.json.imported").exists()


@pytest.mark.parametrize(
    "text",
    [
        "5",
        '"text"',
        "true",
        "[5]",
        '{"k": 5}',
        '{"k": {}}',
        "{",
        "\x00",
        "NaN",
        '[{"key": "k", "value": 5}]',
        "[" * 9999,
        json.dumps({"k": {**ENTRY, "createdAt": 10**30}}),
        json.dumps({"k": {**ENTRY, "expiresAt": 10**30}}),
    ],
)
def test_an_older_file_that_cannot_be_read_stays_and_is_named(layout: Layout, text: str) -> None:
    layout.old_context.write_text(text)
    with pytest.raises(DataDirError, match=r"context\.json"):
        older.found(layout)
    assert layout.old_context.read_text() == text


@pytest.mark.parametrize("text", ["null", "[]", "{}"])
def test_an_empty_older_file_holds_nothing(layout: Layout, text: str) -> None:
    layout.old_context.write_text(text)
    assert not older.found(layout)
