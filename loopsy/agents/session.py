"""What the sessions of all agents share: lines in, happenings out, what waits for an answer, and the end."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from attrs import evolve, field, frozen, mutable

from loopsy.agents import lines
from loopsy.agents.adapter import Asked, Ended, Event, Happening, Launch, Run, Step, Withdrawn
from loopsy.agents.environment import cleaned
from loopsy.agents.finding import with_neighbours
from loopsy.agents.modes import settled
from loopsy.wire.tasks import ERROR, SYSTEM, TEXT, THINKING, TOOL_RESULT, TOOL_USE

OUTPUT_MAX = 256 * 1024
"""Bytes of a tool's output in an event (docs/protocol/tasks.md)."""
ERROR_LINE_MAX = 64 * 1024
NOTICES_MAX = 200
"""From standard error: who complains without end is heard to the end of this, and its last lines go into the error."""
TAIL = 10
"""Lines of standard error that say why there is no result."""
UNEXPECTED = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What taking apart a line raises that isn't as it should be."""
ESCAPES = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")


@mutable
class Draft:
    """A step in the making."""

    happenings: list[Happening] = field(factory=list)
    write: bytearray = field(factory=bytearray)
    close_stdin: bool = False

    def event(self, kind: str, /, **data: Any) -> None:
        """Add an event; what is None is left out."""
        shown = {name: value for name, value in data.items() if value is not None}
        self.happenings.append(Event(type=kind, data=shown))

    def notice(self, text: str) -> None:
        """Add something that people may want to know."""
        self.event(SYSTEM, subtype="notice", text=text)

    def text(self, text: str) -> None:
        """Add what the agent says."""
        if text:
            self.event(TEXT, text=text)

    def thinking(self, text: str) -> None:
        """Add what it thinks."""
        if text:
            self.event(THINKING, text=text)

    def tool_use(self, tool_id: str, name: str, given: Mapping[str, Any]) -> None:
        """Add a tool's call."""
        self.event(TOOL_USE, toolId=tool_id, toolName=name, input=dict(given))

    def tool_result(self, tool_id: str, output: str, is_error: bool) -> None:
        """Add what a tool gave; the middle of a long output is cut."""
        kept = cut(output)
        truncated = True if len(kept) != len(output) else None
        self.event(TOOL_RESULT, toolId=tool_id, output=kept, isError=is_error, truncated=truncated)

    def send(self, value: Mapping[str, Any]) -> None:
        """Write a line of JSON."""
        self.write += line_of(value)

    def step(self) -> Step:
        """What came of it."""
        return Step(happenings=tuple(self.happenings), write=bytes(self.write), close_stdin=self.close_stdin)


@frozen
class Waiting:
    """What waits for a person, and how the CLI is told."""

    asked: Asked
    tell: Callable[[Draft, bool, str | None], None]


class LineSession(ABC):
    """One run of a CLI that writes lines of JSON."""

    agent: ClassVar[str]
    noise: ClassVar[re.Pattern[str]] = re.compile(r"(?!)")
    """What the CLI always says on standard error and means nothing."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._out = lines.Lines()
        self._err = lines.Lines(limit=ERROR_LINE_MAX)
        self._complaints: deque[str] = deque(maxlen=TAIL)
        self._noticed: set[str] = set()
        self._waiting: dict[str, Waiting] = {}
        self._over = False

    # -- what the services call ---------------------------------------------------------------------------------------
    @abstractmethod
    def launch(self) -> Launch:
        """The process to start."""

    @abstractmethod
    def interrupt(self) -> Step:
        """Ask it kindly to stop."""

    def feed(self, data: bytes) -> Step:
        """Its standard output, in any pieces."""
        draft = Draft()
        for line in self._out.feed(data):
            self._line(line, draft)
        return draft.step()

    def feed_error(self, data: bytes) -> Step:
        """Its standard error, in any pieces."""
        draft = Draft()
        for line in self._err.feed(data):
            self._complaint(line, draft)
        return draft.step()

    def answer(self, request_id: str, approved: bool, message: str | None = None) -> Step:
        """Answer what was asked. What no longer waits needs no answer."""
        draft = Draft()
        if waiting := self._waiting.pop(request_id, None):
            waiting.tell(draft, approved, message)
        return draft.step()

    def ended(self, exit_code: int | None) -> Step:
        """The process is gone."""
        draft = Draft()
        for line in self._out.rest():
            self._line(line, draft)
        for line in self._err.rest():
            self._complaint(line, draft)
        self._withdraw_all(draft)
        if not self._over:
            how = "was ended by a signal" if exit_code is None else f"exited with {exit_code}"
            why = "\n".join([f"{self.agent} {how} without a result", *self._complaints])
            self._end(draft, self._unfinished(why))
        return Step(happenings=tuple(draft.happenings))

    # -- what each CLI says -------------------------------------------------------------------------------------------
    @abstractmethod
    def _value(self, value: dict[str, Any], draft: Draft) -> None:
        """One line of JSON. It may raise what is UNEXPECTED; whatever the line asked is not granted then."""

    @abstractmethod
    def _unfinished(self, why: str) -> Ended:
        """The end, where the CLI didn't tell."""

    # -- what they share ----------------------------------------------------------------------------------------------
    def _environment(self, **more: str) -> dict[str, str]:
        return {**with_neighbours(cleaned(self.run.environment, self.agent), self.run.executable), **more}

    def _line(self, line: bytes | lines.TooLong, draft: Draft) -> None:
        if isinstance(line, lines.TooLong):
            draft.event(ERROR, message=f"{self.agent} wrote a line of {line.size} bytes, which was left out")
            return
        value = lines.parsed(line)
        if value is None:
            draft.text(lines.text(line))
            return
        try:
            self._value(value, draft)
        except UNEXPECTED:
            self._once(draft, f"{self.agent} wrote something unexpected: {cut(lines.text(line), 2000)}")

    def _complaint(self, line: bytes | lines.TooLong, draft: Draft) -> None:
        if isinstance(line, lines.TooLong):
            return
        said = ESCAPES.sub("", lines.text(line)).rstrip()
        if not said or self.noise.search(said):
            return
        self._complaints.append(said)
        self._once(draft, said)

    def _once(self, draft: Draft, text: str) -> None:
        """Say something, if it wasn't said before, within the bound."""
        if text not in self._noticed and len(self._noticed) < NOTICES_MAX:
            self._noticed.add(text)
            draft.notice(text)

    def _ask(self, draft: Draft, asked: Asked, tell: Callable[[Draft, bool, str | None], None]) -> None:
        """Ask a person, unless the mode settles it."""
        if asked.request_id in self._waiting:
            self._once(draft, f"{self.agent} asked twice under one id: {asked.request_id}")
            return
        done = settled(self.run.permission_mode, asked, self.run.cwd)
        if done is None:
            self._waiting[asked.request_id] = Waiting(asked, tell)
            draft.happenings.append(asked)
            return
        if not done.approved:
            draft.notice(f"{asked.tool_name}: {done.message}")
        tell(draft, done.approved, done.message)

    def _withdraw(self, request_id: str, draft: Draft) -> None:
        if self._waiting.pop(request_id, None):
            draft.happenings.append(Withdrawn(request_id=request_id))

    def _withdraw_all(self, draft: Draft) -> None:
        for request_id in tuple(self._waiting):
            self._withdraw(request_id, draft)

    def _end(self, draft: Draft, ended: Ended) -> None:
        """The result, once; then its input is closed, so that it goes."""
        draft.close_stdin = True
        self._withdraw_all(draft)
        if not self._over:
            self._over = True
            text = cut(ended.text, TEXT_MAX)
            draft.happenings.append(ended if text == ended.text else evolve(ended, text=text))


TEXT_MAX = 4 * 1024 * 1024
"""Bytes of a result's text: twice what any model says at once."""


def cut(text: str, size: int = OUTPUT_MAX) -> str:
    """The text, its middle left out where it has more bytes than ``size``."""
    if len(text) * 4 <= size or len(data := text.encode("utf-8", "replace")) <= size:
        return text
    mark = f"\n… {len(data) - size} bytes left out …\n"
    half = (size - len(mark.encode())) // 2
    return data[:half].decode("utf-8", "ignore") + mark + data[-half:].decode("utf-8", "ignore")


def line_of(value: Mapping[str, Any]) -> bytes:
    """A value as the line of JSON that a CLI reads."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def texts(content: Any) -> str:
    """The text of a content, be it a string or blocks; what isn't text is named."""
    match content:
        case str():
            return content
        case list():
            return "\n".join(filter(None, map(texts, content)))
        case {"text": str(text)}:
            return text
        case {"type": str(kind)}:
            return f"[{kind}]"
    return ""


def whole(value: Any) -> int | None:
    """A count as a CLI gives it; None: it isn't one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
