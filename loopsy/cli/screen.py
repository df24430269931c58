"""A terminal of another machine in this one: raw mode, size, the escape, the exit status."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from loopsy.cli.exec import write_all
from loopsy.client.local import LocalDaemon
from loopsy.client.websocket import WebSocket
from loopsy.errors import ConnectionBroken
from loopsy.wire import urls
from loopsy.wire.terminals import CELLS_MAX, SIDE_MAX, SUBPROTOCOL, WRITE

TYPED = 16 * 1024
Ready = list[tuple[int, int]]
"""Descriptors that can be read; what poll says of each, which is of no use here."""

CTRL_C = b"\x03"
HELP = b"\r\n~.  leave (the terminal goes on)\r\n~?  this help\r\n~~  a tilde\r\n"


class Modes:
    """What the program turned on in this terminal, to be turned off when one leaves it: else the mouse would go on
    typing, and an editor's screen stay."""

    CHANGES = re.compile(rb"\x1b(?:(c)|([=>])|\[\?([\d;]{1,40})([hl]))")
    USUALLY_ON = frozenset((b"7", b"25"))
    KEPT = 48
    """Of the end of what was shown: a sequence may come in two pieces."""

    def __init__(self) -> None:
        self._changed: dict[bytes, bool] = {}
        self._keypad = False
        self._end = b""

    def shown(self, data: bytes) -> None:
        """The program printed this."""
        if not self._end and b"\x1b" not in data:
            return
        data = self._end + data
        for match in self.CHANGES.finditer(data):
            if match[1]:
                self._changed.clear()
                self._keypad = False
            elif match[2]:
                self._keypad = match[2] == b"="
            else:
                self._changed |= dict.fromkeys(match[3].split(b";"), match[4] == b"h")
        begun = data.rfind(b"\x1b", -self.KEPT)
        self._end = b"" if begun < 0 or self.CHANGES.match(data, begun) else data[begun:]

    def undone(self) -> bytes:
        """What puts this terminal back."""
        odd = [mode for mode, on in self._changed.items() if on is not (mode in self.USUALLY_ON)]
        back = [b"\x1b[?%s%s" % (mode, b"h" if mode in self.USUALLY_ON else b"l") for mode in odd if mode != b"6"]
        return b"\x1b[0m" + b"".join(back) + (b"\x1b>" if self._keypad else b"")


class Escape:
    """``~`` at the begin of a line, as in ssh."""

    def __init__(self) -> None:
        self._at_begin = True
        self._held = False
        self.leaves = False
        self.asks = False

    def feed(self, data: bytes) -> bytes:
        """What of the typed is meant for the program."""
        if data and not self._held and b"~" not in data:
            self._at_begin = data[-1:] in (b"\r", b"\n")
            return data
        out = bytearray()
        for byte in data:
            out += self._one(bytes((byte,)))
            if self.leaves:
                break
        return bytes(out)

    def _one(self, byte: bytes) -> bytes:
        if self._held:
            self._held = False
            if byte == b".":
                self.leaves = True
                return b""
            if byte == b"?":
                self.asks = True
                return b""
            self._at_begin = byte in b"\r\n"
            return byte if byte == b"~" else b"~" + byte
        if byte == b"~" and self._at_begin:
            self._held = True
            return b""
        self._at_begin = byte in b"\r\n"
        return byte


def size() -> tuple[int, int]:
    """Columns and lines of this terminal. (Not by COLUMNS and LINES: they don't change with it.)"""
    try:
        columns, lines = os.get_terminal_size(0)
    except OSError:
        columns, lines = 80, 24
    columns = max(1, min(columns or 80, SIDE_MAX))
    return columns, max(1, min(lines or 24, SIDE_MAX, CELLS_MAX // columns))


def attach(daemon: LocalDaemon, peer: str | None, terminal_id: str, mode: str = WRITE) -> int | None:
    """Be at a terminal until it ends or is left: its exit status as a shell counts, None where it goes on without us.

    :raises LoopsyError: the daemon's. :raises ConnectionBroken: it was cut.
    """
    columns, lines = size()
    path = urls.on_peer(urls.fill(urls.TERMINAL_ATTACH, terminal_id=terminal_id), peer)
    socket = WebSocket(daemon, f"{path}?mode={mode}&cols={columns}&rows={lines}", SUBPROTOCOL)
    try:
        with raw_mode(), resizes() as resized:
            session = _Session(socket, mode, resized)
            try:
                return session.run()
            finally:
                session.put_back()
    finally:
        socket.close()


class _Session:
    def __init__(self, socket: WebSocket, mode: str, resized: int) -> None:
        self._socket = socket
        self._mode = mode
        self._resized = resized
        self._escape = Escape()
        self._modes = Modes()
        self._status: int | None = None
        self._is_over = False
        self._daemon = socket.fileno()
        self._reads = [self._daemon, resized, *([0] if mode == WRITE or sys.stdin.isatty() else [])]
        self._ready = _readable(self._reads)

    def run(self) -> int | None:
        """Both ways until the end."""
        while not self._is_over and not self._escape.leaves:
            for descriptor, _ in self._wait():
                if descriptor == 0:
                    self._typed()
                elif descriptor == self._daemon:
                    self._receive()
                else:
                    self._was_resized()
        return self._status

    def _wait(self) -> Ready:
        """For what may be read. While the daemon takes no more, that is not the keyboard."""
        if self._socket.has_early:
            return [(self._daemon, 0)]
        if not self._socket.waiting:
            return self._ready()
        ready, free, _ = select.select([one for one in self._reads if one != 0], [self._daemon], ())
        if free:
            self._socket.flush()
        return [(descriptor, 0) for descriptor in ready]

    def _was_resized(self) -> None:
        os.read(self._resized, 512)
        columns, lines = size()
        self._socket.say({"type": "resize", "cols": columns, "rows": lines})

    def _receive(self) -> None:
        for message in self._socket.receive():
            if isinstance(message, bytes):
                self._modes.shown(message)
                _write(message)
            elif message.get("type") == "exit":
                self._status, self._is_over = status_of(message), True
        if self._socket.is_closed and not self._is_over:
            raise ConnectionBroken("the connection broke; the terminal goes on", hint="loopsy shell --list shows it")

    def _typed(self) -> None:
        data = os.read(0, TYPED)
        if not data:
            self._reads.remove(0)
            self._ready = _readable(self._reads)
            return
        if self._mode != WRITE and CTRL_C in data:
            self._escape.leaves = True
        out = self._escape.feed(data)
        if self._escape.asks:
            self._escape.asks = False
            _write(HELP)
        if out and self._mode == WRITE:
            self._socket.send(out)

    def put_back(self) -> None:
        """This terminal is the shell's again."""
        with contextlib.suppress(OSError):
            _write(self._modes.undone())


def _readable(descriptors: Sequence[int]) -> Callable[[], Ready]:
    """Waits until some of them can be read, or are at their end."""
    if sys.platform != "linux":  # elsewhere poll may know no terminals
        return lambda: [(descriptor, 0) for descriptor in select.select(descriptors, (), ())[0]]
    poll = select.poll()  # takes a third of select's time, with a key on its way
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return poll.poll


def status_of(message: Any) -> int:
    """The exit status of a shell for this end: a signal's number above 128."""
    if message.get("signal"):
        return 128 + int(getattr(signal, str(message["signal"]), 0))
    return int(message.get("exitCode") or 0)


def _write(data: bytes) -> None:
    write_all(1, data)


@contextlib.contextmanager
def raw_mode() -> Iterator[None]:
    """Every key goes to the program; as it was, afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(0)
        yield
    finally:
        with contextlib.suppress(termios.error):  # of a window that was closed
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def resizes() -> Iterator[int]:
    """A descriptor that is readable when this terminal's size has changed."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    before_fd = signal.set_wakeup_fd(into, warn_on_full_buffer=False)
    before = signal.signal(signal.SIGWINCH, lambda *_: None)
    try:
        yield out
    finally:
        signal.signal(signal.SIGWINCH, before)
        signal.set_wakeup_fd(before_fd)
        os.close(out)
        os.close(into)
