"""Asking a person at the terminal what a task may do."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from loopsy.cli import render
from loopsy.cli.mailbox import AGENTS

Approval = Mapping[str, Any]
Answer = dict[str, Any]
"""The JSON of ``POST …/approve``."""
TASK = "LOOPSY_TASK"
"""Set in whatever a task runs."""
ERASE = "\r\x1b[K"


def inside_of() -> str | None:
    """What we run inside of, if it is no person's shell. Agents answer nothing, not even by their user's terminal: an
    agent that can be talked into a task could else be talked into allowing what it does."""
    if os.environ.get(TASK):
        return "a task"
    return "an agent" if any(os.environ.get(name) for name in AGENTS) else None


class Terminal:
    """Where the person sits."""

    def __init__(self, reads: int, writes: TextIO) -> None:
        self._reads, self._writes = reads, writes
        self.is_stdout = writes is sys.stdout

    def fileno(self) -> int:
        """For select."""
        return self._reads

    def write(self, text: str) -> None:
        """At once."""
        self._writes.write(text)
        self._writes.flush()

    def line(self) -> str | None:
        """What was typed, once there is something; None: the terminal is gone."""
        data = os.read(self._reads, 4096)
        return data.decode("utf-8", "replace").strip() if data else None

    def forget_typed(self) -> None:
        """Nothing that was typed before a question was seen is an answer to it."""
        import termios

        termios.tcflush(self._reads, termios.TCIFLUSH)

    def edit(self, prompt: str, text: str) -> str:
        """A line that begins as ``text``; where no line can be edited, nothing typed means ``text``."""
        if self._reads == 0 and self.is_stdout:
            try:
                import readline
            except ImportError:
                pass
            else:
                if hasattr(readline, "set_pre_input_hook"):  # not on every system

                    def begin() -> None:
                        readline.insert_text(text)
                        readline.redisplay()

                    readline.set_pre_input_hook(begin)
                    try:
                        return input(prompt).strip()
                    finally:
                        readline.set_pre_input_hook(None)
        self.write(f"{prompt}[{render.clean(text)}] ")
        return self.line() or text


def terminal() -> Terminal | None:
    """The person's, if there is one in front of us. Not for an agent, and not in the background, where to read would
    stop us."""
    if inside_of() is not None:
        return None
    try:
        import termios  # noqa: F401 - where there is none, a terminal can't be waited for beside a stream

        if sys.stdin.isatty() and sys.stdout.isatty():
            found = Terminal(0, sys.stdout)
        else:
            number = os.open("/dev/tty", os.O_RDWR)
            found = Terminal(number, os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False))
        return found if os.tcgetpgrp(found.fileno()) == os.getpgrp() else None
    except (ImportError, OSError):
        return None


def edited(rule: str, place: Terminal) -> str:
    """A rule as the person wants it; nothing: none. What can't be typed is only shown, not edited."""
    return place.edit("rule: ", rule) if rule.isprintable() else rule


class Question:
    """One approval that a person is asked about, to the answer."""

    def __init__(self, approval: Approval, may_always: bool) -> None:
        self.approval = approval
        self._may_always = may_always
        self._word = False
        """A word to the agent is waited for."""

    @property
    def request_id(self) -> str:
        """Which one."""
        return str(self.approval["requestId"])

    @property
    def prompt(self) -> str:
        """What stands before the cursor."""
        if self._word:
            return "a word to the agent (Enter: none): "
        always = " / [a]lways" if self._may_always else ""
        return f"allow? [y]es once / [t]his task{always} / [n]o: "

    def take(self, line: str, place: Terminal) -> Answer | None:
        """What a typed line means; None: it isn't answered yet."""
        if self._word:
            return self._answer(False, message=line or None)
        match line.lower():
            case "y" | "yes":
                return self._answer(True)
            case "t" | "task" | "this task":
                return self._answer(True, remember="task")
            case "a" | "always" if self._may_always:
                rule = edited(str(self.approval["suggestedRule"]), place)
                return self._answer(True, remember="always", rule=rule) if rule else None
            case "n" | "no":
                self._word = True
        return None

    def _answer(self, approved: bool, **more: Any) -> Answer:
        given = {name: value for name, value in more.items() if value is not None}
        return {"requestId": self.request_id, "approved": approved, **given}
