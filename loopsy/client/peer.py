"""The daemon's client to its peers: pooled connections, our key, errors as ours.

Twisted's Agent streams both ways by itself; see docs/decisions for why nothing is put on top of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from typing import Any, TypeVar

from attrs import evolve, field, frozen
from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from loopsy.client import heads
from loopsy.client.bodies import BytesBody
from loopsy.client.pins import ANY, PinnedConnections, connections
from loopsy.client.tls import Tls
from loopsy.errors import LoopsyError, PeerTimeout, PeerUnreachable, from_wire
from loopsy.wire import codec, urls
from loopsy.wire.peers import NodeIdentity
from loopsy.wire.status import Health

CONNECT_S = 5
IDLE_S = 50
"""Below the 60 s after which a daemon closes an idle connection, so that we never write into one being closed."""
ANSWER_S = 10.0
"""For small questions (health, handshake); forwarded requests may take as long as they like."""
CONNECTIONS = 64
"""Kept open to one peer."""
MAX_JSON = 4 * 1024 * 1024

T = TypeVar("T")


@frozen
class Target:
    """A peer's address and the key to present there."""

    address: str
    port: int
    key: str | None = field(default=None, repr=False)
    label: str = ""
    pin: str | None = None
    """Its certificate's fingerprint (then TLS), or None (then plain HTTP). A pinned peer is never asked in plain."""

    @property
    def origin(self) -> str:
        """``https://address:port``; an IPv6 address in brackets."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{'http' if self.pin is None else 'https'}://{host}:{self.port}"


@implementer(IStreamClientEndpoint)
@frozen
class _Secure:
    """Connections by another endpoint, within TLS."""

    endpoint: IStreamClientEndpoint
    tls: PinnedConnections

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Fires with the factory's protocol, once there is a connection; the handshake may still fail."""
        factory = TLSMemoryBIOFactory(self.tls, True, protocolFactory)
        factory.protocol = Tls
        connected: Deferred[Any] = self.endpoint.connect(factory)
        return connected.addCallback(lambda outer: outer.wrappedProtocol)


@implementer(IAgentEndpointFactory)
@frozen
class _Endpoints:
    """An address is connected to at once; HostnameEndpoint would wait 0.3 s to tell that it refuses."""

    reactor: Any
    tls: PinnedConnections | None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Where to connect for ``uri``, and how."""
        host = uri.host.decode("ascii").strip("[]")
        kind: Any = HostnameEndpoint
        if isIPAddress(host):
            kind = TCP4ClientEndpoint
        elif isIPv6Address(host):
            kind = TCP6ClientEndpoint
        endpoint: IStreamClientEndpoint = kind(self.reactor, host, uri.port, timeout=CONNECT_S)
        return endpoint if self.tls is None else _Secure(endpoint, self.tls)


class _Connections:
    """An Agent and its pool. One for each pin: a pool tells its connections apart by host and port only."""

    def __init__(self, reactor: Any, tls: PinnedConnections | None) -> None:
        self.pool = heads.pool(reactor)
        self.pool.maxPersistentPerHost = CONNECTIONS
        self.pool.cachedConnectionTimeout = IDLE_S
        self.agent: Agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor, tls), self.pool)


class PeerClient:
    """Requests to peers."""

    def __init__(self, reactor: Any) -> None:
        self._reactor: Any = reactor
        self._connections: dict[str | None, _Connections] = {None: _Connections(reactor, None)}

    def _agent_for(self, target: Target) -> Agent:
        found = self._connections.get(target.pin)
        if found is None:
            assert target.pin is not None
            found = _Connections(self._reactor, connections(target.pin, target.label or target.address))
            self._connections[target.pin] = found
        return found.agent

    def forget_others(self, pins: Collection[str]) -> None:
        """Close the connections under pins that hold no longer."""
        for pin in [pin for pin in self._connections if pin is not None and pin not in pins]:
            self._connections.pop(pin).pool.closeCachedConnections()

    async def fingerprint_of(self, address: str, port: int) -> str | None:
        """The fingerprint of the certificate shown at an address; None: it speaks plain HTTP.

        Nothing is proved by it: whoever wants to know more must bind it to something (pairing does).

        :raises PeerUnreachable: nobody listens there.
        """
        look = connections(ANY, f"{address}:{port}")
        agent = Agent.usingEndpointFactory(
            self._reactor, _Endpoints(self._reactor, look), heads.pool(self._reactor, False)
        )
        target = Target(address, port, pin=ANY)
        asked = Deferred.fromCoroutine(_first_answer(agent, f"{target.origin}{urls.HEALTH}"))
        timer = self._reactor.callLater(ANSWER_S, asked.cancel)
        try:
            await asked
        except Exception as error:
            if _nobody_there(error):
                raise unreachable(target, error) from None
        finally:
            if timer.active():
                timer.cancel()
        if look.seen.fingerprint is None:
            await self.health(Target(address, port))  # it must be one of ours in plain HTTP, then
        return look.seen.fingerprint

    async def request(
        self, target: Target, method: bytes, path: str, headers: Headers, body: IBodyProducer | None = None
    ) -> IResponse:
        """Send one request; returns once the answer's head is here.

        :raises PeerUnreachable: there was no connection, or it broke before the answer.
        """
        headers.setRawHeaders(b"user-agent", [b"loopsy"])
        if target.key is not None:
            headers.setRawHeaders(b"authorization", [b"Bearer " + target.key.encode()])
        try:
            url = f"{target.origin}{path}".encode()
            response: IResponse = await self._agent_for(target).request(method, url, headers, body)
        except Exception as error:
            raise unreachable(target, error) from None
        return response

    async def connect(self, target: Target, protocol: IProtocolFactory) -> Any:
        """A connection of one's own to a peer, pinned as all are; the factory's protocol.

        :raises PeerUnreachable: there is none. :raises PinMismatch: another one answered.
        """
        tls = None if target.pin is None else connections(target.pin, target.label or target.address)
        endpoint = _Endpoints(self._reactor, tls).endpointForURI(URI.fromBytes(target.origin.encode()))
        try:
            return await endpoint.connect(protocol)
        except Exception as error:
            raise unreachable(target, error) from None

    async def ask(self, target: Target, method: bytes, path: str, answer: type[T], value: object = None) -> T:
        """A small question and its JSON answer.

        :raises LoopsyError: the peer's own error. :raises PeerUnreachable: :raises PeerTimeout:
        """
        headers = Headers({b"accept": [b"application/json"]})
        body = None
        if value is not None:
            headers.setRawHeaders(b"content-type", [b"application/json"])
            body = BytesBody(codec.dump(value))
        asked = Deferred.fromCoroutine(self._ask(target, method, path, headers, body))
        timer = self._reactor.callLater(ANSWER_S, asked.cancel)
        try:
            status, parsed = await asked
        except Exception as error:
            if isinstance(error, LoopsyError) and timer.active():
                raise
            raise PeerTimeout(f"{target.label or target.origin} did not answer within {ANSWER_S:g} s") from error
        finally:
            if timer.active():
                timer.cancel()
        if status >= 400:
            raise from_wire(status, parsed)
        return codec.parse(answer, parsed)

    async def _ask(
        self, target: Target, method: bytes, path: str, headers: Headers, body: IBodyProducer | None
    ) -> tuple[int, object]:
        response = await self.request(target, method, path, headers, body)
        data = await collect(response, MAX_JSON)
        try:
            return response.code, json.loads(data)
        except ValueError:
            return response.code, None

    async def health(self, target: Target) -> Health:
        """Whether it is there, and its node id. No key is shown."""
        return await self.ask(evolve(target, key=None), b"GET", urls.HEALTH, Health)

    async def stranger(self, address: str, port: int) -> Health:
        """Whether a node is there, and which it says it is; by TLS with whatever certificate, or in plain. No key is
        shown, and nothing is proved.

        :raises PeerUnreachable: :raises PeerTimeout:
        """
        try:
            return await self.health(Target(address, port, pin=ANY))
        except PeerTimeout:
            raise
        except PeerUnreachable:
            return await self.health(Target(address, port))

    async def handshake(self, target: Target, own: NodeIdentity) -> NodeIdentity:
        """Say who we are and hear who it is."""
        return await self.ask(target, b"POST", urls.HANDSHAKE, NodeIdentity, own)

    def close(self) -> Deferred[None]:
        """Close what is pooled."""
        pools = [found.pool for found in self._connections.values()]
        return gatherResults([pool.closeCachedConnections() for pool in pools]).addCallback(lambda _: None)


async def _first_answer(agent: Agent, url: str) -> None:
    await collect(await agent.request(b"GET", url.encode()), MAX_JSON)


def unreachable(target: Target, error: Exception) -> LoopsyError:
    """Why there was no answer, in words."""
    reasons = getattr(error, "reasons", None)
    cause = reasons[0].value if reasons else error
    where = f"{target.label} ({target.address}:{target.port})" if target.label else f"{target.address}:{target.port}"
    if isinstance(cause, LoopsyError):
        return cause
    if _is_tls(error):
        return PeerUnreachable(f"{where} does not speak TLS as expected: {cause}", hint=TLS_HINT)
    if isinstance(cause, DNSLookupError):
        return PeerUnreachable(f"the name of {where} is not known to DNS")
    if isinstance(cause, ConnectTimeout):
        return PeerTimeout(f"{where} did not answer within {CONNECT_S:g} s", hint=REACH_HINT)
    if isinstance(cause, ConnectError):
        return PeerUnreachable(f"{where} can't be reached: {in_words(cause)}", hint=REACH_HINT)
    return PeerUnreachable(f"the connection to {where} broke: {str(cause).rstrip('.').lower() or type(cause).__name__}")


def _nobody_there(error: Exception) -> bool:
    """Whether there was not even a connection."""
    return isinstance(error, ConnectError | DNSLookupError)


def _is_tls(error: Exception) -> bool:
    """Whether TLS failed, rather than the network."""
    reasons = getattr(error, "reasons", None)
    return isinstance(reasons[0].value if reasons else error, SSL.Error)


TLS_HINT = "was TLS turned off there? A pinned peer is never asked in plain: turn it on, or pair again"


def in_words(error: ConnectError) -> str:
    """What the operating system said."""
    number = error.osError
    return os.strerror(number).lower() if isinstance(number, int) else str(error).rstrip(".").lower()


REACH_HINT = "is its daemon running there (loopsy status), and does a firewall let its port through?"


def cut(transport: Any) -> None:
    """Close an answer's connection at once. ``loseConnection`` would go on taking what comes through TLS until the peer
    says goodbye, which a bad one never does; the answer's own transport is a proxy that knows nothing better."""
    real = getattr(transport, "_producer", transport)
    if real is not None:
        real.abortConnection()


class _Collector(Protocol):
    def __init__(self, limit: int) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: cut(self.transport))
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._parts.append(data)
        else:
            cut(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return  # nobody waits any more
        if self._size > self._limit:
            self.done.errback(PeerUnreachable(f"the answer is larger than {self._limit} bytes"))
        elif reason.check(ResponseDone):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(PeerUnreachable("the connection broke in mid-answer"))


def collect(response: IResponse, limit: int) -> Deferred[bytes]:
    """The whole body of an answer. Cancelling it cuts the connection.

    :raises PeerUnreachable: it is larger than ``limit``, or was cut.
    """
    collector = _Collector(limit)
    response.deliverBody(collector)
    return collector.done
