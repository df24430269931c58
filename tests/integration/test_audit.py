"""The audit log of a real daemon: what it tells, what it never tells, and what its chain withstands."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from loopsy.store.audit import files
from loopsy.testing.nodes import Node, keyed_pair
from loopsy.wire import frames
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.machine import COMMAND, Machine
from tests.integration.streams import Stream

KAI, STRAY, TYPED = "ca1" * 20 + "0000", "5e" * 32, "7f" * 32


def by_id(node: Node, request_id: str) -> dict[str, Any]:
    """The one record of a request."""

    def found() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in node.layout.audit.read_bytes().splitlines()]
        return [record for record in lines if record["request"] == request_id]

    record: dict[str, Any]
    (record,) = until(lambda: found(), f"the line of {request_id}")
    return record


# -- what a line tells ------------------------------------------------------------------------------------------------
def test_one_line_a_request_with_who_what_from_where_and_how_it_went(make_node: Any) -> None:
    node = make_node(auth={"allowedKeys": {"kai": KAI}}).start()
    body = json.dumps({"command": "sh", "args": ["-c", "exit 3"], "cwd": "/"}).encode()
    node.ask("POST", "/execute", body, key=KAI, headers={"x-request-id": "run", "x-loopsy-node-id": "someone"})
    run = by_id(node, "run")
    assert (run["who"], run["from"], run["method"], run["path"]) == ("kai", "127.0.0.1", "POST", "/api/v1/execute")
    assert (run["what"]["command"], run["what"]["cwd"], run["what"]["exit"]) == ("sh -c 'exit 3'", "/", 3)
    assert (run["status"], run["in"], run["claims"]) == (200, len(body), "someone")
    assert run["out"] > 50
    assert run["ms"] > 0
    for request_id, ask, expected in (
        ("denied", {"method": "POST", "path": "/execute", "body": {"command": "rm"}, "key": KAI}, ("kai", 403, 3001)),
        ("nobody", {"method": "GET", "path": "/status", "key": None}, ("stranger", 401, 1001)),
        ("unknown", {"method": "GET", "path": "/status", "key": STRAY}, ("stranger", 403, 1002)),
        ("own", {"method": "PUT", "path": "/context/a%2Fb", "body": {"value": "secret"}}, ("local", 200, None)),
        ("lost", {"method": "GET", "path": "/nowhere"}, ("local", 404, 9003)),
        ("garbage", {"method": "POST", "path": "/execute", "body": b"{"}, ("local", 400, 9003)),
    ):
        node.ask(**ask, headers={"x-request-id": request_id})
        record = by_id(node, request_id)
        assert (record["who"], record["status"], record.get("code")) == expected
    assert by_id(node, "own")["what"]["key"] == "a/b"
    assert "secret" not in node.layout.audit.read_text()


def test_the_line_of_a_command_on_a_peer_tells_how_it_ended(pair: tuple[Node, Node]) -> None:
    a, _ = pair
    body = {"command": "sh", "args": ["-c", "echo hi; exit 3"]}
    for request_id, path, accept in (
        ("whole", "/peers/bravo/execute", "application/json"),
        ("events", "/peers/bravo/execute/stream", "text/event-stream"),
        ("framed", "/peers/bravo/execute/stream", frames.CONTENT_TYPE),
    ):
        a.ask("POST", path, body, headers={"x-request-id": request_id, "accept": accept})
        what = by_id(a, request_id)["what"]
        assert (what["peer"], what["command"], what["exit"]) == ("bravo", "sh -c 'echo hi; exit 3'", 3)
        assert request_id == "whole" or what["job"]
    a.ask("POST", "/peers/bravo/execute", {"command": "rm"}, headers={"x-request-id": "refused"})
    assert "exit" not in by_id(a, "refused")["what"]


# -- what nothing tells -----------------------------------------------------------------------------------------------
def test_no_key_is_told_anywhere(make_node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in logs, errors, or what the daemon starts."""
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b, logging={"level": "debug"})
    plain = vars(Node)["environment"].fget  # of a user who has the variable set for every command, the daemon too
    monkeypatch.setattr(Node, "environment", property(lambda node: {**plain(node), "LOOPSY_PEER_KEY": KAI}))
    a.start()
    b.start()
    streams = [Stream(a, f"{at}/execute/stream", {"command": "sleep", "args": ["600"]}) for at in ("", "/peers/bravo")]
    told = [
        a.run("exec", "bravo", "env"),
        a.run("exec", ".", "env"),
        a.run("exec", "--key", "-", "bravo", "env", stdin=f"{STRAY}\n".encode()),
        a.run("exec", "nobody", "env"),
        a.run("status", "--json"),
        a.run("peers", "--json"),
        a.run("doctor"),
        a.run("jobs", "bravo"),
        a.run("logs", "-n", "99"),
    ]
    answers = [a.ask("GET", "/status", key=STRAY), a.ask("GET", f"/context?prefix=x&key={a.key}")]
    started = until(lambda: len(found := children(a) + children(b)) == 2 and found, "only what the streams show")
    processes = [text_of(child.pid, what) for child in started for what in ("cmdline", "environ")]
    daemons = [text_of(node.process.pid, "cmdline") for node in (a, b)]
    secret = a.layout.config.read_text().replace(a.key, f"{a.key} {TYPED}")
    a.layout.config.write_text(secret)
    told.append(a.run("reload"))
    assert told[-1].returncode == 1
    assert f"{a.layout.config}:".encode() in told[-1].stderr
    for stream in streams:
        stream.close()
    for node in (a, b):
        node.stop()
    written = [path.read_text() for node in (a, b) for path in node.layout.logs.iterdir()]
    shown = [done.stdout.decode() + done.stderr.decode() for done in told]
    keys = {a.key, b.key, STRAY, TYPED, KAI, *keys_in(a), *keys_in(b)}  # and the pair's
    assert len(keys) == 7
    for text in [*written, *shown, *processes, *daemons, *(f"{x.body}{x.headers}" for x in answers)]:
        assert [key for key in keys if key in text] == [], text


def children(node: Node) -> list[psutil.Process]:
    """What the daemon has started and is there yet."""
    assert node.process is not None
    return psutil.Process(node.process.pid).children(recursive=True)


def keys_in(node: Node) -> list[str]:
    """Every key of its config file."""
    return re.findall("[0-9a-f]{64}", node.layout.config.read_text())


def text_of(pid: int, what: str) -> str:
    """Of /proc."""
    return Path(f"/proc/{pid}/{what}").read_bytes().replace(b"\0", b"\n").decode()


# -- the chain --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A stopped machine with some lines in two files."""
    machine = Machine.at(tmp_path_factory.mktemp("audit") / "home").set_up(audit={"maxFileBytes": 4096})
    try:
        machine.ok("start")
        numbers = count()
        until(lambda: machine.ask("GET", f"/context/{next(numbers)}") and lines_of(machine) >= 6, "lines in two files")
    finally:
        machine.end()
    assert len(files(machine.layout.audit)) == 2
    return machine


def lines_of(machine: Machine) -> int:
    """How many the newest of at least two files has; none in the moment between two."""
    with suppress(FileNotFoundError):
        return len(files(machine.layout.audit)) > 1 and len(machine.layout.audit.read_bytes().splitlines())
    return 0


def edited(edit: Callable[[list[bytes]], Any]) -> Callable[[Path], None]:
    """Changes the lines of a file."""

    def change(path: Path) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        edit(lines)
        path.write_bytes(b"".join(lines))

    return change


def swap(lines: list[bytes]) -> None:
    lines[1], lines[2] = lines[2], lines[1]


def change_a_byte(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b'"method":"GET"', b'"method":"PUT"')


@pytest.mark.parametrize("which", [0, 1], ids=["older-file", "newest-file"])
@pytest.mark.parametrize(
    ("tamper", "at", "words"),
    [
        (edited(change_a_byte), 3, "does not follow"),
        (edited(lambda lines: lines.pop(1)), 2, "should stand here"),
        (edited(swap), 2, "should stand here"),
        (edited(lambda lines: lines.insert(1, b"{}\n")), 2, "is not a whole audit line"),
    ],
    ids=["changed", "removed", "swapped", "added"],
)
def test_what_was_done_to_the_log_is_found(
    logged: Machine, tmp_path: Path, tamper: Callable[[Path], None], at: int, words: str, which: int
) -> None:
    copy = Machine(tmp_path / "copy", "copy")
    shutil.copytree(logged.root, copy.root)
    assert "unbroken" in copy.ok("logs", "--verify", "--data-dir", str(copy.root))
    path = files(copy.layout.audit)[which]
    tamper(path)
    done = copy.run("logs", "--verify", "--data-dir", str(copy.root))
    assert (done.returncode, done.stderr) == (1, b"")
    assert f"{path}:{at}: " in done.stdout.decode()
    assert words in done.stdout.decode()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_cut_end_is_found_also_after_the_daemon_went_on(logged: Machine, tmp_path: Path, restarted: bool) -> None:
    copy = Machine(tmp_path / "home" / ".loopsy", "copy", logged.port, logged.key)
    shutil.copytree(logged.root, copy.root)
    edited(lambda lines: lines.pop())(copy.layout.audit)
    if restarted:
        try:
            copy.ok("start")
            copy.ok("context", "list")
        finally:
            copy.end()
    fault = copy.json("logs", "--verify")["fault"]
    assert fault["file"] == str(copy.layout.audit)


@pytest.mark.parametrize("which", ["all", "oldest"])
@pytest.mark.parametrize("restarted", [False, True])
def test_removed_files_are_found_also_after_the_daemon_went_on(
    logged: Machine, tmp_path: Path, which: str, restarted: bool
) -> None:
    copy = Machine(tmp_path / "home" / ".loopsy", "copy", logged.port, logged.key)
    shutil.copytree(logged.root, copy.root)
    for path in files(copy.layout.audit)[: None if which == "all" else 1]:
        path.unlink()
    if restarted:
        try:
            copy.ok("start")
            copy.ok("context", "list")
        finally:
            copy.end()
    fault = copy.json("logs", "--verify")["fault"]
    assert fault["text"].endswith("the end was cut off" if which == "all" and not restarted else "is missing")


def test_a_log_under_load_verifies_while_it_is_rotated(machine: Machine) -> None:
    """The oldest files go one after the other, and none of them is missed."""
    machine.set_up(audit={"maxFileBytes": 4096, "keepFiles": 2}).ok("start")
    for _ in range(10):
        for number in range(20):
            machine.ask("GET", f"/context/{number}")
        assert machine.json("logs", "--verify")["fault"] is None
    pid = machine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: machine.pid is None)
    assert machine.json("logs", "--verify")["fault"] is None
    assert len(files(machine.layout.audit)) <= 3
    machine.ok("start")
    machine.ok("stop")
    assert machine.audited[0]["seq"] > 100
    assert machine.json("logs", "--verify")["fault"] is None


def test_the_chain_is_whole_after_a_kill_in_mid_load(machine: Machine) -> None:
    machine.set_up(audit={"maxFileBytes": 4096, "keepFiles": 1000}).ok("start")
    enough = threading.Event()

    def load() -> None:
        with suppress(OSError):
            for number in range(10_000):
                machine.ask("GET", f"/context/{number}")
                if number == 100:
                    enough.set()

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert enough.wait(2 * PATIENCE_S)
    pid = machine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for thread in threads:
        thread.join(PATIENCE_S)
    until(lambda: machine.pid is None)
    machine.ok("start")
    machine.ok("context", "list")
    machine.ok("stop")
    assert "unbroken" in machine.ok("logs", "--verify")
    assert len(files(machine.layout.audit)) > 5
    assert [record["seq"] for record in machine.audited] == list(range(1, len(machine.audited) + 1))


def test_following_goes_on_over_rotations(machine: Machine) -> None:
    machine.set_up(audit={"maxFileBytes": 4096, "keepFiles": 1000}).ok("start")
    follow = subprocess.Popen(
        [*COMMAND, "logs", "-f", "-n", "0", "--json"], env=machine.environment, stdout=subprocess.PIPE
    )
    assert follow.stdout is not None
    try:
        seen: list[int] = []
        machine.ask("GET", "/health")
        while not seen:  # until it follows
            machine.ask("GET", "/health")
            if select.select([follow.stdout], [], [], 0.1)[0]:
                seen.append(json.loads(follow.stdout.readline())["seq"])
        for _ in range(150):
            machine.ask("GET", "/health")
        last = until(lambda: machine.audited[-1]["seq"] if machine.audited[-1]["seq"] >= seen[-1] + 150 else 0)
        while seen[-1] < last:
            seen.append(json.loads(follow.stdout.readline())["seq"])
        assert seen == list(range(seen[0], last + 1))
        assert len(files(machine.layout.audit)) > 5
        follow.send_signal(signal.SIGINT)
        assert follow.wait(PATIENCE_S) == 130
    finally:
        follow.kill()
        follow.wait(30)
        follow.stdout.close()
