"""Google's Gemini: ``POST /v1beta/models/…:generateContent``, and ``:streamGenerateContent`` as server-sent events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from loopsy.testing.model_api.asked import Asked, Named, pieces, runs, sse, text_of
from loopsy.testing.model_api.scenario import Turn

SHELLS = {"run_shell_command": "command"}
USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}


def read(body: Any) -> Asked:
    """What the request asks."""
    contents = body["contents"]
    parts = [part for content in contents for part in content.get("parts", ())]
    replies = [part["functionResponse"].get("response") for part in parts if "functionResponse" in part]
    wanted = body.get("generationConfig") or {}
    declared = [d for tool in body.get("tools") or () for d in tool.get("functionDeclarations", ())]
    return Asked(
        prompt="\n".join(text_of(content.get("parts")) for content in contents if content.get("role") == "user"),
        turn=runs((content.get("role", "user") for content in contents), "model"),
        offered=tuple(declaration["name"] for declaration in declared),
        results=tuple(map(text_of, replies)),
        schema=wanted.get("responseJsonSchema") or wanted.get("responseSchema"),
    )


def events(turn: Turn, calls: Sequence[Named], body: Any) -> Iterator[bytes]:
    """The answer, an event at a time."""
    for text in pieces(turn.text, turn.pieces):
        yield sse(_chunk([{"text": text}]), name=False)
    yield sse(_chunk(_calls(calls), finish="STOP"), name=False)


def whole(turn: Turn, calls: Sequence[Named], body: Any) -> dict[str, Any]:
    """The answer in one piece."""
    said = [{"text": turn.text * turn.pieces}] if turn.say else []
    return _chunk([*said, *_calls(calls)], finish="STOP")


def _calls(calls: Sequence[Named]) -> list[dict[str, Any]]:
    return [{"functionCall": {"name": name, "args": given}} for name, given in calls]


def _chunk(parts: list[dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "scripted"}
