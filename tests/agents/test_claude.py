"""Claude's own ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loopsy.agents.adapter import Ended
from tests.agents.replay import Played, began, shown

ASK = {
    "type": "control_request",
    "request_id": "r1",
    "request": {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "make"}, "description": "Builds"},
}


def fed(*values: Any, **more: Any) -> Played:
    """A session that read these lines."""
    played = began("claude", **more)
    played.written.clear()
    played.feed(*values)
    return played


def test_it_is_asked_and_answered() -> None:
    played = fed(ASK)
    (asked,) = played.asked
    assert (asked.kind, asked.command, asked.description) == ("command", "make", "Builds")
    assert asked.tool_input == {"command": "make"}
    played.take(played.session.answer("r1", True))
    response = {"behavior": "allow", "updatedInput": {"command": "make"}}
    body = {"subtype": "success", "request_id": "r1", "response": response}
    assert played.sent == [{"type": "control_response", "response": body}]


def test_a_denial_says_why() -> None:
    played = fed(ASK)
    played.take(played.session.answer("r1", False, "use ninja"))
    assert played.sent[0]["response"]["response"] == {"behavior": "deny", "message": "use ninja"}


def test_what_was_shown_is_what_is_allowed_though_it_asks_again_under_the_same_id() -> None:
    other = {**ASK, "request": {**ASK["request"], "input": {"command": "rm -rf /"}}}  # type: ignore[dict-item]
    played = fed(ASK, other)
    played.take(played.session.answer("r1", True))
    assert [line["response"]["response"]["updatedInput"] for line in played.sent] == [{"command": "make"}]


@pytest.mark.parametrize(
    "request_", [{"tool_name": 7, "input": {}}, {"tool_name": "Bash"}, {"tool_name": "Bash", "input": "make"}, {}]
)
def test_what_cannot_be_understood_is_denied(request_: dict[str, Any]) -> None:
    played = fed({**ASK, "request": {"subtype": "can_use_tool", **request_}})
    assert played.asked == []
    assert [line["response"]["response"]["behavior"] for line in played.sent] == ["deny"]


@pytest.mark.parametrize("request_", [{"subtype": "hook_callback"}, {}, None, "x"])
def test_what_is_not_known_is_answered_with_an_error(request_: Any) -> None:
    played = fed({**ASK, "request": request_})
    assert [(line["response"]["subtype"], line["response"]["request_id"]) for line in played.sent] == [("error", "r1")]


def test_it_withdraws() -> None:
    played = fed(ASK, {"type": "control_cancel_request", "request_id": "r1"})
    assert list(shown(played.happenings)) == ["asked command make", "withdrawn"]
    assert played.session.answer("r1", True).write == b""


@pytest.mark.parametrize("prompt", ["/config a=b", "//", "/"])
def test_a_prompt_is_never_a_command(prompt: str) -> None:
    content = began("claude", prompt=prompt).sent[0]["message"]["content"]
    assert content == f"\n{prompt}"


def test_a_file_that_a_prompt_mentions_is_not_read_unasked() -> None:
    name = "CLAUDE_CODE_DISABLE_ATTACHMENTS"
    assert began("claude", prompt="what is in @/etc/hosts").session.launch().environment[name] == "1"
    assert name not in began("claude").session.launch().environment


def test_its_words() -> None:
    wanted = {"model": "opus", "max_budget_usd": 1.5, "resume_session_id": "s", "permission_mode": "acceptEdits"}
    tools = {"allowed_tools": ("Read", "Bash(git *)"), "disallowed_tools": ("WebFetch",)}
    argv = began("claude", **wanted, **tools).session.launch().argv
    assert argv[argv.index("--permission-mode") + 1 :] == (
        "default", "--setting-sources", "user", "--model=opus", "--max-budget-usd=1.5", "--resume=s",
        "--allowedTools", "Read", "Bash(git *)", "--disallowedTools", "WebFetch",
    )  # fmt: skip
    for mode in ("dontAsk", "bypassPermissions"):
        assert began("claude", permission_mode=mode).session.launch().argv[-3] == mode


@pytest.mark.parametrize(
    ("record", "directory", "is_trusted"),
    [
        ({"WORK": {"hasTrustDialogAccepted": True}}, "WORK", True),
        ({"WORK": {"hasTrustDialogAccepted": True}}, "WORK/sub", True),
        ({"WORK": {"hasTrustDialogAccepted": True}}, "WORK/sub/../../other", False),
        ({"WORK/sub": {"hasTrustDialogAccepted": True}}, "WORK", False),
        ({"WORK": {"hasTrustDialogAccepted": False}}, "WORK", False),
        ({"WORK": 7}, "WORK", False),
        ({}, "WORK", False),
        (7, "WORK", False),
    ],
)
def test_what_lies_in_a_directory_counts_only_where_the_user_trusts_it(
    record: Any, directory: str, is_trusted: bool, tmp_path: Path
) -> None:
    work = str(tmp_path / "work")
    (tmp_path / ".claude.json").write_text(json.dumps({"projects": record}).replace("WORK", work))
    where = {"environment": {"HOME": str(tmp_path)}, "cwd": directory.replace("WORK", work)}
    assert ("--setting-sources" not in began("claude", **where).session.launch().argv) is is_trusted
    made_of = {"environment": {"HOME": str(tmp_path)}, "cwd": "/elsewhere", "trusted_as": where["cwd"]}
    assert ("--setting-sources" not in began("claude", **made_of).session.launch().argv) is is_trusted


def test_the_user_may_choose_what_counts() -> None:
    chosen = ("--setting-sources", "user,project")
    assert began("claude", additional_args=chosen).session.launch().argv[-2:] == chosen
    assert began("claude", additional_args=chosen).session.launch().argv.count("--setting-sources") == 1


def test_the_budget_is_over() -> None:
    usage = {"m": {"inputTokens": 3, "outputTokens": 2, "cacheReadInputTokens": 1, "costUSD": 0.5}}
    total = {"m": {"inputTokens": 30, "outputTokens": 20, "cacheReadInputTokens": 10, "costUSD": 5.0}}
    played = fed({"type": "result", "subtype": "error_max_budget_usd", "is_error": True, "num_turns": 4,
                  "duration_ms": 9, "total_cost_usd": 5.0, "modelUsage": total,
                  "model_usage_since_last_result": usage})  # fmt: skip
    assert played.ended == Ended(text="", is_error=True, error="the budget is used up", cost_usd=0.5, input_tokens=3,
                                 output_tokens=2, cached_tokens=1, turns=4, duration_ms=9)  # fmt: skip
    assert played.closed


def test_one_result_is_enough() -> None:
    result = {"type": "result", "subtype": "success", "result": "Done."}
    played = fed(result, {**result, "result": "Again."})
    assert played.ended.text == "Done."


def test_what_is_asked_behind_the_result_is_withdrawn_in_the_end() -> None:
    played = fed({"type": "result", "subtype": "success", "result": "Done."}, ASK)
    played.take(played.session.ended(0))
    assert list(shown(played.happenings)) == ["ended Done.", "asked command make", "withdrawn"]


def test_kinds_that_are_not_known_are_said_once() -> None:
    played = fed(*[{"type": "new_thing"}] * 3, {"type": "stream_event"}, {"type": "system", "subtype": "compacted"})
    assert list(shown(played.happenings)) == ["notice claude: new_thing", "notice claude: compacted"]
