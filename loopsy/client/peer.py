"""The daemon's client to its peers: pooled connections, our key, errors as ours.

Twisted's Agent streams both ways by itself; see docs/decisions for why nothing is put on top of it.
"""

from __future__ import annotations

import json
import os
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone, _HTTP11ClientFactory
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from loopsy.client.bodies import BytesBody
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
    key: str | None = None
    label: str = ""

    @property
    def origin(self) -> str:
        """``http://address:port``; an IPv6 address in brackets."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"


class _Quiet(_HTTP11ClientFactory):
    noisy = False


@implementer(IAgentEndpointFactory)
@frozen
class _Endpoints:
    """An address is connected to at once; HostnameEndpoint would wait 0.3 s to tell that it refuses."""

    reactor: Any

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Where to connect for ``uri``."""
        host = uri.host.decode("ascii").strip("[]")
        kind: Any = HostnameEndpoint
        if isIPAddress(host):
            kind = TCP4ClientEndpoint
        elif isIPv6Address(host):
            kind = TCP6ClientEndpoint
        endpoint: IStreamClientEndpoint = kind(self.reactor, host, uri.port, timeout=CONNECT_S)
        return endpoint


class PeerClient:
    """Requests to peers."""

    def __init__(self, reactor: Any) -> None:
        self._reactor: IReactorTime = reactor
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = CONNECTIONS
        self._pool.cachedConnectionTimeout = IDLE_S
        self._pool._factory = _Quiet  # a line in the log for each connection tells nobody anything
        self._agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor), self._pool)

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
            response: IResponse = await self._agent.request(method, f"{target.origin}{path}".encode(), headers, body)
        except Exception as error:
            raise unreachable(target, error) from None
        return response

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
        except LoopsyError:
            raise
        except Exception as error:
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
        return await self.ask(Target(target.address, target.port, None, target.label), b"GET", urls.HEALTH, Health)

    async def handshake(self, target: Target, own: NodeIdentity) -> NodeIdentity:
        """Say who we are and hear who it is."""
        return await self.ask(target, b"POST", urls.HANDSHAKE, NodeIdentity, own)

    def close(self) -> Deferred[None]:
        """Close what is pooled."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed


def unreachable(target: Target, error: Exception) -> LoopsyError:
    """Why there was no answer, in words."""
    reasons = getattr(error, "reasons", None)
    cause = reasons[0].value if reasons else error
    where = f"{target.label} ({target.address}:{target.port})" if target.label else f"{target.address}:{target.port}"
    if isinstance(cause, LoopsyError):
        return cause
    if isinstance(cause, DNSLookupError):
        return PeerUnreachable(f"the name of {where} is not known to DNS")
    if isinstance(cause, ConnectTimeout):
        return PeerTimeout(f"{where} did not answer within {CONNECT_S:g} s", hint=REACH_HINT)
    if isinstance(cause, ConnectError):
        return PeerUnreachable(f"{where} can't be reached: {in_words(cause)}", hint=REACH_HINT)
    return PeerUnreachable(f"the connection to {where} broke: {str(cause).rstrip('.').lower() or type(cause).__name__}")


def in_words(error: ConnectError) -> str:
    """What the operating system said."""
    number = error.osError
    return os.strerror(number).lower() if isinstance(number, int) else str(error).rstrip(".").lower()


REACH_HINT = "is its daemon running there (loopsy status), and does a firewall let its port through?"


class _Collector(Protocol):
    def __init__(self, done: Deferred[bytes], limit: int) -> None:
        self._done, self._limit = done, limit
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        self._parts.append(data)
        if self._size > self._limit and self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._size > self._limit:
            self._done.errback(PeerUnreachable(f"the answer is larger than {self._limit} bytes"))
        elif reason.check(ResponseDone):
            self._done.callback(b"".join(self._parts))
        else:
            self._done.errback(PeerUnreachable("the connection broke in mid-answer"))


def collect(response: IResponse, limit: int) -> Deferred[bytes]:
    """The whole body of an answer.

    :raises PeerUnreachable: it is larger than ``limit``, or was cut.
    """
    done: Deferred[bytes] = Deferred()
    response.deliverBody(_Collector(done, limit))
    return done
