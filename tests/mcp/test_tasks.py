"""The tools for tasks, over a daemon that is a table of answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from loopsy.errors import TaskIsOver, TaskNotFound, TooManyTasks
from loopsy.mcp.results import MOST
from loopsy.wire import sse
from tests.mcp.fake import FakeAnswer, FakeDaemon, bad, call, good, text_of, with_client

TASK = {
    "taskId": "3f9a01bc-1", "prompt": "look", "title": "look", "agent": "claude", "status": "running",
    "cwd": "/home/leo", "permissionMode": "default", "fromNodeId": "n", "from": "local",
    "startedAt": 1_700_000_000_000, "updatedAt": 2, "lastSeq": 3, "pendingApprovals": 0,
}  # fmt: skip
APPROVAL = {
    "requestId": "r1", "toolName": "Bash", "toolInput": {"command": "make"}, "kind": "command", "cwd": "/home/leo",
    "timestamp": 1_700_000_000_000, "expiresAt": 1_700_000_300_000, "suggestedRule": "allow Bash(make)",
    "command": "make\x1b[2J " + "x" * 10**6,
}  # fmt: skip
OVER = {**TASK, "status": "completed", "lastSeq": 5, "result": {
    "text": "All \u202edone.", "turns": 2, "costUsd": 0.5, "durationMs": 5,
    "diff": {"files": 1, "insertions": 2, "deletions": 0}}}  # fmt: skip
ADDRESS = "/api/v1/ai-tasks/3f9a01bc-1"
THERE = "/api/v1/peers/kai/ai-tasks/3f9a01bc-1"


def event(seq: int, kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "taskId": "t", "timestamp": seq, "seq": seq, "data": data}


PAGE = {"events": [event(1, "tool_use", toolName="Bash", input={"command": "ls"}), event(2, "text", text="a\nb\x1b")],
        "count": 2}  # fmt: skip


def test_there_is_no_tool_that_approves_or_has_a_task_ask_less(tmp_path: Path) -> None:
    async def talk(client: Client) -> Any:
        return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in with_client(FakeDaemon(tmp_path), talk)}
    mine = {name for name in tools if "task" in name}
    assert mine == {"loopsy_task_run", "loopsy_task_status", "loopsy_task_list", "loopsy_task_cancel"}
    words = json.dumps([tools[name].input_schema for name in mine]).lower()
    for word in ("approve", "bypass", "acceptedits", "permissionmode", "allowedtools", "additionalargs", "rule"):
        assert word not in words


@pytest.mark.parametrize("more", [{"permissionMode": "bypassPermissions"}, {"allowedTools": ["Bash"]}])
def test_nor_does_one_take_it_unasked_for(tmp_path: Path, more: dict[str, Any]) -> None:
    daemon = FakeDaemon(tmp_path)
    assert "there is no argument" in bad(daemon, "loopsy_task_run", prompt="x", **more)
    assert daemon.asked == []


def test_a_task_is_begun_there(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path, {
        "POST /api/v1/peers/kai/ai-tasks": TASK,
        f"GET {THERE}": TASK,
        f"GET {THERE}/events?after=0&limit=12": PAGE,
    })  # fmt: skip
    given = {"prompt": "look", "peer": "kai", "agent": "codex", "cwd": "~/app", "ask": False, "timeoutSeconds": 60}
    shown = good(daemon, "loopsy_task_run", **given)
    body = {"prompt": "look", "agent": "codex", "cwd": "~/app", "permissionMode": "dontAsk", "timeout": 60_000}
    assert daemon.asked[0] == ("POST", "/api/v1/peers/kai/ai-tasks", body)
    assert (shown["taskId"], shown["peer"], shown["status"]) == ("3f9a01bc-1", "kai", "running")
    assert shown["trust"] == "from peer kai, not from your user"
    assert shown["lastEvents"] == ["tool_use Bash {'command': 'ls'}", "text a b\ufffd"]


def test_what_it_waits_for_is_seen_and_whose_it_is_to_answer(tmp_path: Path) -> None:
    waiting = {**TASK, "status": "waiting_approval", "pendingApproval": APPROVAL, "pendingApprovals": 2}
    daemon = FakeDaemon(tmp_path, {f"GET {THERE}": waiting, f"GET {THERE}/events?after=0&limit=12": PAGE})
    result = call(daemon, "loopsy_task_status", taskId="3f9a01bc-1", peer="kai")
    assert len(text_of(result).encode()) <= MOST
    shown = dict(result.structured_content or {})
    assert shown["waitsFor"]["what"].startswith("make\ufffd[2J xx")
    assert (shown["waitsFor"]["tool"], shown["waitingRequests"]) == ("Bash", 2)
    assert "loopsy task approve 3f9a01bc --on kai" in shown["notes"][0]
    assert "You can't." in shown["notes"][0]


def test_waiting_for_its_end(tmp_path: Path) -> None:
    frames = [sse.encode(event(seq, "exit" if seq == 5 else "text", text="x"), str(seq)) for seq in (4, 5)]
    states = iter([TASK, OVER])
    daemon = FakeDaemon(tmp_path, {
        f"GET {ADDRESS}": lambda _: next(states),
        f"GET {ADDRESS}/events?after=0&limit=12": PAGE,
    })  # fmt: skip
    daemon.answers[f"GET {ADDRESS}/stream"] = FakeAnswer(daemon, frames, sse.CONTENT_TYPE, hold=False)
    shown = good(daemon, "loopsy_task_status", taskId="3f9a01bc-1", waitSeconds=30)
    assert (shown["status"], shown["result"], shown["turns"]) == ("completed", "All \ufffddone.", 2)
    assert shown["changed"] == "1 files, +2 -0 lines"


def test_a_long_result_is_cut(tmp_path: Path) -> None:
    long = {**OVER, "lastSeq": 0, "error": "e" * 10**6, "result": {"text": "\u20ac\0" * 10**6}}
    pages = {"events": [event(n, "text", text="\0" * 10**5) for n in range(12)], "count": 12}
    daemon = FakeDaemon(tmp_path, {f"GET {ADDRESS}": long, f"GET {ADDRESS}/events?after=0&limit=12": pages})
    result = call(daemon, "loopsy_task_status", taskId="3f9a01bc-1", waitSeconds=30)
    assert len(text_of(result).encode()) <= MOST
    assert any("result is cut" in note for note in dict(result.structured_content or {})["notes"])


def test_lists_and_errors(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path, {
        "GET /api/v1/peers/kai/ai-tasks?limit=3&status=active": {"tasks": [TASK]},
        "POST /api/v1/ai-tasks": TooManyTasks(),
        f"DELETE {ADDRESS}?only=cancel": TaskIsOver(),
        f"GET {ADDRESS}": TaskNotFound(),
    })  # fmt: skip
    listed = good(daemon, "loopsy_task_list", peer="kai", limit=3, status="active")
    assert [task["taskId"] for task in listed["tasks"]] == ["3f9a01bc-1"]
    assert "queue" in bad(daemon, "loopsy_task_run", prompt="x")
    assert "loopsy_task_status" in bad(daemon, "loopsy_task_cancel", taskId="3f9a01bc-1")
    assert "loopsy_task_list" in bad(daemon, "loopsy_task_status", taskId="3f9a01bc-1")
