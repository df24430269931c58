"""Commands on a real daemon: output, ends, limits, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from loopsy.testing.nodes import Node
from loopsy.wire import frames
from tests.integration.conftest import until
from tests.integration.streams import Stream
from tests.integration.test_rest import refused

STUBBORN = """
trap '' TERM
echo $$ > "$0"
sh -c 'trap "" TERM; echo $$ >> "$0"; while :; do sleep 0.1; done' "$0" &
while :; do sleep 0.1; done
"""
"""Ignores TERM, with a child that ignores it too and holds stdout."""


def alive(pid_file: Path) -> list[int]:
    """Those of the processes named in the file that live (zombies don't)."""
    found = []
    for pid in map(int, pid_file.read_text().split()):
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found


def both_started(pid_file: Path) -> bool:
    return pid_file.exists() and len(pid_file.read_text().split()) == 2


def test_output_and_exit_code(node: Node) -> None:
    answer = node.ask("POST", "/execute", {"command": "sh", "args": ["-c", "echo out; echo err >&2; exit 3"]})
    assert answer.status == 200
    body = answer.body
    assert (body["exitCode"], body["stdout"], body["stderr"], body["killed"]) == (3, "out\n", "err\n", False)
    assert {"jobId", "duration"} <= set(body)


def test_a_signal_is_told(node: Node) -> None:
    body = node.ask("POST", "/execute", {"command": "sh", "args": ["-c", "kill -9 $$"]}).body
    assert (body["exitCode"], body["killed"], body["signal"]) == (None, True, "SIGKILL")


def test_cwd_env_and_no_shell(node: Node, tmp_path: Path) -> None:
    run = {"command": "sh", "args": ["-c", 'pwd; echo "$X"'], "cwd": str(tmp_path), "env": {"X": "a b"}}
    assert node.ask("POST", "/execute", run).body["stdout"] == f"{tmp_path}\na b\n"
    assert node.ask("POST", "/execute", {"command": "echo", "args": ["$HOME; ls"]}).body["stdout"] == "$HOME; ls\n"


def test_commands_start_at_home_without_our_variables_and_without_a_terminal(node: Node) -> None:
    body = node.ask("POST", "/execute", {"command": "sh", "args": ["-c", "pwd; env | grep -c LOOPSY_; cat"]}).body
    assert body["stdout"].split() == [node.environment["HOME"], "0"]


def test_what_cannot_start(node: Node, tmp_path: Path) -> None:
    refused(node.ask("POST", "/execute", {"command": "no-such-program"}), 400, 3004, "no-such-program")
    refused(node.ask("POST", "/execute", {"command": "ls", "cwd": str(tmp_path / "no")}), 400, 3004, "cwd")
    refused(node.ask("POST", "/execute", {"command": str(tmp_path)}), 400, 3004)
    refused(node.ask("POST", "/execute/stream", {"command": "no-such-program"}), 400, 3004)
    assert node.ask("GET", "/execute/jobs").body == {"jobs": []}


@pytest.mark.parametrize("path", ["/execute", "/execute/stream"])
def test_the_policy_stands_before_every_spawn(node: Node, path: str) -> None:
    refused(node.ask("POST", path, {"command": "/bin/rm", "args": ["x"]}), 403, 3001, "denylist")
    refused(node.ask("POST", path, {"command": "sh", "args": ["-c", "true; rm x"]}), 403, 3001)


def test_output_beyond_the_cap_is_thrown_away_and_told(make_node: Any) -> None:
    node = make_node(execution={"maxOutput": 100_000}).start()
    before = psutil.Process(node.process.pid).memory_info().rss
    body = node.ask("POST", "/execute", {"command": "sh", "args": ["-c", "yes ä | head -c 200000000"]}).body
    assert body["truncated"] is True
    assert 99_990 <= len(body["stdout"].encode()) <= 100_000
    assert "\ufffd" not in body["stdout"]
    assert body["exitCode"] == 0
    assert psutil.Process(node.process.pid).memory_info().rss - before < 30_000_000


def test_max_concurrent(make_node: Any) -> None:
    node = make_node(execution={"maxConcurrent": 2}).start()
    streams = [Stream(node, "/execute/stream", {"command": "sleep", "args": ["1000"]}) for _ in range(2)]
    refused(node.ask("POST", "/execute", {"command": "true"}), 429, 3003)
    streams[0].close()
    until(lambda: node.ask("POST", "/execute", {"command": "true"}).status == 200)
    streams[1].close()


def test_a_stream_comes_as_it_is_printed(node: Node) -> None:
    stream = Stream(node, "/execute/stream", {"command": "sh", "args": ["-c", "echo one; exec sleep 1000"]})
    assert next(stream.frames())[1].startswith(b"one\n")
    stream.close()


def test_events_hold_text_whose_characters_do_not_break(node: Node) -> None:
    script = "printf 'a\\303'; sleep 0.3; printf '\\244\\377\\342\\202'; exit 4"
    text = node.ask("POST", "/execute/stream", {"command": "sh", "args": ["-c", script]}).body.decode()
    events = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]
    assert "".join(e["data"] for e in events if e["type"] == "stdout") == "aä\ufffd\ufffd"
    assert events[-1]["type"] == "exit"
    assert (events[-1]["data"], events[-1]["exitCode"]) == ("4", 4)
    assert {e["jobId"] for e in events} == {events[0]["jobId"]}


def test_bytes_pass_exactly(node: Node) -> None:
    script = "import os;[os.write(1,bytes(range(256))*64) for _ in range(200)];os.write(2,b'\\xff\\x00')"
    out, err, end = Stream(node, "/execute/stream", {"command": "python3", "args": ["-c", script]}).rest()
    assert out == bytes(range(256)) * 64 * 200
    assert (err, end["exitCode"]) == (b"\xff\x00", 0)


@pytest.mark.parametrize("way", ["cancel", "timeout", "disconnect"])
def test_a_stubborn_family_is_wholly_gone(node: Node, tmp_path: Path, way: str) -> None:
    """TERM is ignored, so KILL comes 5 s later; one second after that nothing of it lives."""
    pids = tmp_path / "pids"
    request: dict[str, Any] = {"command": "sh", "args": ["-c", STUBBORN, str(pids)]}
    if way == "timeout":
        request["timeout"] = 10_000  # in which both must have started
    stream = Stream(node, "/execute/stream", request)
    until(lambda: both_started(pids))
    if way == "cancel":
        assert node.ask("DELETE", f"/execute/{stream.job}").body == {"success": True, "jobId": stream.job}
    if way == "disconnect":
        stream.close()
    else:
        _, _, end = stream.rest()
        assert (end["exitCode"], end["signal"], end["killed"]) == (None, "SIGKILL", True)
        assert end["reason"] == ("timeout" if way == "timeout" else "cancelled")
    until(lambda: not alive(pids), "the end of the whole family")
    until(lambda: node.ask("GET", "/execute/jobs").body == {"jobs": []})
    refused(node.ask("DELETE", f"/execute/{stream.job}"), 404, 3006)


def test_a_plain_execute_ends_with_its_reader(node: Node, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    body = json.dumps({"command": "sh", "args": ["-c", f"echo $$ > {marker}; exec sleep 300"]}).encode()
    sock = socket.create_connection(("127.0.0.1", node.port))
    sock.sendall(
        f"POST /api/v1/execute HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {node.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    until(lambda: marker.exists() and marker.read_text().strip())
    assert alive(marker)
    sock.close()
    until(lambda: not alive(marker))
    until(lambda: node.ask("GET", "/execute/jobs").body == {"jobs": []})


def test_a_detached_job_outlives_its_reader(node: Node, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = f"echo $$ > {marker}; while :; do echo x; sleep 0.05; done"
    stream = Stream(node, "/execute/stream", {"command": "sh", "args": ["-c", script], "detach": True})
    until(lambda: marker.exists() and marker.read_text().strip())
    stream.close()
    time.sleep(0.5)  # long enough for a job that ends with its reader to be gone
    assert alive(marker)
    jobs = node.ask("GET", "/execute/jobs").body["jobs"]
    assert [(job["jobId"], job["detached"]) for job in jobs] == [(stream.job, True)]
    assert jobs[0]["pid"] == int(marker.read_text())
    node.ask("DELETE", f"/execute/{stream.job}")
    until(lambda: not alive(marker))


def test_a_slow_reader_holds_the_process_back_not_the_memory(node: Node) -> None:
    process = psutil.Process(node.process.pid)
    before = process.memory_info().rss
    stream = Stream(node, "/execute/stream", {"command": "sh", "args": ["-c", "yes | head -c 100000000"]})
    time.sleep(1.0)  # an unread stream: whatever is going to pile up piles up now
    assert process.memory_info().rss - before < 20_000_000
    assert node.ask("GET", "/health").status == 200
    out, _, end = stream.rest()
    assert (len(out), end["exitCode"]) == (100_000_000, 0)
    assert process.memory_info().rss - before < 20_000_000


def test_stopping_the_daemon_ends_its_jobs(make_node: Any, tmp_path: Path) -> None:
    node = make_node().start()
    pids = tmp_path / "pids"
    stream = Stream(node, "/execute/stream", {"command": "sh", "args": ["-c", STUBBORN, str(pids)]})
    until(lambda: both_started(pids))
    assert node.stop() in (0, -signal.SIGTERM)
    until(lambda: not alive(pids))  # what was killed takes a moment to go
    assert stream.rest()[2]["reason"] == "stopped"


def test_a_command_that_the_daemons_stop_ended_says_so(make_node: Any) -> None:
    node = make_node().start()
    argv = [sys.executable, "-m", "loopsy.cli.main", "exec", ".", "--", "sh", "-c", "echo begun; exec sleep 1000"]
    command = subprocess.Popen(argv, env=node.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stdout.readline() == b"begun\n"
    node.stop()
    said = command.communicate(timeout=300)[1].decode()
    assert said == "loopsy: the command was ended: the daemon was stopped\n"
    assert command.returncode == 128 + signal.SIGTERM


def test_a_peer_lists_and_cancels_only_its_own_jobs(make_node: Any) -> None:
    """The own key, and another peer, have a job each: for kai they do not exist."""
    keys = {name: name[0] * 64 for name in ("kai", "mia")}
    node = make_node(auth={"allowedKeys": keys}).start()
    streams = {
        name: Stream(node, "/execute/stream", {"command": "sleep", "args": ["600"]}, key=key)
        for name, key in (*keys.items(), ("local", node.key))
    }
    listed = {
        name: {job["jobId"] for job in node.ask("GET", "/execute/jobs", key=key).body["jobs"]}
        for name, key in (*keys.items(), ("local", node.key))
    }
    every = {name: stream.job for name, stream in streams.items()}
    assert listed == {"kai": {every["kai"]}, "mia": {every["mia"]}, "local": set(every.values())}
    for another in (every["mia"], every["local"]):
        refused(node.ask("DELETE", f"/execute/{another}", key=keys["kai"]), 404, 3006)
    assert node.ask("DELETE", f"/execute/{every['kai']}", key=keys["kai"]).status == 200
    assert streams["kai"].rest()[2]["reason"] == "cancelled"
    assert node.ask("DELETE", f"/execute/{every['mia']}").status == 200
    assert streams["mia"].rest()[2]["reason"] == "cancelled"
    assert len(node.ask("GET", "/execute/jobs").body["jobs"]) == 1


def test_a_daemon_killed_cuts_the_stream_so_that_it_does_not_look_whole(make_node: Any) -> None:
    node = make_node().start()
    stream = Stream(node, "/execute/stream", {"command": "sh", "args": ["-c", "echo hi; exec sleep 60"]})
    pieces = stream.frames()
    assert next(pieces) == (frames.OUT, b"hi\n")
    pid = node.ask("GET", "/execute/jobs").body["jobs"][0]["pid"]
    node.kill()
    assert stream.ending() is None
    os.kill(pid, signal.SIGKILL)


def test_an_allowed_name_is_no_way_to_another_program(make_node: Callable[..., Node], tmp_path: Path) -> None:
    """With an allowlist nobody says where its programs are looked for, plainly, over a socket, or on a terminal."""
    other = tmp_path / "uptime"
    other.write_text("#!/bin/sh\necho another\n")
    other.chmod(0o755)
    node = make_node(execution={"allowlist": ["uptime"]}).start()
    asked = {"command": "uptime", "env": {"PATH": str(tmp_path)}}
    for path in ("/execute", "/execute/stream", "/terminals"):
        refused(node.ask("POST", path, asked), 403, 3001)
    assert node.ask("POST", "/execute", {"command": "uptime", "env": {"LC_ALL": "C"}}).body["exitCode"] == 0
