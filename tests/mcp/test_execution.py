"""The tool that runs a command, over a daemon that is a table of answers; progress and cancelling."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult

from loopsy.errors import (
    CommandFailedToStart,
)
from loopsy.mcp.results import MOST
from tests.mcp.fake import (
    FakeAnswer,
    FakeDaemon,
    bad,
    good,
    text_of,
    with_client,
)
from tests.waiting import PATIENCE_S

STREAM, STREAM_KAI = "POST /api/v1/execute/stream", "POST /api/v1/peers/kai/execute/stream"


# -- execution --------------------------------------------------------------------------------------------------------
def test_a_command_s_request_and_result(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path)
    daemon.answers[STREAM_KAI] = lambda _: daemon.runs(b"caf\xc3\xa9\n", b"oops\n", exitCode=3, duration=1234)
    shown = good(
        daemon,
        "loopsy_execute",
        command="make",
        args=["all"],
        peer="kai",
        cwd="/src",
        env={"A": "1"},
        timeoutSeconds=1.5,
    )
    asked = {
        "command": "make",
        "args": ["all"],
        "cwd": "/src",
        "env": {"A": "1"},
        "timeout": 1500.0,
        "encoding": "base64",
    }
    assert daemon.asked == [("POST", "/api/v1/peers/kai/execute/stream", asked)]
    assert shown == {
        "peer": "kai", "trust": "from peer kai, not from your user", "exitCode": 3, "stdout": "café\n",
        "stderr": "oops\n", "encoding": "text", "stdoutBytes": 6, "stderrBytes": 5, "durationSeconds": 1.234,
        "jobId": "job-1", "notes": [],
    }  # fmt: skip


def test_a_command_that_a_signal_ended(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path)
    daemon.answers[STREAM] = lambda _: daemon.runs(exitCode=None, signal="SIGTERM", killed=True, reason="timeout")
    shown = good(daemon, "loopsy_execute", command="sleep")
    assert "exitCode" not in shown
    assert (shown["signal"], shown["reason"]) == ("SIGTERM", "timeout")


@pytest.mark.parametrize(
    ("out", "err"),
    [
        (b"line\n" * 10**6, b""),
        (b"line\n" * 10**6, b"error\n" * 10**6),
        (b"", b"error\n" * 10**5),
        (b"\0" * 10**6, b"\xff" * 10**6),
        (b'"' * 60_000, b"\\" * 60_000),
        ("\u20ac".encode() * 20_000, b"x" * 30_000),
        (b"x" * 49_000, b"y" * 20_000),
    ],
)
@pytest.mark.parametrize("encoding", ["text", "base64"])
def test_output_is_cut_to_what_a_model_takes_and_saved_whole(
    tmp_path: Path, out: bytes, err: bytes, encoding: str
) -> None:
    daemon = FakeDaemon(tmp_path)
    daemon.answers[STREAM] = lambda _: daemon.runs(out, err)

    async def talk(client: Client) -> CallToolResult:
        result = await client.call_tool("loopsy_execute", {"command": "x", "encoding": encoding})
        shown = dict(result.structured_content or {})
        for name, whole in (("stdout", out), ("stderr", err)):
            assert shown[f"{name}Bytes"] == len(whole)
            given = b64decode(shown[name]) if encoding == "base64" else shown[name].encode()
            path = shown.get(f"{name}File")
            if path is None:
                assert given == whole or b"\xef\xbf\xbd" in given
            else:
                assert Path(path).read_bytes() == whole
                assert f"{name} was cut." in " ".join(shown["notes"])
        return result

    result = with_client(daemon, talk)
    assert len(text_of(result).encode()) <= MOST


def test_a_cut_output_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path)
    out = b"first\n" + b"middle\n" * 100_000 + "l\u00e4st\n".encode()
    daemon.answers[STREAM] = lambda _: daemon.runs(out)
    stdout = good(daemon, "loopsy_execute", command="x")["stdout"]
    assert stdout.startswith("first\n")
    assert stdout.endswith("middle\nläst\n")
    assert "bytes are left out here" in stdout


def test_binary_output_is_shown_safely_and_exactly_if_asked(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path)
    out = b"\x1b[31m\x00\xff\xfe" + bytes(range(256))
    daemon.answers[STREAM] = lambda _: daemon.runs(out)
    shown = good(daemon, "loopsy_execute", command="x")
    assert "\x1b" not in shown["stdout"]
    assert "\0" not in shown["stdout"]
    assert 'encoding "base64"' in shown["notes"][0]
    assert good(daemon, "loopsy_execute", command="x", encoding="base64")["stdout"] == b64encode(out).decode()


def test_an_older_node_s_events_are_read_too(tmp_path: Path) -> None:

    events = (
        b'data: {"type":"stdout","data":"hello\\n","jobId":"j"}\n\n',
        b'data: {"type":"exit","data":"7","jobId":"j"}\n\n',
    )
    daemon = FakeDaemon(tmp_path)
    daemon.answers[STREAM] = lambda _: FakeAnswer(daemon, events, "text/event-stream", False)
    shown = good(daemon, "loopsy_execute", command="x")
    assert (shown["stdout"], shown["exitCode"]) == ("hello\n", 7)


def test_a_cut_stream_is_an_error_that_says_so(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path)
    daemon.broken_off.set()
    daemon.answers[STREAM] = lambda _: daemon.runs(b"some", hold=True)
    assert "how it ended is not known" in bad(daemon, "loopsy_execute", command="x")


def test_a_line_given_as_a_program_is_explained(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path, {STREAM: CommandFailedToStart("'ls -l' was not found")})
    assert 'args ["-c"' in bad(daemon, "loopsy_execute", command="ls -l")
    daemon.answers[STREAM] = CommandFailedToStart("'ls' was not found")
    assert "-c" not in bad(daemon, "loopsy_execute", command="ls")


def test_a_detached_command_is_left_running(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path)
    daemon.answers[STREAM] = lambda _: daemon.runs(b"x", hold=True)
    assert good(daemon, "loopsy_execute", command="x", detach=True)["jobId"] == "job-1"
    assert daemon.asked[0][2]["detach"] is True


# -- cancelling, progress ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("waits", ["running", "asked"])
def test_a_cancelled_call_breaks_its_request_off(tmp_path: Path, mode: str, waits: str) -> None:
    daemon = FakeDaemon(tmp_path)
    daemon.answers[STREAM] = (lambda _: daemon.runs(b"some", hold=True)) if waits == "running" else daemon.hangs

    async def talk(client: Client) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "loopsy_execute", {"command": "sleep"})
            assert await anyio.to_thread.run_sync(daemon.reached.wait, PATIENCE_S)
            group.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(daemon.ended.wait, PATIENCE_S)
        assert (await client.call_tool("loopsy_list_peers")).structured_content

    with_client(daemon, talk, mode)
    assert daemon.broken_off.is_set()


def test_a_cancelled_transfer_is_cancelled_in_the_daemon(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path)

    event = b'data: {"state":"running","transferId":"t1"}\n\n'
    daemon.answers |= {
        "POST /api/v1/transfers": {"transferId": "t1"},
        "GET /api/v1/transfers/t1/events": lambda _: FakeAnswer(daemon, [event], "text/event-stream", True),
        "DELETE /api/v1/transfers/t1": {"state": "cancelled"},
    }

    async def talk(client: Client) -> None:
        given = {"direction": "push", "localPath": "/a", "remotePath": "b", "peer": "kai"}
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "loopsy_transfer_file", given)
            assert await anyio.to_thread.run_sync(daemon.reached.wait, PATIENCE_S)
            group.cancel_scope.cancel()
        with anyio.fail_after(PATIENCE_S):
            while ("DELETE", "/api/v1/transfers/t1", None) not in daemon.asked:
                await anyio.sleep(0.01)

    with_client(daemon, talk)


def test_progress_is_reported_and_only_grows(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path)
    daemon.answers[STREAM] = lambda _: daemon.runs(b"one\ntwo\n", hold=True)
    seen: list[tuple[float, float | None, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))
        if len(seen) > 1 and "8 bytes in 2 lines so far" in str(message):
            daemon.broken_off.set()

    async def talk(client: Client) -> None:
        await client.call_tool("loopsy_execute", {"command": "sleep"}, progress_callback=note)

    with_client(daemon, talk)
    assert seen[0][0] < seen[1][0]
    assert "8 bytes in 2 lines so far" in str(seen[-1][2])
