"""Terminals over HTTP, and over WebSockets (docs/protocol/terminals.md)."""

from __future__ import annotations

import shlex
from typing import Any

from attrs import frozen

from loopsy.core.principals import Scope, Scoped
from loopsy.core.rates import Category
from loopsy.errors import InvalidRequest
from loopsy.services.daemon import Daemon
from loopsy.services.live_terminals import LiveTerminal, Seat
from loopsy.services.terminals import check_size
from loopsy.web.execution import NOTED
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.wire import codec, urls
from loopsy.wire.terminals import (
    CELLS_MAX,
    MODES,
    SIDE_MAX,
    SUBPROTOCOL,
    WRITE,
    OpenTerminal,
    Terminal,
    TerminalList,
    TerminalRemoved,
)

ACCESS = Scoped(Scope.TERMINAL)


@frozen(eq=False)
class TerminalsArea:
    """Programs on pseudo-terminals."""

    daemon: Daemon
    routes = Routes()

    @routes.declare(
        "POST",
        urls.TERMINALS,
        access=ACCESS,
        rate=Category.EXECUTE,
        takes=OpenTerminal,
        answers=Terminal,
        status=201,
    )
    def open(self, call: Call[OpenTerminal]) -> Terminal:
        """Start a program on a terminal; the login shell, where none is named."""
        if call.body.command is not None:
            call.note(command=shlex.join([call.body.command, *call.body.args])[:NOTED])
        found = self.daemon.terminals.open(call.body, call.principal)
        call.note(terminal=found.terminal_id)
        return found

    @routes.declare("GET", urls.TERMINALS, access=ACCESS, answers=TerminalList)
    def list(self, call: Call[None]) -> TerminalList:
        """All of them; for a peer those that it opened."""
        return TerminalList(terminals=self.daemon.terminals.list(call.principal))

    @routes.declare("GET", urls.TERMINAL, access=ACCESS, answers=Terminal)
    def get(self, call: Call[None], terminal_id: str) -> Terminal:
        """One."""
        return self.daemon.terminals.get(terminal_id, call.principal).info

    @routes.declare("DELETE", urls.TERMINAL, access=ACCESS, answers=TerminalRemoved)
    def end(self, call: Call[None], terminal_id: str) -> TerminalRemoved:
        """End it: HUP to its process group, KILL five seconds later. One that has ended is struck from the list."""
        call.note(terminal=terminal_id)
        self.daemon.terminals.end(terminal_id, call.principal)
        return TerminalRemoved(success=True, terminal_id=terminal_id)

    @routes.declare("GET", urls.TERMINAL_ATTACH, access=ACCESS)
    def attach(self, call: Call[None], terminal_id: str) -> Answered:
        """Watch it, and type (WebSocket)."""
        from loopsy.web.websocket import accept  # only when asked for: it loads a parser

        live = self.daemon.terminals.get(terminal_id, call.principal)
        mode = call.query("mode") or WRITE
        if mode not in MODES:
            raise InvalidRequest(f"mode: must be one of {', '.join(MODES)}")
        columns, lines = side(call, "cols"), side(call, "rows")
        check_size(columns or 1, lines or 1)
        call.note(terminal=terminal_id, mode=mode)
        screen = Screen(live, mode)
        screen.socket = accept(call.request, SUBPROTOCOL, screen)
        screen.sit((columns, lines) if columns and lines else None)
        return ANSWERED


def side(call: Call[None], name: str) -> int | None:
    """A query parameter that is a number of columns or lines.

    :raises InvalidRequest: it is none.
    """
    text = call.query(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 5 or not 0 < int(text) <= SIDE_MAX:
        raise InvalidRequest(f"{name}: must be from 1 to {SIDE_MAX}")
    return int(text)


class Screen:
    """A viewer over a WebSocket: the terminal's Viewer, and the socket's Endpoint."""

    def __init__(self, live: LiveTerminal, mode: str) -> None:
        self.mode = mode
        self.socket: Any = None
        self._live = live
        self._seat: Seat | None = None

    def sit(self, size: tuple[int, int] | None) -> None:
        """The handshake is done."""
        self._seat = self._live.join(self, size)

    # -- from the terminal ----------------------------------------------------------------------------------------
    def show(self, data: bytes) -> None:
        """Output."""
        self.socket.send(data)

    def tell(self, **words: Any) -> None:
        """A change."""
        self.socket.say(**{name: codec.plain_value(value) for name, value in words.items()})

    def hold(self, is_held: bool) -> None:
        """Whether it is not read for now."""
        if is_held:
            self.socket.read_no_more()
        else:
            self.socket.read_on()

    def end(self) -> None:
        """The program is gone."""
        self.socket.close()

    # -- from the viewer ------------------------------------------------------------------------------------------
    def data(self, data: bytes) -> None:
        """Typed."""
        if self.mode != WRITE:
            self.socket.close(1008, "this viewer only watches")
        else:
            self._live.type(data)

    def text(self, words: Any) -> None:
        """A wish."""
        if words.get("type") == "resize" and self.mode == WRITE:
            columns, lines = words.get("cols"), words.get("rows")
            if _is_side(columns) and _is_side(lines) and columns * lines <= CELLS_MAX:
                self._live.resize(columns, lines)
            else:
                self.socket.close(1008, f"cols and rows: from 1 to {SIDE_MAX}, together {CELLS_MAX} at most")

    def slow(self) -> None:
        """Its connection is full."""
        if self._seat is not None:
            self._live.slow(self._seat)

    def ready(self) -> None:
        """It takes more."""
        if self._seat is not None:
            self._live.ready(self._seat)

    def gone(self) -> None:
        """It left."""
        if self._seat is not None:
            self._live.leave(self._seat)


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= SIDE_MAX
