"""What the real CLIs wrote, as recorded, becomes the one vocabulary; what they were answered then, we answer still."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopsy.agents.adapter import Event
from loopsy.wire.tasks import AGENTS, EVENT_TYPES
from tests.agents.replay import CASES, alone, interrupted, play, recorded, shown, tools

E_TXT, P_TXT = "/home/leo/work/e.txt", "/home/leo/work/p.txt"
COMMAND = "echo hi > a.txt; echo hi"

TOOLS = {
    "claude": [
        "began",
        "tool_use Bash", f"asked command {COMMAND}", "tool_result hi",
        "tool_use Read", "tool_result 1 one 2 two 3",
        "tool_use Edit", f"asked edit {E_TXT}", "tool_result The file /home/leo/",
        "tool_use Bash", "asked command touch no", "tool_result failed use make",
        "text Done.", "ended Done.",
    ],
    "codex": [
        "began",
        "notice Model metadata for `scripted` not found.",
        "tool_use Bash", f"asked command {COMMAND}", "tool_result hi",
        "tool_use Edit", f"asked edit {E_TXT} {P_TXT}", "tool_result completed /home/leo",
        "tool_use Bash", "asked command touch no", "tool_result failed declined",
        "text Done.", "ended Done.",
    ],
    "gemini": [
        "began",
        "tool_use Bash", f"asked command {COMMAND}", "tool_result hi",
        "tool_use Edit", f"asked edit {E_TXT}", "tool_result --- /home/leo/work/",
        "tool_use Bash", "asked command touch no", "tool_result failed use make",
        "text Done.", "text The scenario has no more turns.", "ended The scenario has no more turns.",
        "notice Skipping project agents due to untrusted",
        "notice Project hooks disabled because the folde",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", AGENTS)
def test_what_it_did(name: str) -> None:
    assert list(shown(play(name, "tools", tools).happenings)) == TOOLS[name]


@pytest.mark.parametrize("name", AGENTS)
def test_the_edit_is_shown_whole(name: str) -> None:
    diff = play(name, "tools", tools).asked[1].diff or ""
    assert "-two\n+three\n" in diff
    assert f"--- {E_TXT}\n+++ {E_TXT}\n" in diff
    assert (f"--- /dev/null\n+++ {P_TXT}\n@@ -0,0 +1 @@\n+one\n" in diff) == (name == "codex")


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("case", CASES)
def test_what_is_answered_is_what_the_cli_took(name: str, case: str) -> None:
    played = play(name, case, CASES[case])
    _, lines = recorded(name, case)
    assert list(map(comparable, played.sent)) == [
        comparable(json.loads(line)) for source, line in lines if source == "in"
    ]
    assert played.closed


def comparable(value: dict[str, Any]) -> dict[str, Any]:
    """Without our version."""
    value.get("params", {}).pop("clientInfo", None)
    return value


@pytest.mark.parametrize("name", AGENTS)
def test_what_is_interrupted_no_longer_waits(name: str) -> None:
    played = play(name, "interrupted", interrupted)
    assert "withdrawn" in shown(played.happenings)
    assert (played.ended.is_error, played.ended.error) == (True, "interrupted")


@pytest.mark.parametrize("name", AGENTS)
def test_why_the_model_refused(name: str) -> None:
    ended = play(name, "refused", alone).ended
    assert ended.is_error
    assert "scripted refusal" in (ended.error or "")


@pytest.mark.parametrize("name", AGENTS)
def test_what_it_cost(name: str) -> None:
    ended = play(name, "tools", tools).ended
    assert (ended.input_tokens, ended.output_tokens) == {"claude": (50, 25), "codex": (40, 20), "gemini": (50, 25)}[
        name
    ]
    assert (ended.cost_usd is not None) == (name == "claude")


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("case", CASES)
def test_events_are_those_of_the_vocabulary(name: str, case: str) -> None:
    events = [happening for happening in play(name, case, CASES[case]).happenings if isinstance(happening, Event)]
    assert {event.type for event in events} <= set(EVENT_TYPES)
    assert json.loads(json.dumps([event.data for event in events])) == [event.data for event in events]


@pytest.mark.parametrize("name", AGENTS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_it_may_be_cut_anywhere(name: str, data: st.DataObject) -> None:
    def pieces(stream: bytes) -> list[bytes]:
        cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
        return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    played, at_once = play(name, "tools", tools, pieces), play(name, "tools", tools)
    assert played.happenings == at_once.happenings
    assert played.written == at_once.written


@pytest.mark.parametrize("name", AGENTS)
def test_a_byte_at_a_time(name: str) -> None:
    def pieces(stream: bytes) -> list[bytes]:
        return [stream[at : at + 1] for at in range(len(stream))]

    assert play(name, "tools", tools, pieces).happenings == play(name, "tools", tools).happenings
