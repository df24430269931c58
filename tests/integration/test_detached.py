"""Detached jobs: kept output, waiting, and their fate after stops and kills of the daemon."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from loopsy.testing.nodes import Node
from loopsy.wire import frames
from tests.integration.conftest import until
from tests.integration.streams import Stream

COUNT = "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.1; done; exit 3"


def started(node: Node, *words: str) -> str:
    """A detached job's id."""
    done = node.run("exec", "--detach", *words, check=True)
    return done.stdout.decode().strip()


def records(node: Node, *more: str) -> list[dict[str, Any]]:
    """All that are told of."""
    found: list[dict[str, Any]] = json.loads(node.run("jobs", *more, "--all", "--json", check=True).stdout)["detached"]
    return found


def test_output_is_there_later_and_its_status_is_told(pair: tuple[Node, Node]) -> None:
    """Byte for byte, on both streams, by the first characters of the id; followed while it runs."""
    alfa, _ = pair
    job = started(alfa, "bravo", "--", "sh", "-c", COUNT)
    followed = alfa.run("jobs", "logs", "-f", job[:8], "--peer", "bravo")
    assert followed.returncode == 3
    assert followed.stdout == b"out 1\nout 2\nout 3\n"
    assert followed.stderr == b"err 1\nerr 2\nerr 3\n"
    later = alfa.run("jobs", "logs", job, "--peer", "bravo")
    assert (later.returncode, later.stdout) == (0, followed.stdout)
    assert alfa.run("jobs", "wait", job, "--peer", "bravo").returncode == 3
    (record,) = [one for one in records(alfa, "bravo") if one["jobId"] == job]
    assert record["status"] == "ended"
    assert record["outcome"]["exitCode"] == 3
    assert b"exit 3" in alfa.run("jobs", "bravo", "--all").stdout


def test_waiting_ends_with_the_time_and_a_cancel_is_told(pair: tuple[Node, Node]) -> None:
    """124, and then what ended it."""
    alfa, _ = pair
    job = started(alfa, "bravo", "sleep", "1000")
    assert alfa.run("jobs", "wait", job, "--peer", "bravo", "--timeout", "200ms").returncode == 124
    assert alfa.run("jobs", "cancel", job[:8], "--peer", "bravo").returncode == 0
    done = alfa.run("jobs", "wait", job, "--peer", "bravo")
    assert (done.returncode, done.stderr) == (143, b"loopsy: the command was cancelled\n")


def test_only_the_last_of_a_long_output_is_kept(make_node: Callable[..., Node]) -> None:
    """Within the limit, from a frame's begin on."""
    node = make_node(execution={"keepOutput": 65536, "keepJobs": 2}).start()
    job = started(node, ".", "--", "sh", "-c", "seq 1 100000")
    assert node.run("jobs", "wait", job).returncode == 0
    kept = node.run("jobs", "logs", job).stdout.split()
    assert kept[-1] == b"100000"
    assert [int(line) for line in kept[1:]] == list(range(100001 - len(kept) + 1, 100001))
    (record,) = records(node)
    assert record["droppedBytes"] > 0
    folder = node.layout.root / "jobs"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 200_000
    for _ in range(2):
        assert node.run("jobs", "wait", started(node, ".", "true")).returncode == 0
    until(lambda: len(list(folder.iterdir())) <= 4, "the oldest was forgotten")
    assert job not in [one["jobId"] for one in records(node)]
    assert node.run("jobs", "logs", job).returncode == 1


def test_a_stop_of_the_daemon_ends_it_and_says_so(make_node: Callable[..., Node]) -> None:
    """After the next start."""
    node = make_node().start()
    job = started(node, ".", "sleep", "1000")
    node.stop()
    node.start()
    (record,) = records(node)
    assert (record["jobId"], record["status"], record["outcome"]["reason"]) == (job, "ended", "stopped")
    assert b"the daemon was stopped" in node.run("jobs", "--all").stdout


def test_after_a_kill_of_the_daemon_its_end_is_not_made_up(make_node: Callable[..., Node]) -> None:
    """Nobody saw it; whether its process is there is told as it is at that moment."""
    node = make_node().start()
    job = started(node, ".", "--", "sh", "-c", "echo begun; exec sleep 1000")
    pid = until(lambda: next((one["pid"] for one in records(node) if one.get("pid")), None), "it has a process")
    until(lambda: b"begun" in node.run("jobs", "logs", job).stdout, "its output is kept")
    assert node.ask("PUT", "/context/later", {"value": "x"}).status == 200  # on disk, and all that was written before
    try:
        node.kill()
        node.start()
        assert records(node)[0]["status"] == "lost"
        assert node.ask("GET", f"/execute/jobs/{job}").body["stillRuns"] is True
        assert b"begun" in node.run("jobs", "logs", job).stdout
    finally:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid), "the process is gone")
    assert node.ask("GET", f"/execute/jobs/{job}").body["stillRuns"] is False
    done = node.run("jobs", "wait", job)
    assert (done.returncode, done.stdout) == (1, b"not known: the daemon was killed\n")


def test_a_peer_has_its_own_only(pair: tuple[Node, Node]) -> None:
    """Neither the record nor the output of another's job."""
    alfa, bravo = pair
    job = started(bravo, ".", "echo", "secret")
    assert bravo.run("jobs", "wait", job).returncode == 0
    assert job not in [one["jobId"] for one in records(alfa, "bravo")]
    for tail in ("", "/output", "/wait"):
        answer = alfa.ask("GET", f"/peers/bravo/execute/jobs/{job}{tail}")
        assert (answer.status, answer.body["error"]["code"]) == (404, 3006)


def test_what_can_not_be_started_leaves_nothing(node: Node) -> None:
    """No record, no file."""
    done = node.run("exec", "--detach", ".", "nonesuch-program")
    assert done.returncode == 255
    assert records(node) == []
    assert not list((node.layout.root / "jobs").iterdir())


def test_bad_questions(node: Node) -> None:
    """Name what is wrong."""
    job = started(node, ".", "true")
    assert node.run("jobs", "wait", job).returncode == 0
    assert node.ask("GET", f"/execute/jobs/{job}/output?after=x").status == 400
    assert node.ask("GET", f"/execute/jobs/{job}/wait?timeout=1e9").status == 400
    assert b"which job?" in node.run("jobs", "logs").stderr


def test_a_peer_that_starts_many_pushes_out_its_own_only(make_node: Callable[..., Node]) -> None:
    """Records and outputs of the user's stay."""
    key = "k" * 64
    node = make_node(execution={"keepJobs": 3}, auth={"allowedKeys": {"kai": key}}).start()
    job = started(node, ".", "echo", "mine")
    assert node.run("jobs", "wait", job).returncode == 0
    for _ in range(6):
        stream = Stream(node, "/execute/stream", {"command": "true", "detach": True}, key=key)
        assert stream.ending() is not None
    found = node.ask("GET", "/execute/jobs?all=1").body["detached"]
    assert len(found) == 3
    assert job in [one["jobId"] for one in found]
    assert node.run("jobs", "logs", job).stdout == b"mine\n"


def test_a_reader_that_is_too_slow_is_cut_and_never_told_wrongly(make_node: Callable[..., Node]) -> None:
    """What it was about to read is no longer kept: it must not get something else for it."""
    node = make_node(execution={"keepOutput": 65536}).start()
    script = "echo begun; until test -e read; do sleep 0.1; done; seq 100000 2000000; sleep 1000"
    job = started(node, ".", "--", "sh", "-c", script)
    answer = node.ask("GET", f"/execute/jobs/{job}").body
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", node.port))
    head = f"GET /api/v1/execute/jobs/{job}/output?follow=1 HTTP/1.0\r\nAuthorization: Bearer {node.key}\r\n\r\n"
    slow.sendall(head.encode())
    got = bytearray()
    while b"begun\n" not in got:
        got += slow.recv(65536)
    Path(node.environment["HOME"], "read").touch()
    until(lambda: node.ask("GET", f"/execute/jobs/{job}").body["outputBytes"] > 13_000_000, "all is printed")
    assert answer["status"] == "running"
    with contextlib.suppress(ConnectionResetError):
        while piece := slow.recv(65536):
            got += piece
    body = bytes(got).partition(b"\r\n\r\n")[2]
    numbers = b"".join(bytes(data) for _, data in frames.Decoder().feed(body)).split(b"\n")[1:-1]
    assert [int(number) for number in numbers] == list(range(int(numbers[0]), int(numbers[0]) + len(numbers)))
    assert node.ask("DELETE", f"/execute/{job}").status == 200
