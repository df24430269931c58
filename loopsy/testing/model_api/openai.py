"""OpenAI's Responses: ``POST /v1/responses``, streamed as server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from loopsy.testing.model_api.asked import Asked, Named, pieces, runs, sse, text_of
from loopsy.testing.model_api.scenario import Turn

SHELLS = {"exec_command": "cmd", "shell_command": "command"}
MODELS_OWN = ("function_call", "custom_tool_call", "reasoning", "local_shell_call")
NAMESPACE = "/"
"""Between the name of a group of tools and that of a tool in it; no name holds one."""


def read(body: Any) -> Asked:
    """What the request asks."""
    items = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    said = [text_of(item.get("content")) for item in items if item.get("role") == "user"]
    return Asked(
        prompt="\n".join(said),
        turn=runs(map(_side, items), "model"),
        offered=tuple(_offered(body.get("tools") or ())),
        results=tuple(text_of(item.get("output")) for item in items if str(item.get("type")).endswith("call_output")),
        schema=((body.get("text") or {}).get("format") or {}).get("schema"),
    )


def _side(item: dict[str, Any]) -> str:
    ours = item.get("role") == "assistant" or item.get("type") in MODELS_OWN
    return "model" if ours else "user"


def _offered(tools: Any) -> Iterator[str]:
    for tool in tools:
        if tool.get("type") == "namespace":
            yield from (f"{tool['name']}{NAMESPACE}{inner['name']}" for inner in tool.get("tools", ()))
        else:
            yield tool.get("name", tool.get("type", ""))


def events(turn: Turn, calls: Sequence[Named], body: Any) -> Iterator[bytes]:
    """The answer, an event at a time."""
    response = {"id": f"resp_{uuid4().hex}", "object": "response", "status": "in_progress", "output": []}
    yield sse({"type": "response.created", "response": response})
    index = 0
    if turn.say:
        yield from _message(turn, index)
        index += 1
    for name, given in calls:
        yield from _item(index, _function_call(name, given))
        index += 1
    usage = {
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15,
    }  # fmt: skip
    yield sse({"type": "response.completed", "response": {**response, "status": "completed", "usage": usage}})


def _message(turn: Turn, index: int) -> Iterator[bytes]:
    item = {"type": "message", "id": f"msg_{uuid4().hex}", "role": "assistant", "content": []}
    yield sse({"type": "response.output_item.added", "output_index": index, "item": item})
    where = {"item_id": item["id"], "output_index": index, "content_index": 0}
    for text in pieces(turn.text, turn.pieces):
        yield sse({"type": "response.output_text.delta", **where, "delta": text})
    content = [{"type": "output_text", "text": turn.text * turn.pieces, "annotations": []}]
    yield sse({"type": "response.output_item.done", "output_index": index, "item": {**item, "content": content}})


def _item(index: int, item: dict[str, Any]) -> Iterator[bytes]:
    yield sse({"type": "response.output_item.added", "output_index": index, "item": item})
    yield sse({"type": "response.output_item.done", "output_index": index, "item": item})


def _function_call(name: str, given: dict[str, Any]) -> dict[str, Any]:
    group, _, own = name.rpartition(NAMESPACE)
    item = {
        "type": "function_call", "id": f"fc_{uuid4().hex}", "call_id": f"call_{uuid4().hex[:24]}", "name": own,
        "arguments": json.dumps(given),
    }  # fmt: skip
    return {**item, "namespace": group} if group else item
