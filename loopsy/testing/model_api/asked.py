"""What an agent asked of the model, without its dialect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import frozen

from loopsy.testing.model_api.scenario import Call, McpTool, OwnTool, ShellCommand


@frozen(kw_only=True)
class Asked:
    """One request for the model's next turn."""

    prompt: str
    """The first thing that the user said."""
    turn: int
    """How many answers of the model the conversation shows already."""
    offered: tuple[str, ...]
    """The tools the model may call; none in what agents ask on the side (a title, a summary)."""
    results: tuple[str, ...]
    """What the tools gave, as the model sees it, oldest first."""
    schema: Mapping[str, Any] | None = None
    """The shape that the answer must have; what is asked on the side often wants one."""


Named = tuple[str, dict[str, Any]]
"""A tool as the agent names it, and its input."""


def runs(roles: Iterable[str], model: str) -> int:
    """How many unbroken runs of the model's own items there are: each is one answer."""
    count, before = 0, ""
    for role in roles:
        count += role == model and before != model
        before = role
    return count


def named(call: Call, offered: tuple[str, ...], shells: Mapping[str, str]) -> Named:
    """The name and input that the agent asking knows a call by. ``shells``: its shell tools, and which input of each
    takes the command.

    :raises LookupError: the agent offers no such tool.
    """
    match call:
        case OwnTool():
            return call.name, dict(call.input)
        case ShellCommand():
            name = next((name for name in offered if name in shells), None)
            if name is None:
                raise LookupError(f"no shell tool among {list(offered)}")
            return name, {shells[name]: call.command}
        case McpTool():
            found = [name for name in offered if name.endswith(call.tool) and call.server in name]
            if not found:
                raise LookupError(f"no tool {call.tool} of {call.server} among {list(offered)}")
            return min(found, key=len), dict(call.input)


def example(schema: Mapping[str, Any]) -> Any:
    """Some value of that shape."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = str(schema.get("type", "string")).lower()
    if kind == "object":
        return {name: example(inner) for name, inner in schema.get("properties", {}).items()}
    plain = {"integer": 1, "number": 1, "boolean": False, "array": [], "null": None}
    return plain.get(kind, "ok")


def text_of(content: Any) -> str:
    """The text of a content, be it a string or blocks."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(text_of(block) for block in content)
    if isinstance(content, dict):
        known = content.get("text", content.get("content", content.get("output")))
        return text_of(known) if known is not None else json.dumps(content, ensure_ascii=False)
    return "" if content is None else str(content)


def sse(event: Mapping[str, Any], *, name: bool = True) -> bytes:
    """One server-sent event; named by its ``type`` where the dialect names them."""
    head = f"event: {event['type']}\n" if name else ""
    return f"{head}data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def pieces(text: str, count: int) -> Iterator[str]:
    """The text, ``count`` times, if there is any."""
    for _ in range(count if text else 0):
        yield text
