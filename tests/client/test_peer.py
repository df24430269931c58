"""What a bad peer may do to whoever asks it: every question comes to an end, and so does its connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.http_headers import Headers

from loopsy.client import files as files_module
from loopsy.client import peer as module
from loopsy.client.files import PeerFiles, UploadOffer
from loopsy.client.peer import PeerClient, Target, collect
from loopsy.errors import InvalidRequest, LoopsyError, PeerTimeout, PeerUnreachable
from loopsy.store import certificate
from loopsy.store.layout import Layout
from tests.waiting import PATIENCE_S, until

Answer = Callable[[Any], None]
WAIT_S = PATIENCE_S
LONG_S = 10_000.0
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


class BadPeer:
    """Takes one connection after the other, over TLS where it has a certificate, and treats it as it likes."""

    def __init__(self, answer: Answer, layout: Layout | None = None) -> None:
        self._answer, self._context = answer, None
        self.pin: str | None = None
        if layout is not None:
            layout.make()
            self.pin = certificate.ensure(layout, "bad").fingerprint
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(layout.tls_certificate, layout.tls_key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.let_go = threading.Event()
        """Its connection was closed by the other side."""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock: socket.socket = self._listener.accept()[0]
            except OSError:
                return
            try:
                sock.settimeout(WAIT_S)
                if self._context is not None:
                    sock = self._context.wrap_socket(sock, server_side=True)
                self._answer(sock)
            except TimeoutError:
                continue  # it was kept open
            except OSError:
                self.let_go.set()
            finally:
                sock.close()

    def target(self) -> Target:
        return Target("127.0.0.1", self.port, "k" * 64, "bad", self.pin)

    def close(self) -> None:
        self._listener.close()


def until_closed(sock: Any) -> None:
    """Never says goodbye; sees the connection's end, not TLS'."""
    raw = socket.socket(fileno=socket.dup(sock.fileno()))
    raw.settimeout(WAIT_S)
    with raw:
        while raw.recv(65536):
            pass
    raise ConnectionError


def endless(sock: Any) -> None:
    sock.recv(65536)
    sock.sendall(HEAD + b"\r\n")
    while True:
        sock.sendall(b" " * 65536)


def endless_head(sock: Any) -> None:
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"a: b\r\n" * 10_000)


def endless_line(sock: Any) -> None:
    sock.recv(65536)
    while True:
        sock.sendall(b"HTTP/1.1 200 " + b"O" * 65536)


def interim(sock: Any) -> None:
    sock.recv(65536)
    while True:
        sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)


def half(sock: Any) -> None:
    sock.recv(65536)
    sock.sendall(HEAD + b"content-length: 100\r\n\r\n{")
    until_closed(sock)


def silent(sock: Any) -> None:
    until_closed(sock)


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Callable[..., BadPeer]]:
    made: list[BadPeer] = []

    def make(answer: Answer, *, tls: bool) -> BadPeer:
        made.append(BadPeer(answer, Layout(tmp_path / "bad") if tls else None))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


@pytest_twisted.async_yield_fixture
async def client() -> AsyncIterator[PeerClient]:
    client = PeerClient(reactor)
    yield client
    await client.close()
    await deferLater(reactor, 0.05)  # type: ignore[arg-type]  # what was cut is gone with the reactor's next turn


async def lets_go(peer: BadPeer) -> bool:
    """Whether it was hung up on."""
    return await deferToThread(peer.let_go.wait, WAIT_S / 2)  # type: ignore[no-any-return]


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Holds an answer as soon as the client has its head, and reads its body. However long that takes, here it is
    patient for longer."""
    found: list[Any] = []
    for place, patience in ((module, "ANSWER_S"), (files_module, "SILENCE_S")):
        monkeypatch.setattr(place, "collect", lambda answer, limit: (found.append(answer), collect(answer, limit))[1])
        monkeypatch.setattr(place, patience, LONG_S)
    return found


async def its_time_is_over(reading: list[Any]) -> None:
    """Of an answer whose body is read."""
    await until(lambda: reading)
    timers: Any = reactor.getDelayedCalls()  # type: ignore[attr-defined]
    (patience,) = (call for call in timers if call.getTime() - reactor.seconds() > LONG_S / 2)  # type: ignore[attr-defined]
    patience.reset(0)


@pytest.mark.parametrize("tls", [True, False])
@pytest_twisted.ensureDeferred
async def test_an_answer_without_end_is_cut_at_the_limit(
    peers: Any, client: PeerClient, tls: bool, reading: list[Any]
) -> None:
    peer = peers(endless, tls=tls)
    with pytest.raises(PeerUnreachable, match="larger"):
        await client.health(peer.target())
    assert await lets_go(peer)


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("answer", [endless_head, endless_line, interim])
@pytest_twisted.ensureDeferred
async def test_a_head_without_end_is_cut_too(peers: Any, client: PeerClient, answer: Answer, tls: bool) -> None:
    """Long before the time for an answer is over, and where none is set (the gateway's requests)."""
    peer = peers(answer, tls=tls)
    with pytest.raises(PeerUnreachable):
        await client.request(peer.target(), b"GET", "/api/v1/status", Headers())
    assert await lets_go(peer)


@pytest.mark.parametrize("tls", [True, False])
@pytest_twisted.ensureDeferred
async def test_an_answer_that_stops_halfway_is_given_up_with_its_connection(
    peers: Any, client: PeerClient, tls: bool, reading: list[Any]
) -> None:
    peer = peers(half, tls=tls)
    asked = Deferred.fromCoroutine(client.health(peer.target()))
    await its_time_is_over(reading)
    with pytest.raises(PeerTimeout):
        await asked
    assert await lets_go(peer)


@pytest.mark.parametrize("tls", [True, False])
@pytest_twisted.ensureDeferred
async def test_one_that_says_nothing_at_all_did_not_answer_in_time(
    peers: Any, client: PeerClient, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    peer = peers(silent, tls=tls)
    with pytest.raises(PeerTimeout, match="did not answer within"):
        await client.health(peer.target())
    assert await lets_go(peer)


@pytest.mark.parametrize("answer", [silent, half])
@pytest_twisted.ensureDeferred
async def test_looking_at_a_certificate_ends_though_nothing_comes(
    peers: Any, client: PeerClient, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    with pytest.raises(LoopsyError):
        await client.fingerprint_of("127.0.0.1", peers(answer, tls=False).port)


@pytest_twisted.ensureDeferred
async def test_a_transfers_small_answers_end_too(peers: Any, client: PeerClient, reading: list[Any]) -> None:
    peer = peers(half, tls=True)
    files = PeerFiles(reactor, client, peer.target())
    asked = Deferred.fromCoroutine(files.apply("/x", None))  # type: ignore[arg-type]
    await its_time_is_over(reading)
    with pytest.raises(PeerTimeout, match="did not end"):
        await asked
    assert await lets_go(peer)


@pytest_twisted.ensureDeferred
async def test_an_upload_is_not_led_to_another_machine(peers: Any, client: PeerClient) -> None:
    def elsewhere(sock: Any) -> None:
        sock.recv(65536)
        sock.sendall(HEAD + b"location: @127.0.0.1:1/x\r\ncontent-length: 0\r\n\r\n")
        until_closed(sock)

    files = PeerFiles(reactor, client, peers(elsewhere, tls=False).target())
    with pytest.raises(InvalidRequest, match="address of its own"):
        await files.begin(UploadOffer(path="/x", filename="x", length=5, source="s", mode=0o644, mtime_ns=0))
