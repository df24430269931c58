"""Anthropic's Messages: ``POST /v1/messages``, streamed as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from loopsy.testing.model_api.asked import Asked, Named, pieces, runs, sse, text_of
from loopsy.testing.model_api.scenario import Turn

SHELLS = {"Bash": "command"}


def read(body: Any) -> Asked:
    """What the request asks."""
    messages = body["messages"]
    users = [message for message in messages if message["role"] == "user"]
    blocks = [block for user in users if isinstance(user["content"], list) for block in user["content"]]
    return Asked(
        prompt=text_of(users[0]["content"]) if users else "",
        turn=runs((message["role"] for message in messages), "assistant"),
        offered=tuple(tool["name"] for tool in body.get("tools") or ()),
        results=tuple(text_of(block.get("content")) for block in blocks if block.get("type") == "tool_result"),
        schema=((body.get("output_config") or {}).get("format") or {}).get("schema"),
    )


def events(turn: Turn, calls: Sequence[Named], body: Any) -> Iterator[bytes]:
    """The answer, an event at a time."""
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message = {
        "id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "model": body.get("model", "scripted"),
        "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    yield sse({"type": "message_start", "message": message})
    index = 0
    if turn.say:
        yield from _block(index, {"type": "text", "text": ""}, _text(turn))
        index += 1
    for name, given in calls:
        block = {"type": "tool_use", "id": f"toolu_{uuid4().hex[:24]}", "name": name, "input": {}}
        yield from _block(index, block, iter([{"type": "input_json_delta", "partial_json": json.dumps(given)}]))
        index += 1
    stop = "tool_use" if calls else "end_turn"
    yield sse({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage})
    yield sse({"type": "message_stop"})


def _text(turn: Turn) -> Iterator[dict[str, Any]]:
    return ({"type": "text_delta", "text": text} for text in pieces(turn.text, turn.pieces))


def _block(index: int, block: dict[str, Any], deltas: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    yield sse({"type": "content_block_start", "index": index, "content_block": block})
    for delta in deltas:
        yield sse({"type": "content_block_delta", "index": index, "delta": delta})
    yield sse({"type": "content_block_stop", "index": index})


def whole(turn: Turn, calls: Sequence[Named], body: Any) -> dict[str, Any]:
    """The same answer in one piece, for those who do not want it streamed."""
    used = [{"type": "tool_use", "id": f"toolu_{uuid4().hex[:24]}", "name": n, "input": given} for n, given in calls]
    said = [{"type": "text", "text": turn.text * turn.pieces}] if turn.say else []
    return {
        "id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "model": body.get("model", "scripted"),
        "content": [*said, *used], "stop_reason": "tool_use" if used else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }  # fmt: skip
