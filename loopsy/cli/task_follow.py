"""Watching one task: its events on the screen as they come, and its questions to whoever sits there."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

from loopsy.cli import render
from loopsy.cli.task_asking import ERASE, Question, Terminal, inside_of, terminal
from loopsy.cli.task_book import SHORT, Task, address_of, on
from loopsy.cli.task_screen import Screen
from loopsy.client.events import Event, is_passing
from loopsy.client.local import LocalDaemon
from loopsy.client.tasks import follow_task
from loopsy.errors import Forbidden, LoopsyError, NoPendingApproval
from loopsy.wire import urls

AHEAD = 256
"""Events read ahead of what is shown; further ones stay with the daemon."""
QUIET_S = 0.15
"""Without an event for so long, what waits for an answer is no longer history that is only being told."""
ANSWER_S = 60.0
STATUS = {"completed": 0, "failed": 1, "cancelled": 130}
INTERRUPTED = 130


class Pump:
    """What comes from a thread, for ``select``: events, at the end None or what it failed of."""

    def __init__(self, source: Iterator[Event]) -> None:
        self._items: Queue[Event | LoopsyError | None] = Queue(AHEAD)
        self._read, self._write = socket.socketpair()  # not a pipe: on Windows only sockets can be selected
        threading.Thread(target=self._run, args=(source,), daemon=True).start()

    def _run(self, source: Iterator[Event]) -> None:
        try:
            for event in source:
                self._put(event)
            self._put(None)
        except LoopsyError as error:
            self._put(error)
        except Exception as error:  # whatever it is, nobody must wait for it for ever
            self._put(LoopsyError(f"the task can't be followed: {error}"))

    def _put(self, item: Event | LoopsyError | None) -> None:
        self._items.put(item)
        self._write.send(b".")

    def fileno(self) -> int:
        """For select."""
        return self._read.fileno()

    def get(self) -> Event | None:
        """The next; None: that was all.

        :raises LoopsyError: what the source failed of.
        """
        self._read.recv(1)
        item = self._items.get()
        if isinstance(item, LoopsyError):
            raise item
        return item


class Follower:
    """A task that is watched."""

    def __init__(self, daemon: LocalDaemon, task: Task, peer: str | None, as_json: bool) -> None:
        self._daemon, self._task, self._peer, self._json = daemon, task, peer, as_json
        self._screen = Screen(task["agent"], colour=_colours(), width=shutil.get_terminal_size((100, 24)).columns)
        self._terminal: Terminal | None = None if as_json else terminal()
        self._waiting: dict[str, dict[str, Any]] = {}
        """Approvals without an answer, oldest first."""
        self._answered: set[str] = set()
        """Those that we have answered; their events follow."""
        self._question: Question | None = None
        self._may_answer = True
        self._seen = 0
        self._told_away = False

    @property
    def _name(self) -> str:
        return f"{self._task['taskId'][:SHORT]}{on(self._peer)}"

    def follow(self) -> int:
        """To its end; the exit status.

        :raises LoopsyError: it can't be followed.
        """
        events = follow_task(self._daemon, self._task["taskId"], peer=self._peer, away=self._away)
        pump = Pump(events)
        try:
            while self._step(pump):
                pass
        except KeyboardInterrupt:
            return self._leave()
        if not self._json:
            self._say(self._screen.end())
            if self._screen.has_patch:
                print(f"see what: loopsy task patch {self._name}", file=sys.stderr)
        return STATUS.get(self._screen.status, 1)

    def _leave(self) -> int:
        """The first Ctrl-C. The task goes on; a second one need not wait for these words."""
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print(
            f"\nloopsy: the task goes on; watch it: loopsy task follow {self._name}\n"
            f"  end it: loopsy task cancel {self._name}",
            file=sys.stderr,
        )
        return INTERRUPTED

    def _away(self, error: LoopsyError) -> None:
        if not self._told_away:
            self._told_away = True
            print(f"\nloopsy: {render.clean(error.message)}; waiting for it (Ctrl-C leaves)", file=sys.stderr)

    # -- what comes -------------------------------------------------------------------------------------------------
    def _step(self, pump: Pump) -> bool:
        """One event, or one line that was typed; whether there may be more."""
        next_one = self._next_question()
        sources: list[Pump | Terminal] = [pump, *([self._terminal] if self._question and self._terminal else [])]
        ready = select.select(sources, [], [], None if next_one is None else QUIET_S)[0]
        if pump in ready:
            event = pump.get()
            if event is not None:
                self._take(event)
            return event is not None
        if ready:
            self._typed()
        elif next_one is not None:
            self._ask(next_one)
        return True

    def _take(self, event: Event) -> None:
        data, kind = event["data"], event["type"]
        self._told_away = False
        self._seen = int(event["seq"])
        if kind == "permission_request":
            self._waiting[data["requestId"]] = data
        elif kind == "permission_answer":
            self._waiting.pop(data["requestId"], None)
            self._answered.discard(data["requestId"])
        if self._json:
            self._screen.feed(event)
            print(json.dumps(event, ensure_ascii=sys.stdout.isatty()), flush=True)
            return
        self._hide()
        self._say(self._screen.feed(event))
        if self._question and self._question.request_id not in self._waiting:
            self._question = None
        self._show()

    def _say(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()

    # -- questions --------------------------------------------------------------------------------------------------
    def _next_question(self) -> dict[str, Any] | None:
        """The oldest approval that somebody should be asked about, or told of, now."""
        is_history = self._seen < int(self._task["lastSeq"])
        if self._question is not None or is_history:
            return None
        return next((one for name, one in self._waiting.items() if name not in self._answered), None)

    def _ask(self, approval: dict[str, Any]) -> None:
        if self._terminal is None:
            self._answered.add(approval["requestId"])
            self._tell_how(approval)
            return
        if not self._terminal.is_stdout:  # what is asked must be seen where it is asked
            self._terminal.write(self._screen.approval(approval))
        self._terminal.forget_typed()
        self._question = Question(approval, may_always=self._peer is None)
        self._show()

    def _tell_how(self, approval: dict[str, Any]) -> None:
        """Nobody can be asked here."""
        if where := inside_of():
            words = f"a person must answer this; {where} can't"
        elif not self._may_answer:
            words = may_not(self._peer, self._name)
        else:
            request = render.clean(approval["requestId"])
            words = f"it waits for an answer: loopsy task approve {self._name} --request {request} (or: deny)"
        print(f"loopsy: {words}", file=sys.stderr, flush=True)

    def _show(self) -> None:
        if self._question is not None and self._terminal is not None:
            self._terminal.write(self._question.prompt)

    def _hide(self) -> None:
        if self._question is not None and self._terminal is not None:
            self._terminal.write(ERASE)

    def _typed(self) -> None:
        assert self._question is not None
        assert self._terminal is not None
        line = self._terminal.line()
        if line is None:
            self._terminal = self._question = None
            return
        answer = self._question.take(line, self._terminal)
        if answer is None:
            self._show()
            return
        self._question = None
        self._answered.add(answer["requestId"])
        self._send(answer)

    def _send(self, answer: dict[str, Any]) -> None:
        try:
            self._daemon.ask("POST", address_of(self._task, self._peer, urls.TASK_APPROVE), answer, timeout=ANSWER_S)
        except NoPendingApproval as error:
            self._tell(error.message)
        except Forbidden:
            self._terminal, self._may_answer = None, False
            self._tell(may_not(self._peer, self._name))
        except LoopsyError as error:
            self._tell(error.message)
            if is_passing(error) or error.status == 400:
                self._answered.discard(answer["requestId"])

    def _tell(self, text: str) -> None:
        print(f"loopsy: {render.clean_text(text)}", file=sys.stderr, flush=True)


def may_not(peer: str | None, name: str) -> str:
    """What to do where this machine's key may not answer."""
    there = render.clean(peer or "there")
    short = name.partition(" ")[0]
    return (
        f"{there} doesn't let this machine answer; it goes on waiting. Answer on {there}:\n"
        f"  loopsy task approve {short}\n"
        f"or let this machine answer from now on, there:\n"
        f"  loopsy peers scope <this machine> all,approve"
    )


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
