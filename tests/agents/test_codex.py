"""Codex's own ways."""

from __future__ import annotations

from typing import Any

import pytest

from loopsy.agents.codex import script
from loopsy.wire.tasks import PERMISSION_MODES
from tests.agents.replay import Played, began, shown
from tests.agents.test_sessions import talking

COMMAND = {"threadId": "t", "turnId": "u", "itemId": "i", "command": "/bin/bash -lc 'make all'", "cwd": "/w"}
CHANGE = {"type": "fileChange", "id": "i", "changes": [{"path": "/w/a", "kind": {"type": "add"}, "diff": "x\n"}]}


def asks(method: str, params: Any, message_id: int | str = 0) -> dict[str, Any]:
    """A request of its."""
    return {"method": method, "id": message_id, "params": params}


def patch(item: Any = CHANGE, **more: Any) -> tuple[Any, Any]:
    """A patch that is asked about."""
    params = {"itemId": item["id"], **more}
    return {"method": "item/started", "params": {"item": item}}, asks("item/fileChange/requestApproval", params)


def fed(*values: Any, **more: Any) -> Played:
    """A session that read these lines."""
    played = talking("codex", **more)
    played.feed(*values)
    return played


def test_a_command_is_shown_without_its_wrapping() -> None:
    (asked,) = fed(asks("item/commandExecution/requestApproval", COMMAND)).asked
    assert (asked.kind, asked.tool_name, asked.command) == ("command", "Bash", "make all")
    assert asked.tool_input["command"] == COMMAND["command"]


@pytest.mark.parametrize(
    ("command", "shown_"),
    [
        ("/bin/bash -lc 'ls; rm x'", "ls; rm x"),
        ("bash -c ls", "ls"),
        ("ls -l", "ls -l"),
        ("/bin/bash -lc ls extra", "/bin/bash -lc ls extra"),
        ("python -c 'x'", "python -c 'x'"),
        ("/bin/bash -lc 'open", "/bin/bash -lc 'open"),
    ],
)
def test_the_script_of_a_command(command: str, shown_: str) -> None:
    assert script(command) == shown_


def test_a_patch_is_shown_by_its_item() -> None:
    played = fed(*patch())
    (asked,) = played.asked
    assert (asked.path, asked.paths, asked.kind) == ("/w/a", ("/w/a",), "edit")
    assert asked.diff == "--- /dev/null\n+++ /w/a\n@@ -0,0 +1 @@\n+x\n"


def test_both_ends_of_a_move_are_paths() -> None:
    move = {**CHANGE, "changes": [{"path": "/w/a", "kind": {"type": "update", "move_path": "/w/b"}, "diff": "@@"}]}
    played = fed(*patch(move))
    assert (played.asked[0].path, played.asked[0].paths) == (None, ("/w/a", "/w/b"))


def test_an_mcp_tool_is_asked_with_its_arguments() -> None:
    meta = {"codex_approval_kind": "mcp_tool_call", "tool_name": "poke", "tool_params": {"what": "it"}}
    played = fed(asks("mcpServer/elicitation/request", {"serverName": "s", "_meta": meta, "message": "May it?"}))
    assert (played.asked[0].tool_name, played.asked[0].tool_input) == ("mcp__s__poke", {"what": "it"})
    played.take(played.session.answer(played.asked[0].request_id, False))
    assert played.sent == [{"id": 0, "result": {"action": "decline", "content": None}}]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("item/commandExecution/requestApproval", {**COMMAND, "command": None}),
        ("item/commandExecution/requestApproval", None),
        ("item/fileChange/requestApproval", {"itemId": "never started"}),
        ("mcpServer/elicitation/request", {"serverName": "s", "message": "your password?"}),
        ("item/permissions/requestApproval", {}),
        ("item/tool/requestUserInput", {"questions": []}),
        ("something/new", {}),
    ],
)
def test_what_cannot_be_judged_is_refused(method: str, params: Any) -> None:
    played = fed(asks(method, params, "x"))
    assert played.asked == []
    assert [(line["id"], line["error"]["code"]) for line in played.sent] == [("x", -32601)]


def test_more_than_one_change_at_once_is_refused() -> None:
    played = fed(*patch(grantRoot="/"))
    assert played.asked == []
    assert "error" in played.sent[0]


def test_a_denial_with_words() -> None:
    played = fed(asks("item/commandExecution/requestApproval", COMMAND, 7))
    played.take(played.session.answer(played.asked[0].request_id, False, "use ninja"))
    decision, steer = played.sent
    assert decision == {"id": 7, "result": {"decision": "decline"}}
    assert steer["method"] == "turn/steer"
    assert steer["params"]["input"] == [{"type": "text", "text": "the user denied this: use ninja"}]


def test_ids_that_are_numbers_and_ids_that_are_texts_differ() -> None:
    played = fed(*(asks("item/commandExecution/requestApproval", COMMAND, each) for each in (1, "1")))
    played.take(played.session.answer(played.asked[1].request_id, True))
    assert [line["id"] for line in played.sent] == ["1"]


def test_it_withdraws() -> None:
    resolved = {"method": "serverRequest/resolved", "params": {"requestId": 0}}
    played = fed(asks("item/commandExecution/requestApproval", COMMAND), resolved)
    assert list(shown(played.happenings)) == ["asked command make all", "withdrawn"]


@pytest.mark.parametrize("mode", PERMISSION_MODES)
def test_the_thread_may_only_read_and_the_user_is_asked(mode: str) -> None:
    policy = "never" if mode == "bypassPermissions" else "untrusted"
    first = began("codex", permission_mode=mode).session.launch().first.decode()
    assert '"sandbox":"read-only"' in first
    assert f'"approvalPolicy":"{policy}"' in first
    assert '"approvalsReviewer":"user"' in first


def test_the_end_of_another_thread_is_not_ours() -> None:
    other = {"method": "turn/completed", "params": {"threadId": "sub", "turn": {"status": "completed"}}}
    played = fed(other)
    assert (played.happenings, played.closed) == ([], False)


def test_what_earlier_turns_used_is_not_counted() -> None:
    used = {"last": {"inputTokens": 10, "outputTokens": 5, "cachedInputTokens": 3}}
    turns = [{"method": "thread/tokenUsage/updated", "params": {"turnId": turn, "tokenUsage": used}} for turn in "auu"]
    played = fed(*turns, {"method": "turn/completed", "params": {"threadId": "t", "turn": {"status": "completed"}}})
    ended = played.ended
    assert (ended.input_tokens, ended.output_tokens, ended.cached_tokens, ended.turns) == (20, 10, 6, 2)


def test_it_tries_again() -> None:
    error = {"error": {"message": '{"error": {"message": "overloaded"}}'}, "willRetry": True}
    played = fed({"method": "error", "params": error}, {"method": "error", "params": {**error, "willRetry": False}})
    assert list(shown(played.happenings)) == ["notice overloaded (it tries again)", "error overloaded"]


def test_a_message_that_comes_too_late_ends_nothing() -> None:
    played = fed(asks("item/commandExecution/requestApproval", COMMAND, 7))
    played.take(played.session.answer("7", False, "use ninja"))
    played.feed({"id": played.sent[-1]["id"], "error": {"code": -1, "message": "no active turn"}})
    assert not played.closed
