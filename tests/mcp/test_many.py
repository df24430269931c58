"""The tools that run a command on several machines, and that tell of a detached one."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from loopsy.errors import CommandDenied, JobNotFound, PeerUnreachable
from loopsy.mcp.results import MOST
from tests.mcp.fake import PEER, FakeAnswer, FakeDaemon, bad, call, good, text_of, with_client
from tests.waiting import PATIENCE_S

DENIED = CommandDenied("'rm' is on this machine's denylist")


def several(root: Path, **runs: Any) -> FakeDaemon:
    """A daemon with these peers; each answers a command so."""
    labels = {"kai": ["gpu", "linux"], "leo": ["linux"], "mia": ["gpu"]}
    peers = [{**PEER, "name": name, "nodeId": name, "labels": labels.get(name, [])} for name in runs]
    peers += [{**PEER, "name": None, "hostname": "stranger", "nodeId": "s" * 8, "trusted": False, "labels": ["gpu"]}]
    daemon = FakeDaemon(root, {"GET /api/v1/peers": {"peers": peers}})
    for name, answer in runs.items():
        run = answer if callable(answer) or isinstance(answer, Exception) else ran(daemon, *answer)
        daemon.answers[f"POST /api/v1/peers/{name}/execute/stream"] = run
    return daemon


def ran(daemon: FakeDaemon, out: bytes, code: int) -> Any:
    """Its output and its end."""
    return lambda _: daemon.runs(out, exitCode=code, duration=20)


def test_each_machine_has_its_own_result(tmp_path: Path) -> None:
    daemon = several(tmp_path, kai=(b"caf\xc3\xa9\n", 0), leo=(b"", 3), mia=DENIED, joe=PeerUnreachable("joe is off"))
    daemon.answers["POST /api/v1/execute/stream"] = lambda _: daemon.runs(b"here\n", exitCode=0)
    names = ["this machine", "kai", "leo", "kai", "mia", "joe"]
    shown = good(daemon, "loopsy_execute_many", command="make", args=["x"], cwd="/src", timeoutSeconds=2, peers=names)
    found = {one["peer"]: one for one in shown["results"]}
    assert list(found) == ["this machine", "kai", "leo", "mia", "joe"]
    assert found["kai"] == {
        "peer": "kai", "state": "ended", "exitCode": 0, "stdout": "café\n", "stderr": "", "stdoutBytes": 6,
        "stderrBytes": 0, "durationSeconds": 0.02,
    }  # fmt: skip
    assert found["this machine"]["stdout"] == "here\n"
    assert (found["leo"]["state"], found["leo"]["exitCode"]) == ("ended", 3)
    assert (found["mia"]["state"], "denylist" in found["mia"]["error"]) == ("failed", True)
    assert found["joe"]["state"] == "failed"
    assert (shown["succeeded"], shown["notSucceeded"], shown["skipped"], shown["notes"]) == (2, 3, 0, [])
    bodies = [body for _, path, body in daemon.asked if path.endswith("stream")]
    assert bodies == [{"command": "make", "args": ["x"], "cwd": "/src", "timeout": 2000.0, "encoding": "base64"}] * 5


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"all": True}, ["kai", "leo", "mia"]),
        ({"labels": ["gpu"]}, ["kai", "mia"]),
        ({"labels": ["gpu", "linux"]}, ["kai"]),
    ],
)
def test_machines_are_chosen_by_label_or_all(tmp_path: Path, choice: dict[str, Any], names: list[str]) -> None:
    """Never one that isn't paired, whatever labels it has."""
    daemon = several(tmp_path, kai=(b"", 0), leo=(b"", 0), mia=(b"", 0))
    shown = good(daemon, "loopsy_execute_many", command="true", **choice)
    assert [one["peer"] for one in shown["results"]] == names


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "choose the machines"),
        ({"all": True, "peers": ["kai"]}, "choose the machines"),
        ({"labels": ["x"]}, "no paired peer has the labels x"),
        ({"peers": ["192.168.1.7:19532"]}, "named here, not addressed"),
        ({"peers": ["kai"], "atOnce": 0}, "atOnce"),
        ({"peers": ["kai"], "peer": "kai"}, "there is no argument peer"),
    ],
)
def test_what_chooses_nobody_is_refused(tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    daemon = several(tmp_path, kai=(b"", 0))
    assert said in bad(daemon, "loopsy_execute_many", command="true", **arguments)
    assert not [path for _, path, _ in daemon.asked if path.endswith("stream")]


def test_after_a_failure_no_more_begin_if_it_is_so_wanted(tmp_path: Path) -> None:
    daemon = several(tmp_path, kai=(b"", 1), leo=(b"", 0), mia=(b"", 0))
    shown = good(daemon, "loopsy_execute_many", command="true", all=True, atOnce=1, stopOnError=True)
    assert [one["state"] for one in shown["results"]] == ["ended", "skipped", "skipped"]
    assert shown["skipped"] == 2


def test_no_more_than_so_many_run_at_once(tmp_path: Path) -> None:
    """And so many do: each waits for two more."""
    lock, now, most, three = threading.Lock(), [0], [0], threading.Barrier(3)

    def run(_: Any) -> FakeAnswer:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        three.wait(PATIENCE_S)
        threading.Event().wait(0.05)  # for a fourth
        with lock:
            now[0] -= 1
        return daemon.runs(exitCode=0)

    daemon = several(tmp_path, **{f"m{number}": run for number in range(12)})
    good(daemon, "loopsy_execute_many", command="true", all=True, atOnce=3)
    assert most == [3]


@pytest.mark.parametrize("machines", [1, 3, 64])
def test_outputs_are_cut_so_that_all_fit_and_saved_whole(tmp_path: Path, machines: int) -> None:
    line = b'a line with \xff and \x00 and "quotes"\n'
    daemon = several(tmp_path, **{f"machine-number-{number}": (line * 9000, 0) for number in range(machines)})
    result = call(daemon, "loopsy_execute_many", command="true", all=True)
    assert len(text_of(result).encode()) <= MOST
    shown = dict(result.structured_content or {})
    assert len(shown["results"]) == machines
    assert len(shown["notes"]) == 1
    for one in shown["results"]:
        assert one["stdout"].startswith("a line with")
        assert one["stdoutBytes"] == len(line) * 9000


def test_those_with_little_output_leave_their_room_to_the_others(tmp_path: Path) -> None:
    runs: dict[str, Any] = {f"quiet{number}": (b"ok\n", 0) for number in range(9)}
    daemon = several(tmp_path, loud=(b"x" * 40_000, 0), **runs)
    shown = good(daemon, "loopsy_execute_many", command="true", all=True)
    assert [len(one["stdout"]) for one in shown["results"]] == [40_000, *[3] * 9]


def test_errors_of_many_are_short(tmp_path: Path) -> None:
    daemon = several(tmp_path, **{f"m{number}": PeerUnreachable("e" * 5000) for number in range(64)})
    result = call(daemon, "loopsy_execute_many", command="true", all=True)
    assert len(text_of(result).encode()) <= MOST


def test_a_cancelled_call_ends_them_all(tmp_path: Path) -> None:
    daemon = several(tmp_path, kai=lambda _: held(daemon), leo=lambda _: held(daemon))

    async def talk(client: Client) -> None:
        async with anyio.create_task_group() as group:

            async def run() -> None:
                await client.call_tool("loopsy_execute_many", {"command": "sleep", "all": True})

            group.start_soon(run)
            await anyio.to_thread.run_sync(daemon.reached.wait, PATIENCE_S)
            group.cancel_scope.cancel()

    with_client(daemon, talk)
    assert daemon.broken_off.wait(PATIENCE_S)


def held(daemon: FakeDaemon) -> FakeAnswer:
    """A command that runs on."""
    return FakeAnswer(daemon, [], "application/x-loopsy-frames", hold=True)


# -- detached ---------------------------------------------------------------------------------------------------------
JOB = {
    "jobId": "7d0c", "command": "make", "args": ["a b"], "startedAt": 1_700_000_000_000, "fromNodeId": "n",
    "status": "ended", "outcome": {"exitCode": 3, "killed": False}, "endedAt": 1_700_000_001_000, "outputBytes": 9,
    "droppedBytes": 4,
}  # fmt: skip


def test_a_detached_command_is_told_of(tmp_path: Path) -> None:
    path = "/api/v1/peers/kai/execute/jobs/7d0c"
    daemon = FakeDaemon(tmp_path, {f"GET {path}": JOB, f"GET {path}/wait?timeout=5": JOB})
    daemon.answers[f"GET {path}/output"] = lambda _: daemon.runs(b"out\n", b"err\n", exitCode=3)
    for wait in ({}, {"waitSeconds": 5}):
        shown = good(daemon, "loopsy_job_output", jobId="7d0c", peer="kai", **wait)
        assert shown == {
            "peer": "kai", "trust": "from peer kai, not from your user", "jobId": "7d0c", "status": "ended",
            "command": "make 'a b'", "exitCode": 3, "startedAt": "2023-11-14T22:13:20Z",
            "endedAt": "2023-11-14T22:13:21Z", "stdout": "out\n", "stderr": "err\n", "droppedBytes": 4, "notes": [],
        }  # fmt: skip
    assert [path for _, path, _ in daemon.asked][2].endswith("wait?timeout=5")


def test_much_output_of_a_detached_command_is_cut(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path, {"GET /api/v1/execute/jobs/7d0c": {**JOB, "args": ["x" * 10**6]}})
    daemon.answers["GET /api/v1/execute/jobs/7d0c/output"] = lambda _: daemon.runs(b"line\n" * 10**6)
    result = call(daemon, "loopsy_job_output", jobId="7d0c")
    assert len(text_of(result).encode()) <= MOST
    assert (result.structured_content or {})["stdoutFile"]


def test_a_job_that_nobody_knows(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path, {"GET /api/v1/execute/jobs/x": JobNotFound("no such job")})
    assert "no such job" in bad(daemon, "loopsy_job_output", jobId="x")


def test_labels_are_listed(tmp_path: Path) -> None:
    shown = good(several(tmp_path, kai=(b"", 0), joe=(b"", 0)), "loopsy_list_peers")
    assert {one["name"]: one.get("labels") for one in shown["peers"]} == {
        "kai": ["gpu", "linux"], "joe": None, "stranger": ["gpu"],
    }  # fmt: skip
