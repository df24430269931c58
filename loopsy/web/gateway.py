"""The gateway: ``/api/v1/peers/<peer>/…`` is ``/api/v1/…`` of another machine. One streaming forwarder for all of it.

Only this machine's own key may use it, so a peer can't hop through here to a third, and what it forwards to is never
itself a gateway address.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

from loopsy.client.bodies import BytesBody
from loopsy.client.peer import Target, cut
from loopsy.core.peers import Record
from loopsy.core.principals import LocalOnly
from loopsy.errors import Forbidden, LoopsyError, PeerNotFound, PeerOffline
from loopsy.services.daemon import Daemon
from loopsy.web.bodies import BodyStream
from loopsy.web.execution import JOB_ID, NOTED
from loopsy.web.outcomes import Ends
from loopsy.web.request import MAX_ID, REQUEST_ID, EdgeRequest
from loopsy.web.routes import ANSWERED, Answered, Call, Raw, Routes
from loopsy.web.tunnel import dig
from loopsy.wire import urls
from loopsy.wire.peers import OFFLINE
from loopsy.wire.transfer import FILE_SIZE, TICKET

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PEER_KEY = b"x-loopsy-peer-key"
"""A key to present this once, instead of the one on file."""
FORWARDED = (b"content-type", b"accept", b"range", b"if-range", b"if-none-match", b"last-event-id", b"content-range",
             b"tus-resumable", b"upload-length", b"upload-offset", b"upload-metadata", b"upload-checksum",
             b"upload-defer-length", TICKET)  # fmt: skip
RETURNED = (b"content-type", b"content-disposition", b"content-range", b"accept-ranges", b"etag", b"last-modified",
            b"retry-after", b"allow", b"tus-resumable", b"tus-version", b"tus-extension", b"tus-max-size",
            b"tus-checksum-algorithm", b"upload-offset", b"upload-length", b"upload-expires", JOB_ID)  # fmt: skip
OURS = b"x-loopsy-"
PEER_DATE = b"x-loopsy-peer-date"
"""What the peer's clock says: ``date`` is ours."""
RUNS = ("execute", "execute/stream")
"""Whose answers tell how a command ended."""


@frozen(eq=False)
class GatewayArea:
    """Other machines, through this one."""

    daemon: Daemon
    routes = Routes()

    @routes.declare(METHODS, urls.GATEWAY, access=LocalOnly(), takes=Raw)
    async def forward(self, call: Call[BodyStream | bytes], peer: str, rest: str) -> Answered:
        """The same address of another machine."""
        if rest.startswith("peers/") and rest != "peers/handshake":
            raise Forbidden("a gateway address leads to one machine, not through it to another")
        record, target = self._target(peer, call.request.header(PEER_KEY))
        call.note(peer=record.label if record else peer, **described(rest, call.body))
        forwarding = Forwarding(call.request)
        try:
            if call.request.wants_websocket:
                await dig(call.request, self.daemon.peers.client, target, address(call.request, rest))
                return ANSWERED
            response = await forwarding.send(self.daemon, target, call, rest)
        except CancelledError:
            return ANSWERED
        except LoopsyError as error:
            raise offline(record, error) from None
        if record is not None:
            self.daemon.peers.answered(record)
        forwarding.answer(response, peer, call if rest in RUNS else None)
        return ANSWERED

    def _target(self, peer: str, key: str | None) -> tuple[Record | None, Target]:
        try:
            record = self.daemon.peers.resolve(peer)
        except PeerNotFound:
            if key is None:
                raise
            return None, at_address(peer, key)
        if key is not None:
            return record, evolve(self.daemon.peers.target(record), key=key)
        return record, self.daemon.peers.keyed(record)


def at_address(text: str, key: str) -> Target:
    """A machine that isn't in the book, by ``address:port``.

    :raises PeerNotFound: the text is no such thing.
    """
    address, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise PeerNotFound(f"no peer is called {text!r}", hint="one that isn't in the book is named address:port")
    return Target(address.strip("[]"), int(port), key, text)


def address(request: EdgeRequest, rest: str) -> str:
    """The address there, with the query of here."""
    query = request.uri.partition(b"?")[2].decode("ascii", "replace")
    return f"{urls.BASE}/{rest}" + (f"?{query}" if query else "")


def offline(record: Record | None, error: LoopsyError) -> LoopsyError:
    """The same failure of a peer that has been away for a while."""
    if record is not None and record.status == OFFLINE and error.code == 2003:
        return PeerOffline(f"{record.label} is offline: {error.message}", hint=error.hint)
    return error


def described(rest: str, body: BodyStream | bytes) -> dict[str, Any]:
    """For our own audit line: the command that a small JSON body asks for."""
    what: dict[str, Any] = {"path": f"/{rest}"}
    if isinstance(body, bytes) and rest.startswith("execute"):
        try:
            asked = json.loads(body)
            what["command"] = shlex.join([asked["command"], *asked.get("args", [])])[:NOTED]
        except (ValueError, TypeError, KeyError, AttributeError):
            pass  # the peer will say what is wrong with it
    return what


class Forwarding:
    """One request on its way to a peer, and the answer on its way back."""

    def __init__(self, request: EdgeRequest) -> None:
        self._request = request
        self._sending: Deferred[IResponse] | None = None
        self._returning: Returning | None = None
        request.notifyFinish().addErrback(self._client_left)

    def send(self, daemon: Daemon, target: Target, call: Call[BodyStream | bytes], rest: str) -> Deferred[IResponse]:
        """Send the request on."""
        headers = Headers({REQUEST_ID: [self._request.request_id.encode()]})
        for name in FORWARDED:
            values = self._request.requestHeaders.getRawHeaders(name)
            if values:
                headers.setRawHeaders(name, values)
        path = address(self._request, rest)
        body = BytesBody(call.body) if isinstance(call.body, bytes) else call.body
        has_body = not isinstance(call.body, bytes) or call.body or self._request.method in (b"POST", b"PUT", b"PATCH")
        self._sending = Deferred.fromCoroutine(
            daemon.peers.client.request(target, self._request.method, path, headers, body if has_body else None)
        )
        return self._sending

    def answer(self, response: IResponse, peer: str, run: Call[Any] | None) -> None:
        """Send the answer back as it comes. What the peer has at an address of its own is reached through us. Of a
        ``run`` our audit line tells how it ended."""
        request = self._request
        for name, values in response.headers.getAllRawHeaders():
            if name.lower() in RETURNED or name.lower().startswith(OURS):
                request.responseHeaders.setRawHeaders(name, values)
        request.responseHeaders.setRawHeaders(PEER_DATE, response.headers.getRawHeaders(b"date") or [])
        for location in response.headers.getRawHeaders(b"location") or ():
            if location.startswith(f"{urls.BASE}/".encode()):
                request.responseHeaders.setRawHeaders(b"location", [urls.on_peer(location.decode("latin-1"), peer)])
        kind = (response.headers.getRawHeaders(b"content-type") or [b"application/octet-stream"])[0]
        request.begin(response.code, kind, self._length(response))
        request.write(b"")
        job = response.headers.getRawHeaders(JOB_ID)
        if run is not None and job:
            run.note(job=job[0].decode("latin-1")[:MAX_ID])
        self._returning = Returning(request) if run is None else ReturningRun(request, run, kind)
        response.deliverBody(self._returning)

    def _length(self, response: IResponse) -> int | None:
        """Of a HEAD's answer Agent tells no length; a file's size is also in a header of ours."""
        if self._request.method == b"HEAD":
            size = (response.headers.getRawHeaders(FILE_SIZE) or [b""])[0]
            return int(size) if size.isdigit() else None
        return None if response.length is UNKNOWN_LENGTH else int(response.length)

    def _client_left(self, _: Failure) -> None:
        if self._returning is not None:
            self._returning.stopProducing()
        elif self._sending is not None:
            self._sending.cancel()


@implementer(IPushProducer)
class Returning(Protocol):
    """The answer's body: from the peer's connection to the client's, no faster than the client takes it."""

    def __init__(self, request: EdgeRequest) -> None:
        self._request = request

    def connectionMade(self) -> None:
        """The peer's connection is the producer of the client's."""
        self._request.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Hand on."""
        self._request.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, or a cut, which the client must be able to tell from an end."""
        if self._request.is_gone:
            return
        self._request.unregisterProducer()
        if reason.check(ResponseDone):
            self._request.finish()
        else:
            self._request.cut()

    def pauseProducing(self) -> None:
        """The client is slow."""
        assert self.transport is not None
        self.transport.pauseProducing()  # type: ignore[attr-defined]

    def resumeProducing(self) -> None:
        """The client takes more."""
        assert self.transport is not None
        self.transport.resumeProducing()  # type: ignore[attr-defined]

    def stopProducing(self) -> None:
        """The client left: so does the peer's connection, which ends what runs there."""
        cut(self.transport)


class ReturningRun(Returning):
    """The same for the answer of a command."""

    def __init__(self, request: EdgeRequest, call: Call[Any], content_type: bytes) -> None:
        super().__init__(request)
        self._call, self._content_type = call, content_type
        self._ends = Ends()

    def dataReceived(self, data: bytes) -> None:
        """Hand on."""
        self._ends.add(data)
        self._request.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note the outcome before the line is written."""
        if reason.check(ResponseDone):
            self._call.note(**self._ends.outcome(self._content_type))
        super().connectionLost(reason)
