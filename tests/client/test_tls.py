"""The short way through TLS is as good as Twisted's own, from both sides, and fails as that does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from loopsy.client.tls import Connection, ServerConnections, Tls
from loopsy.store import certificate
from loopsy.store.layout import Layout
from loopsy.wire.tls_records import SHORT
from tests.strategies import cut

SIZES = st.integers(1, 3) | st.sampled_from([SHORT - 30, SHORT, SHORT + 1, 20_000])


class App(Protocol):
    """Keeps what came, and its end."""

    def __init__(self) -> None:
        self.data = b""
        self.end: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.end = reason.value


@implementer(IOpenSSLClientConnectionCreator)
class Anybody:
    """A client's connections, unpinned."""

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        return Connection(CertificateOptions().getContext())


class Side:
    """One end: TLS over a transport in memory."""

    def __init__(self, creator: Any, is_client: bool, protocol: Any) -> None:
        factory = TLSMemoryBIOFactory(creator, is_client, Factory.forProtocol(App))
        factory.protocol = protocol
        self.tls: Any = factory.buildProtocol(None)
        self.app: App = self.tls.wrappedProtocol
        self.line = StringTransport()
        self.tls.makeConnection(self.line)

    def take(self) -> bytes:
        """What it has sent since."""
        data = self.line.value()
        self.line.clear()
        return data


def pump(a: Side, b: Side) -> None:
    """Until both have said all."""
    moved = True
    while moved:
        moved = False
        for sender, taker in ((a, b), (b, a)):
            data = sender.take()
            if data:
                moved = True
                taker.tls.dataReceived(data)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A certificate, to listen with."""
    layout = Layout(Path(tmp_path_factory.mktemp("tls")))
    layout.make()
    made: Any = certificate.ensure(layout, "one")
    return CertificateOptions(privateKey=made.key, certificate=made.certificate).getContext()


def pair(own: Any, ours: Any = Tls, theirs: Any = Tls) -> tuple[Side, Side]:
    """A client and a server after their handshake."""
    client, server = Side(Anybody(), True, ours), Side(ServerConnections(own), False, theirs)
    pump(client, server)
    return client, server


@pytest.mark.parametrize("theirs", [Tls, TLSMemoryBIOProtocol])
@given(said=st.lists(st.tuples(st.booleans(), SIZES), max_size=8), data=st.data())
def test_what_is_said_arrives(own: Any, theirs: Any, said: list[tuple[bool, int]], data: st.DataObject) -> None:
    """Short and long, both ways, each as it is or cut anywhere; and the same from Twisted's own."""
    sides = pair(own, Tls, theirs)
    expected = [b"", b""]
    for number, (from_client, size) in enumerate(said):
        sender, taker = sides if from_client else sides[::-1]
        words = (b"%d," % number * size)[:size]
        expected[from_client] += words
        sender.tls.write(words)
        sealed = sender.take()
        for piece in filter(None, data.draw(cut(sealed)) if data.draw(st.booleans()) else [sealed]):
            taker.tls.dataReceived(piece)
    assert [sides[0].app.data, sides[1].app.data] == expected


def test_a_key_goes_the_short_way(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else of TLS is asked."""
    client, server = pair(own)
    for name in ("send", "recv", "bio_read", "bio_write"):
        monkeypatch.delattr(SSL.Connection, name)
    client.tls.write(b"k")
    server.tls.dataReceived(client.take())
    assert server.app.data == b"k"
    server.tls.write(b"k" * SHORT)
    assert len(server.take()) > SHORT


def test_what_is_not_taken_is_tried_again_by_twisted(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was sealed of it by then goes first."""
    client, server = pair(own)
    seal = Connection.seal
    monkeypatch.setattr(Connection, "seal", lambda self, data: seal(self, data[:3]))
    client.tls.write(b"one two")
    pump(client, server)
    assert server.app.data == b"one two"


def test_a_connection_that_is_shut_seals_nothing(own: Any) -> None:
    client, _ = pair(own)
    client.tls._tlsConnection.shutdown()
    client.tls.write(b"k")
    assert client.line.disconnecting
    client.tls.connectionLost(Failure(connectionDone.value))
    assert "shutdown" in str(client.app.end)


def test_any_bytes_may_be_written(own: Any) -> None:
    client, server = pair(own)
    client.tls.write(bytearray(b"one "))
    client.tls.write(memoryview(b"two"))
    pump(client, server)
    assert server.app.data == b"one two"


@pytest.mark.parametrize("theirs", [Tls, TLSMemoryBIOProtocol])
def test_a_changed_record_ends_the_connection(own: Any, theirs: Any) -> None:
    client, server = pair(own, theirs=theirs)
    client.tls.write(b"rm -rf build")
    sealed = bytearray(client.take())
    sealed[-1] ^= 1
    server.tls.dataReceived(bytes(sealed))
    assert (server.app.data, server.line.disconnecting) == (b"", True)
    client.tls.write(b"more")
    server.tls.dataReceived(client.take())
    assert server.app.data == b""
    client.tls.dataReceived(server.take())
    for side, words in ((server, "bad record mac"), (client, "alert")):
        side.tls.connectionLost(Failure(connectionDone.value))
        assert words in str(side.app.end), "who reads the log learns why"


@pytest.mark.parametrize("theirs", [Tls, TLSMemoryBIOProtocol])
def test_a_record_that_was_seen_before_is_a_changed_one(own: Any, theirs: Any) -> None:
    client, server = pair(own, theirs=theirs)
    client.tls.write(b"k")
    sealed = client.take()
    server.tls.dataReceived(sealed)
    server.tls.dataReceived(sealed)
    assert (server.app.data, server.line.disconnecting) == (b"k", True)


def test_what_came_before_the_goodbye_is_heard_and_nothing_is_said_after_it(own: Any) -> None:
    client, server = pair(own)
    client.tls.write(b"last words")
    client.tls.loseConnection()
    client.tls.write(b"not sent")
    pump(client, server)
    assert server.app.data == b"last words"
    assert server.line.disconnecting
    assert client.line.disconnecting
    for side in (client, server):
        side.tls.connectionLost(Failure(connectionDone.value))
        side.tls.write(b"nobody is there")
        assert (side.take(), type(side.app.end)) == (b"", type(connectionDone.value))


def test_one_that_was_cut_hears_nothing_more(own: Any) -> None:
    client, server = pair(own)
    client.tls.write(b"k")
    server.tls.abortConnection()
    server.tls.dataReceived(client.take())
    assert server.app.data == b""


def test_words_before_the_handshake_wait_for_it(own: Any) -> None:
    client, server = Side(Anybody(), True, Tls), Side(ServerConnections(own), False, Tls)
    client.tls.write(b"early")
    pump(client, server)
    assert server.app.data == b"early"
