"""Gemini's own ways."""

from __future__ import annotations

from typing import Any

import pytest

from tests.agents.replay import Played, began, shown
from tests.agents.test_sessions import talking

OPTIONS = [
    {"optionId": "always", "kind": "allow_always"},
    {"optionId": "once", "kind": "allow_once"},
    {"optionId": "no", "kind": "reject_once"},
]
SHELL = {"toolCallId": "run_shell_command__1", "kind": "execute", "title": "make", "content": [], "locations": []}
DIFF = {"type": "diff", "path": "/w/a", "oldText": "x\n", "newText": "y\n"}
EDIT = {
    "toolCallId": "replace__1",
    "kind": "edit",
    "title": "a: x => y",
    "content": [DIFF],
    "locations": [{"path": "/w/a"}],
}
MCP = {"toolCallId": "mcp_s_poke__1", "kind": "other", "title": "poke",
       "content": [{"type": "content", "content": {"type": "text", "text": '{"what":"it"}'}}]}  # fmt: skip


def asks(call: Any, options: Any = OPTIONS) -> dict[str, Any]:
    """Its request."""
    params = {"sessionId": "s", "options": options, "toolCall": call}
    return {"jsonrpc": "2.0", "id": 0, "method": "session/request_permission", "params": params}


def fed(*values: Any, **more: Any) -> Played:
    """A session that read these lines."""
    played = talking("gemini", **more)
    played.feed(*values)
    return played


def done(number: int, reason: str = "end_turn") -> dict[str, Any]:
    """The answer to a prompt."""
    return {"id": number, "result": {"stopReason": reason}}


def test_a_command_is_allowed_once() -> None:
    played = fed(asks(SHELL))
    assert list(shown(played.happenings)) == ["tool_use Bash", "asked command make"]
    played.take(played.session.answer("0", True))
    assert played.sent[0]["result"] == {"outcome": {"outcome": "selected", "optionId": "once"}}


def test_an_edit_is_shown_with_its_file() -> None:
    (asked,) = fed(asks(EDIT)).asked
    assert (asked.kind, asked.tool_name, asked.path) == ("edit", "Edit", "/w/a")
    assert asked.diff == "--- /w/a\n+++ /w/a\n@@ -1 +1 @@\n-x\n+y\n"


def test_an_mcp_tool_is_shown_with_its_arguments() -> None:
    (asked,) = fed(asks(MCP)).asked
    assert (asked.kind, asked.tool_name, asked.description) == ("tool", "mcp_s_poke", '{"what":"it"}')


def test_only_its_own_shell_runs_commands() -> None:
    (asked,) = fed(asks({**SHELL, "toolCallId": "other__1"})).asked
    assert (asked.kind, asked.command) == ("tool", None)


@pytest.mark.parametrize(
    "message",
    [
        asks(None),
        asks({**SHELL, "title": ""}),
        asks({**EDIT, "content": []}),
        asks(SHELL, OPTIONS[:1]),
        asks(SHELL, None),
        asks({**SHELL, "kind": "fetch", "title": 'Processing URLs and instructions from prompt: "a...'}),
        asks({**MCP, "content": [{"type": "content", "content": {"type": "text", "text": "[Payload omitted due"}}]}),
        {**asks(SHELL), "params": None},
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused(message: Any) -> None:
    played = fed(message)
    assert played.asked == []
    assert played.sent == [{"id": 0, "jsonrpc": "2.0", "result": {"outcome": {"outcome": "cancelled"}}}]


def test_a_denials_words_follow_as_the_next_prompt() -> None:
    played = fed(asks(SHELL))
    played.take(played.session.answer("0", False, "use ninja"))
    assert played.sent[0]["result"] == {"outcome": {"outcome": "cancelled"}}
    played.feed(done(3))
    assert not played.closed
    assert played.sent[-1]["params"]["prompt"][0]["text"] == "The user denied what you asked for, and says:\nuse ninja"
    played.feed(done(4))
    assert played.closed
    assert list(shown(played.happenings))[-2:] == ["tool_result failed use ninja", "ended "]


def test_what_we_never_offered_is_refused() -> None:
    played = fed({**asks(SHELL), "method": "fs/write_text_file"})
    assert [line["error"]["code"] for line in played.sent] == [-32601]


@pytest.mark.parametrize("prompt", ["/extensions install x", " $x", "\n/about"])
def test_a_prompt_is_never_a_command(prompt: str) -> None:
    played = began("gemini", prompt=prompt)
    played.feed({"id": 1, "result": {}}, {"id": 2, "result": {"sessionId": "s"}})
    assert played.sent[-1]["params"]["prompt"][0]["text"] == f"Task: {prompt}"


def test_a_resumed_session_does_not_tell_its_past_again() -> None:
    played = began("gemini", resume_session_id="s")
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "old"}}
    past = {"method": "session/update", "params": {"update": update}}
    played.feed({"id": 1, "result": {}}, past, {"id": 2, "result": {}}, past, {"id": 3, "result": {}})
    assert list(shown(played.happenings)) == ["began"]
    played.feed(past)
    assert list(shown(played.happenings)) == ["began", "text old"]


@pytest.mark.parametrize(
    ("reason", "error"),
    [("end_turn", None), ("max_tokens", "its answer took more tokens than it may"), ("new_thing", "new_thing")],
)
def test_reasons_to_stop(reason: str, error: str | None) -> None:
    ended = fed(done(3, reason)).ended
    assert (ended.error, ended.is_error) == (error, error is not None)


def test_it_never_trusts_the_directory() -> None:
    argv = began("gemini", permission_mode="bypassPermissions", model="m").session.launch().argv
    assert argv == ("/usr/bin/agent", "--acp", "--approval-mode=yolo", "--model=m")
