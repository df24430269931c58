"""``loopsy exec`` against a daemon that plays a part: what it sends, shows and exits with."""

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loopsy.wire import frames, sse
from tests.cli.running import configured, loopsy, popen
from tests.cli.scripted import ScriptedDaemon, answer, body_of, stream
from tests.waiting import PATIENCE_S, wait_until


def exit_frame(**outcome: object) -> bytes:
    return frames.encode(frames.EXIT, json.dumps({"exitCode": None, "killed": False, **outcome}).encode())


def framed(*pieces: bytes) -> bytes:
    return stream(frames.CONTENT_TYPE, *pieces)


OK = framed(exit_frame(exitCode=0))


def run(tmp_path: Path, said: bytes, *words: str, stdin: bytes = b""):  # type: ignore[no-untyped-def]
    with ScriptedDaemon(said) as scripted:
        done = loopsy(configured(tmp_path, scripted.port), "exec", *words, stdin=stdin)
    return done, scripted.requests


# -- the command line -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("kai", "ls", "-la", "/x"), ["ls", "-la", "/x"]),
        (("kai", "--", "ls", "-la"), ["ls", "-la"]),
        (("kai", "echo", "--", "x"), ["echo", "--", "x"]),
        (("kai", "--", "--", "x"), ["--", "x"]),
        (("kai", "--", "--timeout", "x"), ["--timeout", "x"]),
        (("kai", "ls", "--timeout", "5", "--help"), ["ls", "--timeout", "5", "--help"]),
        (("--timeout", "5", "kai", "ls"), ["ls"]),
        (("kai", "--timeout", "5", "--", "ls"), ["ls"]),
        (("kai", "--timeout=5", "ls", "-l"), ["ls", "-l"]),
        (("kai", "--env", "A=b", "--cwd", "/", "sh", "-c", "x"), ["sh", "-c", "x"]),
    ],
)
def test_everything_behind_the_peer_is_the_command(tmp_path: Path, words: tuple[str, ...], command: list[str]) -> None:
    done, requests = run(tmp_path, OK, *words)
    assert done.returncode == 0, done.stderr
    body = body_of(requests[0])
    assert [body["command"], *body["args"]] == command


def test_what_is_asked(tmp_path: Path) -> None:
    _, requests = run(tmp_path, OK, "--timeout", "1.5m", "--cwd", "/w", "--env", "A=b=c", "--env", "B=", "ka/i", "true")
    head = requests[0].partition(b"\r\n\r\n")[0].decode()
    assert head.startswith("POST /api/v1/peers/ka%2Fi/execute/stream HTTP/1.0\r\n")
    assert "Accept: application/vnd.loopsy.frames, text/event-stream" in head
    assert body_of(requests[0]) == {
        "command": "true", "args": [], "cwd": "/w", "env": {"A": "b=c", "B": ""}, "timeout": 90_000,
        "encoding": "base64",
    }  # fmt: skip


@pytest.mark.parametrize("word", [".", "local"])
def test_this_machine_needs_no_gateway(tmp_path: Path, word: str) -> None:
    _, requests = run(tmp_path, OK, word, "true")
    assert requests[0].startswith(b"POST /api/v1/execute/stream ")


def test_a_key_is_taken_from_stdin(tmp_path: Path) -> None:
    _, requests = run(tmp_path, OK, "--key", "-", "10.0.0.9:1", "true", stdin=b"secret-secret-secret\n")
    assert b"X-Loopsy-Peer-Key: secret-secret-secret\r\n" in requests[0]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("kai",), 2, "what should run on kai?"),
        ((), 2, "required"),
        (("kai", "--nope", "ls"), 2, "--nope"),
        (("--timeout", "soon", "kai", "ls"), 2, "'soon' is not a duration"),
        (("--env", "=x", "kai", "ls"), 2, "is not NAME=VALUE"),
        (("--key", "a b", "kai", "ls"), 2, "characters that no key has"),
        (("--key", "k" * 20, ".", "ls"), 2, "another machine"),
    ],
)
def test_bad_usage(tmp_path: Path, words: tuple[str, ...], status: int, said: str) -> None:
    done, requests = run(tmp_path, OK, *words)
    assert (done.returncode, requests) == (status, [])
    assert done.stderr.startswith(b"loopsy: ")
    assert said in done.stderr.decode()


# -- output and exit --------------------------------------------------------------------------------------------------
def test_output_is_passed_on_byte_for_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 300
    said = framed(
        frames.encode(frames.OUT, data), frames.encode(frames.ERR, b"\xff\x00err"), frames.encode(frames.OUT, b"\r\n"),
        exit_frame(exitCode=3),
    )  # fmt: skip
    done, _ = run(tmp_path, said, "kai", "x")
    assert (done.stdout, done.stderr, done.returncode) == (data + b"\r\n", b"\xff\x00err", 3)


@pytest.mark.parametrize(
    ("outcome", "status", "told"),
    [
        ({"exitCode": 0}, 0, ""),
        ({"exitCode": 255}, 255, ""),
        ({"signal": "SIGKILL", "killed": True}, 137, ""),
        ({"signal": "SIGTERM", "killed": True, "reason": "cancelled"}, 143, "cancelled"),
        ({"signal": "SIGTERM", "killed": True, "reason": "timeout", "duration": 5003}, 124, "timed out after 5s"),
        ({"exitCode": 0, "killed": True, "reason": "timeout", "duration": 61_000}, 124, "timed out after 1min1s"),
        ({"signal": "SIGNOVEL", "killed": True}, 137, ""),
    ],
)
def test_how_it_ended(tmp_path: Path, outcome: dict[str, object], status: int, told: str) -> None:
    done, _ = run(tmp_path, framed(exit_frame(**outcome)), "kai", "x")
    assert done.returncode == status
    assert told in done.stderr.decode()
    assert bool(done.stderr) is bool(told)


def test_a_stream_without_an_end_is_a_lost_connection(tmp_path: Path) -> None:
    done, _ = run(tmp_path, framed(frames.encode(frames.OUT, b"half")), "kai", "x")
    assert (done.stdout, done.returncode) == (b"half", 255)
    assert b"the connection to kai was lost" in done.stderr


@pytest.mark.parametrize("said", [b"\x09nonsense", frames.encode(frames.OUT, b"x" * 9)[:-2]])
def test_a_broken_stream(tmp_path: Path, said: bytes) -> None:
    done, _ = run(tmp_path, framed(said), "kai", "x")
    assert done.returncode == 255
    assert b"was lost" in done.stderr


def test_a_refusal_with_terminal_escapes_in_it(tmp_path: Path) -> None:
    body = {"error": {"code": 3001, "message": "no \x1b[2J\x9b", "details": {"hint": "ask \u202ekai"}}}
    done, _ = run(tmp_path, answer(403, body), "kai", "rm")
    assert done.returncode == 255
    assert done.stderr.decode() == "loopsy: no \\x1b[2J\\x9b\n  ask \\u202ekai\n"


def test_an_error_frame(tmp_path: Path) -> None:
    error = json.dumps({"error": {"code": 2003, "message": "kai went away"}}).encode()
    done, _ = run(tmp_path, framed(frames.encode(frames.ERROR, error)), "kai", "x")
    assert (done.returncode, done.stderr) == (255, b"loopsy: kai went away\n")


# -- nodes that answer with events ------------------------------------------------------------------------------------
def events(*each: dict[str, object]) -> bytes:
    return stream("text/event-stream; charset=utf-8", *(sse.encode(event) for event in each), job_id="")


def test_an_older_node_s_events(tmp_path: Path) -> None:
    said = events(
        {"type": "stdout", "data": "grüße\n", "jobId": "j"},
        {"type": "stderr", "data": "e", "jobId": "j"},
        {"type": "novel", "data": "?"},
        {"type": "exit", "data": "4", "jobId": "j"},
    )
    done, _ = run(tmp_path, said, "kai", "x")
    assert (done.stdout.decode(), done.stderr, done.returncode) == ("grüße\n", b"e", 4)


def test_exact_events(tmp_path: Path) -> None:
    said = events(
        {"type": "stdout", "data": base64.b64encode(b"\xff\x00").decode(), "encoding": "base64"},
        {"type": "exit", "data": "null", "exitCode": None, "signal": "SIGKILL", "killed": True},
    )
    done, _ = run(tmp_path, said, "kai", "x")
    assert (done.stdout, done.returncode) == (b"\xff\x00", 137)


def test_an_error_event(tmp_path: Path) -> None:
    done, _ = run(tmp_path, events({"type": "error", "data": "spawn ENOENT"}), "kai", "x")
    assert (done.returncode, done.stderr) == (255, b"loopsy: spawn ENOENT\n")


# -- detached, and as JSON --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("said", [OK, events({"type": "stdout", "data": "x", "jobId": "job-1"})])
def test_detached(tmp_path: Path, said: bytes) -> None:
    done, requests = run(tmp_path, said, "--detach", "kai", "sleep", "9")
    assert (done.stdout, done.returncode) == (b"job-1\n", 0)
    assert body_of(requests[0])["detach"] is True


def test_collected_as_json(tmp_path: Path) -> None:
    result = {"jobId": "j", "exitCode": None, "stdout": "o", "stderr": "", "killed": True, "signal": "SIGHUP"}
    done, requests = run(tmp_path, answer(200, result), "--json", "kai", "x")
    assert (json.loads(done.stdout), done.returncode) == (result, 129)
    assert requests[0].startswith(b"POST /api/v1/peers/kai/execute HTTP")


# -- interrupted ------------------------------------------------------------------------------------------------------
class TwoTalks(ScriptedDaemon):
    """Streams until a second connection (the cancel) has been answered, then ends the stream with ``last``."""

    def __init__(self, last: bytes) -> None:
        super().__init__()
        self._last = last

    def _serve(self) -> None:
        first, _ = self._listener.accept()
        with first:
            self.requests.append(self._read(first))
            first.sendall(framed(frames.encode(frames.OUT, b"ready\n")))
            second, _ = self._listener.accept()
            with second:
                self._converse(second, [answer(200, {"success": True})])
            first.sendall(self._last)


def wait_until_waiting(process: subprocess.Popen[bytes]) -> None:
    """For more of the stream. Python hears a signal between two of its own steps: one that comes right before it waits
    is heard only once something has come."""
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING, "its wait")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_the_job_and_waits_for_its_end(tmp_path: Path, number: signal.Signals) -> None:
    last = frames.encode(frames.OUT, b"bye\n") + exit_frame(signal="SIGTERM", killed=True, reason="cancelled")
    with TwoTalks(last) as scripted:
        process = popen(configured(tmp_path, scripted.port), "exec", "kai", "x")
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        wait_until_waiting(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (out, err, process.returncode) == (b"bye\n", b"", 128 + number)
    assert scripted.requests[1].startswith(b"DELETE /api/v1/peers/kai/execute/job-1 HTTP")


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    """The status tells which one ended it: the first would, after a while."""
    with ScriptedDaemon(framed(frames.encode(frames.OUT, b"ready\n")), hold=True) as scripted:
        process = popen(configured(tmp_path, scripted.port), "exec", "kai", "x")
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        wait_until_waiting(process)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: len(psutil.Process(process.pid).net_connections()) == 2, "the connection that cancels")
        wait_until_waiting(process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/null of this kind")
def test_a_reader_that_leaves(tmp_path: Path) -> None:
    out, into = os.pipe()
    os.close(out)
    with ScriptedDaemon(framed(frames.encode(frames.OUT, b"x"), exit_frame(exitCode=0))) as scripted:
        process = popen_into(configured(tmp_path, scripted.port), into)
    assert (process.returncode, process.stderr) == (141, b"")


def popen_into(directory: Path, into: int):  # type: ignore[no-untyped-def]
    from tests.cli.running import COMMAND, environment

    try:
        return subprocess.run(
            [*COMMAND, "exec", "kai", "x"],
            stdout=into,
            stderr=subprocess.PIPE,
            env=environment(directory),
            check=False,
            timeout=PATIENCE_S,
        )
    finally:
        os.close(into)
