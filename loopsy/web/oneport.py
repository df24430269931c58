"""One port for TLS and plain HTTP: a TLS connection begins with the byte 0x16, an HTTP request never does.

Once TLS is on, plain HTTP is for this machine's own clients, on loopback; from anywhere else it is answered with 426.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from loopsy.client.tls import Tls
from loopsy.core.hosts import is_loopback
from loopsy.errors import TlsNeeded
from loopsy.web.site import Site
from loopsy.wire import codec

HANDSHAKE = b"\x16"
NO_TLS = bytes.fromhex("15030100020246")
"""A TLS alert: fatal, protocol version."""
CONNECTIONS = 512
"""From one address: far more than any honest neighbour opens, and few enough that one can't use up our descriptors."""
SILENT_S = 10
"""Who connects and says nothing for so long is not coming."""


class OnePort(Factory):
    """Tells each connection's protocol by its first byte."""

    noisy = False

    def __init__(self, site: Site, connections: Any | None) -> None:
        """``connections``: makes the TLS side of those that come in; None while TLS is off."""
        self.site = site
        self._open: Counter[str] = Counter()
        self.secure = None if connections is None else TLSMemoryBIOFactory(connections, False, site)
        if self.secure is not None:
            self.secure.protocol = Tls

    def doStart(self) -> None:
        """The site starts with us."""
        super().doStart()
        self.site.doStart()

    def doStop(self) -> None:
        """The site stops with us."""
        super().doStop()
        self.site.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """A protocol that waits for the first byte; None (the connection is closed) for one too many."""
        host = getattr(addr, "host", "")
        if self._open[host] >= CONNECTIONS:
            return None
        self._open[host] += 1
        return FirstByte(self, addr)

    def closed(self, host: str) -> None:
        """A connection from ``host`` is gone."""
        self._open[host] -= 1
        if self._open[host] <= 0:
            del self._open[host]


class FirstByte(Protocol):
    """Waits for the first byte, then hands the connection over."""

    def __init__(self, ports: OnePort, address: IAddress | None) -> None:
        self._ports = ports
        self._address = address
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait, but not for long."""
        transport: Any = self.transport
        self._timer = self._ports.site.reactor.callLater(SILENT_S, transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It left without a word, or was refused."""
        self._stop_timer()
        self._ports.closed(getattr(self._address, "host", ""))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def dataReceived(self, data: bytes) -> None:
        """The first byte decides."""
        self._stop_timer()
        secure = self._ports.secure
        if data[:1] == HANDSHAKE:
            self._shake_hands(data)
        elif secure is None or is_loopback(getattr(self._address, "host", "")):
            self._hand_over(self._ports.site, data)
        else:
            self._refuse()

    def _shake_hands(self, data: bytes) -> None:
        """Where TLS is off it is told so at once: as HTTP, such bytes would be waited upon for more of them."""
        transport: Any = self.transport
        if self._ports.secure is None:
            transport.write(NO_TLS)
            transport.loseConnection()
        else:
            self._hand_over(self._ports.secure, data)

    def _hand_over(self, factory: Any, data: bytes) -> None:
        transport: Any = self.transport
        real = factory.buildProtocol(self._address)
        lost = real.connectionLost  # not by a wrapping protocol: that would cost every byte that passes
        host = getattr(self._address, "host", "")

        def counted(*reason: Any) -> None:
            self._ports.closed(host)
            lost(*reason)

        real.connectionLost = counted
        transport.protocol = real
        real.makeConnection(transport)
        real.dataReceived(data)

    def _refuse(self) -> None:
        body = codec.dump(TlsNeeded().body())
        transport: Any = self.transport
        transport.write(
            b"HTTP/1.1 426 Upgrade Required\r\nupgrade: TLS/1.2\r\nconnection: upgrade, close\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        transport.loseConnection()
