"""Which words a task may add to a command line."""

from __future__ import annotations

from typing import Any

import pytest

from loopsy.agents.table import AGENTS
from loopsy.errors import InvalidRequest
from tests.agents.replay import run

TAKEN = {
    "claude": [
        (),
        ("--effort", "high"),
        ("--effort=high", "--add-dir", "/a", "/b", "--safe-mode"),
        ("--append-system-prompt", "say --verbose"),
    ],
    "codex": [(), ("-c", "model_reasoning_effort=high"), ("--config=web_search=live",)],
    "gemini": [(), ("--include-directories", "/a"), ("--sandbox",)],
}
REFUSED = {
    "claude": [
        ("--dangerously-skip-permissions",), ("--allow-dangerously-skip-permissions",),
        ("--permission-mode", "bypassPermissions"), ("--permission-mode=auto",), ("--permission-prompt-tool", "x"),
        ("--permission-prompts=none",), ("--allowedTools", "Bash"), ("--allowed-tools=Bash",),
        ("--settings", "{}"), ("--settings={}",), ("--plugin-dir", "/x"), ("--agents", "{}"),
        ("--output-format", "text"), ("--input-format=text",), ("--include-partial-messages",), ("--resume", "x"),
        ("-r", "x"), ("-c",), ("-p",), ("--",), ("mcp", "add"), ("hello",), ("--effort", "high", "hello"),
        ("--safe-mode=1",), ("--bg",), ("--debug-file", "/x"), ("--version",), ("",), ("-",), ("--effort",),
        ("--effort", "--safe-mode"),
    ],
    "codex": [
        ("-c", "approval_policy=never"), ("-c", "sandbox_mode=danger-full-access"), ("-c", "mcp_servers.x.command=x"),
        ("-c", "hooks={}"), ("--config=approval_policy=never",), ("-capproval_policy=never",), ("-c",),
        ("-c=approval_policy=never",),
        ("--listen", "ws://127.0.0.1:1"), ("--enable", "x"), ("exec",), ("-c", "projects.x.trust_level=trusted"),
        ("--dangerously-bypass-approvals-and-sandbox",), ("-c", "model"), ("-c", "-c"),
    ],
    "gemini": [
        ("--yolo",), ("-y",), ("--approval-mode=yolo",), ("--approvalMode", "yolo"), ("--allowed-tools", "x"),
        ("--skip-trust",), ("--policy", "x"), ("--admin-policy=x",), ("-p", "x"), ("-o", "json"),
        ("--session-file", "x"), ("--extensions",),
        ("--no-acp",), ("mcp",),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, each in TAKEN.items() for words in each])
def test_what_is_taken_stands_on_the_command_line(name: str, words: tuple[str, ...]) -> None:
    argv = AGENTS[name](run(additional_args=words)).launch().argv
    assert set(words) <= set(argv)


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, each in REFUSED.items() for words in each])
def test_what_would_undo_approvals_or_streams_is_refused(name: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest, match="additionalArgs"):
        AGENTS[name](run(additional_args=words))


@pytest.mark.parametrize(
    ("name", "field", "given"),
    [
        ("codex", "maxBudgetUsd", {"max_budget_usd": 1.0}),
        ("gemini", "maxBudgetUsd", {"max_budget_usd": 1.0}),
        ("codex", "allowedTools", {"allowed_tools": ("Bash",)}),
        ("gemini", "allowedTools", {"allowed_tools": ("Bash",)}),
        ("codex", "disallowedTools", {"disallowed_tools": ("Bash",)}),
        ("gemini", "disallowedTools", {"disallowed_tools": ("Bash",)}),
        ("claude", "allowedTools", {"allowed_tools": ("Read", "--dangerously-skip-permissions")}),
        ("claude", "disallowedTools", {"disallowed_tools": ("--settings={}",)}),
    ],
)
def test_what_an_agent_does_not_know_is_named(name: str, field: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=field):
        AGENTS[name](run(**given))


def test_values_cannot_become_options() -> None:
    dash = {"model": "--yolo", "resume_session_id": "--dangerously-skip-permissions"}
    assert "--model=--yolo" in AGENTS["claude"](run(**dash)).launch().argv
    assert "--resume=--dangerously-skip-permissions" in AGENTS["claude"](run(**dash)).launch().argv
    assert "--yolo" not in AGENTS["gemini"](run(**dash)).launch().argv
