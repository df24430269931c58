"""What all sessions must do, whatever a CLI writes: never fail, never grant what wasn't asked, say one last word."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopsy.agents.adapter import Ended, Event
from loopsy.agents.lines import LINE_MAX
from loopsy.agents.session import OUTPUT_MAX, cut
from loopsy.wire.tasks import AGENTS
from tests.agents.replay import CASES, Played, began, play, recorded, shown

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
REAL = {
    name: [json.loads(line) for case in CASES for source, line in recorded(name, case)[1] if source == "out"]
    for name in AGENTS
}
EVENTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "claude": lambda n: {"type": "assistant", "message": {"content": [{"type": "text", "text": f"tick {n}"}]}},
    "codex": lambda n: {"method": "item/completed", "params": {"item": {"type": "agentMessage", "text": f"tick {n}"}}},
    "gemini": lambda n: {
        "method": "session/update",
        "params": {
            "update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": f"tick {n}"}}
        },
    },
}


OUTPUTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "claude": lambda text: {
        "type": "user",
        "message": {"content": [{"type": "tool_result", "tool_use_id": "i", "content": text}]},
    },
    "codex": lambda text: {
        "method": "item/completed",
        "params": {"item": {"type": "commandExecution", "id": "i", "command": "x", "aggregatedOutput": text}},
    },
    "gemini": lambda text: {
        "method": "session/update",
        "params": {
            "update": {
                "sessionUpdate": "tool_call_update",
                "toolCallId": "i",
                "status": "completed",
                "content": [{"type": "content", "content": {"type": "text", "text": text}}],
            }
        },
    },
}


def talking(name: str, **more: Any) -> Played:
    """A session that is in the middle of its work."""
    played = began(name, **more)
    if name == "gemini":
        played.feed({"id": 1, "result": {}}, {"id": 2, "result": {"sessionId": "s"}})
    if name == "codex":
        played.feed({"id": 1, "result": {}}, {"id": 2, "result": {"thread": {"id": "t"}}})
        played.feed({"id": 3, "result": {"turn": {"id": "u"}}})
    played.happenings.clear()
    played.written.clear()
    return played


def granted(played: Played) -> bool:
    """Whether any answer lets something through."""
    sent = bytes(played.written)
    return any(word in sent for word in (b'"allow"', b'"accept"', b'"selected"'))


def spoilt(value: Any, data: st.DataObject) -> Any:
    """A real line with some part of it replaced, or gone."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 3)):
        name = data.draw(st.sampled_from(sorted(value)))
        if data.draw(st.integers(0, 3)) == 0:
            return {other: inner for other, inner in value.items() if other != name}
        return {**value, name: spoilt(value[name], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 3)):
        return [spoilt(value[0], data), *value[1:]]
    return data.draw(JSON)


@pytest.mark.parametrize("name", AGENTS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_it_writes_nothing_fails_and_nothing_is_granted(name: str, data: st.DataObject) -> None:
    played = talking(name)
    for _ in range(data.draw(st.integers(1, 6))):
        played.feed(spoilt(data.draw(st.sampled_from(REAL[name])), data))
    assert not granted(played)
    played.take(played.session.ended(1))
    assert isinstance(played.ended, Ended)
    json.dumps([happening.data for happening in played.happenings if isinstance(happening, Event)]).encode()


@pytest.mark.parametrize("name", AGENTS)
@given(junk=st.binary(max_size=300))
def test_bytes_that_mean_nothing_are_text(name: str, junk: bytes) -> None:
    played = talking(name)
    played.take(played.session.feed(junk + b"\n"))
    played.take(played.session.feed_error(junk))
    played.take(played.session.ended(0))
    assert played.ended.is_error


@pytest.mark.parametrize("name", AGENTS)
def test_a_line_that_is_no_json_is_text(name: str) -> None:
    played = talking(name)
    played.feed(b"Update available!\n", b"[1]\n")
    assert list(shown(played.happenings)) == ["text Update available!", "text [1]"]


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("depth", [300, 900])
def test_content_that_is_nested_without_end(name: str, depth: int) -> None:
    played = talking(name)
    nested = b'["text", ' * depth + b"1" + b"]" * depth
    for make in (EVENTS[name], OUTPUTS[name]):
        line = json.dumps(make("DEEP"))  # type: ignore[arg-type]
        played.feed(
            line.replace('"tick DEEP"', "DEEP").replace('"DEEP"', "DEEP").encode().replace(b"DEEP", nested) + b"\n"
        )
    played.take(played.session.ended(0))
    assert played.ended.is_error


@pytest.mark.parametrize("name", AGENTS)
def test_two_megabytes_in_one_line(name: str) -> None:
    played = talking(name)
    line = json.dumps(EVENTS[name](7)).replace("tick 7", "x" * 2_000_000).encode() + b"\n"
    for at in range(0, len(line), 65536):
        played.take(played.session.feed(line[at : at + 65536]))
    (event,) = played.happenings
    assert isinstance(event, Event)
    assert event.data == {"text": "x" * 2_000_000}


@pytest.mark.parametrize("name", AGENTS)
def test_a_line_beyond_all_bounds_is_left_out_and_said(name: str) -> None:
    played = talking(name)
    for _ in range(LINE_MAX // 65536 + 1):
        played.take(played.session.feed(b"x" * 65536))
    played.feed(b"\n", EVENTS[name](1))
    assert [text.split()[0] for text in shown(played.happenings)] == ["error", "text"]


def seconds(name: str, count: int) -> float:
    """Of the processor, for so many events, in pieces as a pipe gives them."""
    played = talking(name)
    stream = b"".join(json.dumps(EVENTS[name](n)).encode() + b"\n" for n in range(count))
    began_at = time.thread_time()
    found = sum(len(played.session.feed(stream[at : at + 65536]).happenings) for at in range(0, len(stream), 65536))
    took = time.thread_time() - began_at
    assert found == count
    return took


@pytest.mark.parametrize("name", AGENTS)
def test_fifty_thousand_events_take_time_by_their_number_alone(name: str) -> None:
    assert seconds(name, 50_000) < 10 * 5 * min(seconds(name, 5_000) for _ in range(3))  # were it quadratic: 100


@pytest.mark.parametrize("name", AGENTS)
def test_one_that_goes_without_a_result_failed_and_its_last_words_say_why(name: str) -> None:
    played = talking(name)
    played.take(played.session.feed_error(b"Segmentation fault\n\x1b[31mSegmentation fault\x1b[0m\nhalf a li"))
    played.take(played.session.ended(139))
    assert [text for text in shown(played.happenings) if text.startswith("notice")] == [
        "notice Segmentation fault",
        "notice half a li",
    ]
    assert (
        played.ended.error
        == f"{name} exited with 139 without a result\nSegmentation fault\nSegmentation fault\nhalf a li"
    )
    assert played.ended.is_error


@pytest.mark.parametrize("name", AGENTS)
def test_complaints_without_end_are_heard_only_so_long(name: str) -> None:
    played = talking(name)
    for number in range(1000):
        played.take(played.session.feed_error(f"complaint {number}\n".encode()))
    assert len(played.happenings) == 200


@pytest.mark.parametrize("name", AGENTS)
def test_what_waits_when_it_goes_is_withdrawn(name: str) -> None:
    played = play(name, "tools", lambda played, asked: None)
    assert "withdrawn" in shown(played.happenings)
    assert not granted(played)
    late = played.session.answer(played.asked[0].request_id, True)
    assert (late.write, late.happenings) == (b"", ())


@pytest.mark.parametrize("name", AGENTS)
def test_the_first_answer_counts(name: str) -> None:
    def twice(played: Played, asked: Any) -> None:
        played.take(played.session.answer(asked.request_id, False))
        assert played.session.answer(asked.request_id, True).write == b""

    assert not granted(play(name, "tools", twice))


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("mode", ["dontAsk", "bypassPermissions", "acceptEdits"])
def test_modes_that_settle_what_is_asked(name: str, mode: str) -> None:
    played = began(name, permission_mode=mode)
    for source, line in recorded(name, "tools")[1]:
        if source == "out":
            played.feed(line.encode() + b"\n")
    kinds = [asked.kind for asked in played.asked]
    assert kinds == (["command", "command"] if mode == "acceptEdits" else [])
    assert granted(played) == (mode != "dontAsk")


@pytest.mark.parametrize("name", AGENTS)
def test_nothing_of_ours_is_told_to_the_child(name: str) -> None:
    environment = {"LOOPSY_KEY": "s3cr3t", "LOOPSY_TASK": "t1", "PATH": "/usr/bin", "HOME": "/home/leo"}
    launch = began(name, environment=environment).session.launch()
    assert "s3cr3t" not in repr(launch)
    assert launch.environment["LOOPSY_TASK"] == "t1"


@given(st.text(max_size=400), st.integers(60, 300))
def test_a_long_output_loses_its_middle(text: str, size: int) -> None:
    kept = cut(text, size)
    if len(text.encode("utf-8", "replace")) <= size:
        assert kept == text
    else:
        assert len(kept.encode()) <= size
        assert "bytes left out" in kept


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(("size", "truncated"), [(OUTPUT_MAX, None), (OUTPUT_MAX + 1, True)])
def test_a_long_output_is_marked(name: str, size: int, truncated: bool | None) -> None:
    played = talking(name)
    played.feed(OUTPUTS[name]("x" * size))
    result = played.happenings[-1]
    assert isinstance(result, Event)
    assert result.data.get("truncated") is truncated
    assert len(result.data["output"].encode()) <= OUTPUT_MAX
