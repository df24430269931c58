"""Plays a recording of a real CLI to a session, and keeps what comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from attrs import field, mutable

from loopsy.agents.adapter import Asked, Began, Ended, Event, Happening, Run, Session, Step, Withdrawn
from loopsy.agents.table import AGENTS

FOLDER = Path(__file__).parent / "recorded"

Pieces = Callable[[bytes], Sequence[bytes]]


def run(**more: Any) -> Run:
    """What the recordings were asked."""
    given = {"executable": "/usr/bin/agent", "prompt": "please", "cwd": "/home/leo/work", "environment": {}, **more}
    return Run(**given)


def whole(data: bytes) -> list[bytes]:
    """In one piece."""
    return [data]


@mutable
class Played:
    """A session, and what it made of its lines."""

    session: Session
    happenings: list[Happening] = field(factory=list)
    written: bytearray = field(factory=bytearray)
    closed: bool = False

    def take(self, step: Step) -> list[Happening]:
        """Keep a step; what is new."""
        self.happenings += step.happenings
        self.written += step.write
        self.closed |= step.close_stdin
        return list(step.happenings)

    def feed(self, *values: Any) -> list[Happening]:
        """Some lines of JSON, or of bytes as they are."""
        lines = [value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n" for value in values]
        return self.take(self.session.feed(b"".join(lines)))

    @property
    def sent(self) -> list[dict[str, Any]]:
        """What was written, line by line."""
        return [json.loads(line) for line in bytes(self.written).splitlines()]

    @property
    def asked(self) -> list[Asked]:
        """All that was asked."""
        return [happening for happening in self.happenings if isinstance(happening, Asked)]

    @property
    def ended(self) -> Ended:
        """The one end."""
        (ended,) = (happening for happening in self.happenings if isinstance(happening, Ended))
        return ended


def began(name: str, **more: Any) -> Played:
    """A session whose process was started."""
    played = Played(AGENTS[name](run(**more)))
    played.written += played.session.launch().first
    return played


def recorded(name: str, case: str) -> tuple[int, list[tuple[str, str]]]:
    """The exit code, and what came and went."""
    head, *lines = (FOLDER / f"{name}-{case}.jsonl").read_text().splitlines()
    return json.loads(head)["exit"], [tuple(json.loads(line)) for line in lines]


def play(name: str, case: str, act: Callable[[Played, Asked], None], pieces: Pieces = whole) -> Played:
    """A recording from its start to its end. ``act`` answers what is asked; ``pieces`` cuts what comes."""
    played = began(name)
    status, lines = recorded(name, case)
    for source, group in groupby(lines, lambda line: line[0]):
        data = "".join(line + "\n" for _, line in group).encode()
        if source == "in":
            continue
        for piece in pieces(data):
            new = played.take(played.session.feed(piece) if source == "out" else played.session.feed_error(piece))
            for happening in new:
                if isinstance(happening, Asked):
                    act(played, happening)
    played.take(played.session.ended(status))
    return played


def tools(played: Played, asked: Asked) -> None:
    """The answers of the recordings named so."""
    answers = [(True, None), (True, None), (False, "use make")]
    played.take(played.session.answer(asked.request_id, *answers[len(played.asked) - 1]))


def interrupted(played: Played, _: Asked) -> None:
    """The same."""
    played.take(played.session.interrupt())


def alone(*_: object) -> None:
    """The same."""


CASES = {"tools": tools, "interrupted": interrupted, "refused": alone}


def shown(happenings: Sequence[Happening]) -> Iterator[str]:
    """Each in a few words."""
    for happening in happenings:
        match happening:
            case Began():
                yield "began"
            case Asked(kind=kind):
                yield f"asked {kind} {happening.command or ' '.join(happening.paths)}"
            case Withdrawn():
                yield "withdrawn"
            case Ended():
                yield f"ended {happening.error or happening.text}"
            case Event(type="tool_use", data=data):
                yield f"tool_use {data['toolName']}"
            case Event(type="tool_result", data=data):
                yield f"tool_result{' failed' if data['isError'] else ''} {' '.join(data['output'].split())[:19]}"
            case Event(type="system", data=data):
                yield f"notice {data['text'][:40]}"
            case Event(type=kind, data=data):
                yield f"{kind} {data.get('text') or data.get('message')}"
