"""The command's WebSocket, against a scripted daemon: handshake, pieces, pings, refusals, ends, and a slow one."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, Request, TextMessage

from loopsy.client.websocket import Received, WebSocket
from loopsy.errors import DaemonNotRunning, Forbidden, LoopsyError
from tests.client.test_local import KEY, daemon_at
from tests.waiting import PATIENCE_S

SPOKEN = "test.1"
WAIT_S = PATIENCE_S
LOOKS = b"z" * 300 + b"\x82\x01k"
"""Its end looks like a frame."""
Script = Callable[["Side"], None]


class Side:
    """The daemon's end."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.settimeout(WAIT_S)
        self.ws = WSConnection(ConnectionType.SERVER)
        self.head = b""

    def heed(self) -> None:
        """Read the handshake."""
        while b"\r\n\r\n" not in self.head:
            self.head += self.socket.recv(65536)
        self.ws.receive_data(self.head)
        assert [type(event) for event in self.ws.events()] == [Request]

    def accept(self) -> None:
        """Answer it."""
        self.heed()
        self.socket.sendall(self.ws.send(AcceptConnection(subprotocol=SPOKEN)))

    def frame(self, event: BytesMessage | TextMessage | Ping | CloseConnection) -> bytes:
        """As it goes over the network."""
        return bytes(self.ws.send(event))

    def hear(self, count: int) -> list[object]:
        """So many events of the other side."""
        events: list[object] = []
        while len(events) < count:
            data = self.socket.recv(65536)
            self.ws.receive_data(data or None)
            events += self.ws.events()
            if not data:
                break
        return events


@contextmanager
def scripted(script: Script) -> Iterator[int]:
    """A port where one connection is answered by ``script``; what that raised is raised at the end."""
    faults: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                try:
                    script(Side(connection))
                except BaseException as fault:
                    faults.append(fault)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(WAIT_S)
        assert not thread.is_alive()
    for fault in faults:
        raise fault


def at(directory: Path, port: int) -> WebSocket:
    return WebSocket(daemon_at(directory, port), "/api/v1/x?mode=write", SPOKEN, {"x-request-id": "r1"})


def heard(ws: WebSocket, count: int) -> list[Received]:
    """So many messages, or all until the end."""
    found: list[Received] = []
    while len(found) < count and (ws.has_early or not ws.is_closed):
        found += ws.receive()
    return found


def test_the_handshake_shows_the_key_and_messages_go_both_ways(tmp_path: Path) -> None:
    seen: list[object] = []
    heads: list[bytes] = []

    def script(side: Side) -> None:
        side.accept()
        heads.append(side.head)
        seen.extend(side.hear(3))
        side.socket.sendall(side.frame(BytesMessage(b"e")) + side.frame(TextMessage('{"type":"exit"}')))
        side.socket.sendall(side.frame(BytesMessage(b"x" * 100_000)))

    with scripted(script) as port:
        ws = at(tmp_path, port)
        ws.send(b"k")
        ws.send(b"y" * 1000)
        ws.say({"type": "resize"})
        assert heard(ws, 3) == [b"e", {"type": "exit"}, b"x" * 100_000]
        ws.close()
    assert heads[0].startswith(b"GET /api/v1/x?mode=write HTTP/1.1\r\n")
    lines = heads[0].lower().split(b"\r\n")
    assert f"authorization: bearer {KEY}".encode() in lines
    assert b"x-request-id: r1" in lines
    assert [event.data for event in seen if isinstance(event, BytesMessage | TextMessage)] == [
        b"k", b"y" * 1000, '{"type": "resize"}',
    ]  # fmt: skip


@pytest.mark.parametrize("cut_at", [None, 10, -1, -3, -200])
def test_what_comes_with_the_answer_is_not_lost_and_keeps_its_order(tmp_path: Path, cut_at: int | None) -> None:
    def script(side: Side) -> None:
        side.heed()
        answer = bytes(side.ws.send(AcceptConnection(subprotocol=SPOKEN)))
        early = side.frame(TextMessage('{"type":"hello"}')) + side.frame(BytesMessage(LOOKS))
        side.socket.sendall((answer + early)[:cut_at])
        if cut_at is not None:
            select.select([], [], [], 0.05)  # the two may still arrive as one: then this tests less
            side.socket.sendall((answer + early)[cut_at:])
            select.select([], [], [], 0.05)
        for letter in b"abc":
            side.socket.sendall(side.frame(BytesMessage(bytes((letter,)))))
        side.socket.sendall(side.frame(CloseConnection(1000)))

    with scripted(script) as port:
        ws = at(tmp_path, port)
        found = heard(ws, 100)
        assert found[:2] == [{"type": "hello"}, LOOKS]
        assert found[2:] == [b"a", b"b", b"c"]
        assert ws.is_closed
        ws.close()


def test_a_message_in_parts_with_a_ping_between_them(tmp_path: Path) -> None:
    answers: list[object] = []

    def script(side: Side) -> None:
        side.accept()
        parts = side.frame(BytesMessage(b"one ", message_finished=False)), side.frame(BytesMessage(b"two"))
        side.socket.sendall(parts[0] + side.frame(Ping(b"there?")) + parts[1])
        answers.extend(side.hear(1))

    with scripted(script) as port:
        ws = at(tmp_path, port)
        assert heard(ws, 1) == [b"one two"]
        ws.close()
    assert [event.payload for event in answers if isinstance(event, Pong)] == [b"there?"]


def test_a_daemon_that_takes_nothing_holds_up_nobody(tmp_path: Path) -> None:
    """What it doesn't take waits, in its order, until it does."""
    go_on = threading.Event()
    got = bytearray()
    sent = [bytes((number % 251,)) * (50_000 if number % 3 else 5) for number in range(400)]

    def script(side: Side) -> None:
        side.accept()
        go_on.wait(WAIT_S)
        while len(got) < sum(map(len, sent)):
            for event in side.hear(1):
                assert isinstance(event, BytesMessage)
                got.extend(event.data)

    with scripted(script) as port:
        ws = at(tmp_path, port)
        for data in sent:
            ws.send(data)
        assert ws.waiting, "20 MB fit into no socket"
        go_on.set()
        while ws.waiting:
            select.select([], [ws], [], WAIT_S)
            ws.flush()
    ws.close()
    assert bytes(got) == b"".join(sent)


def test_a_refusal_is_the_error_that_it_names(tmp_path: Path) -> None:
    body = json.dumps({"error": {"code": 1002, "message": "no scope", "details": {"hint": "ask"}}}).encode()

    def script(side: Side) -> None:
        side.heed()
        head = b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        side.socket.sendall(head + body)

    with scripted(script) as port, pytest.raises(Forbidden) as caught:
        at(tmp_path, port)
    assert (caught.value.message, caught.value.hint) == ("no scope", "ask")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 101 Swi", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_what_is_no_websocket_is_told(tmp_path: Path, said: bytes) -> None:
    def script(side: Side) -> None:
        side.heed()
        side.socket.sendall(said)

    with scripted(script) as port, pytest.raises(LoopsyError):
        at(tmp_path, port)


def test_an_end_without_a_farewell_and_frames_that_are_none(tmp_path: Path) -> None:
    with scripted(lambda side: side.accept()) as port:
        ws = at(tmp_path, port)
        assert heard(ws, 1) == []
        assert ws.is_closed
        ws.close()

    def nonsense(side: Side) -> None:
        side.accept()
        side.socket.sendall(b"\xff" * 32)

    with scripted(nonsense) as port:
        ws = at(tmp_path, port)
        assert heard(ws, 1) == []
        assert ws.is_closed, "the parser's own words for it"
        ws.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:  # by us: nobody else comes to listen there meanwhile
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(DaemonNotRunning, match=str(port)):
            at(tmp_path, port)
