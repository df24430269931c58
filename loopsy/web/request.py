"""A request on its way through the edge.

Twisted reads the whole body before it asks a resource. Here the head decides first (``gotLength``): who calls, whether
they may, and where the body goes: into memory for JSON, up to a limit, or on to the route's function as it comes.
"""

from __future__ import annotations

import itertools
import os
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server

from loopsy.core import principals
from loopsy.core.principals import STRANGER, Principal
from loopsy.errors import BodyTooLarge, InternalError, InvalidRequest, LoopsyError, RequestTooSlow
from loopsy.services.clock import now_ms
from loopsy.web import callers
from loopsy.web.bodies import BodyStream, BufferedBody
from loopsy.web.edge import Admission, Edge
from loopsy.web.routes import ANSWERED, Call, Raw
from loopsy.wire import codec

DRAIN_BYTES, DRAIN_S = 64 * 1024 * 1024, 5.0
"""Of a refused body so much is read and thrown away: closing at once would take the answer from the sender's hands."""
SMALL = 64 * 1024
BODY_S = 30.0
"""A body for memory has at most some MiB: who takes longer to send it holds it back."""
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
"""Twisted's own table lacks the newer ones (421, 426, 431)."""
REQUEST_ID = b"x-request-id"
MAX_ID = 128
SECURITY = {
    b"x-content-type-options": [b"nosniff"],
    b"cache-control": [b"no-store"],
    b"content-security-policy": [b"default-src 'none'; frame-ancestors 'none'; sandbox"],
}
HEAD = (
    b"HTTP/1.1 %d %s\r\ndate: %s\r\ncontent-type: application/json\r\nx-request-id: %s\r\n%scontent-length: %d\r\n\r\n"
)
SECURITY_LINES = b"".join(b"%s: %s\r\n" % (name, value) for name, values in SECURITY.items() for value in values)


class _Date:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second, self._text = 0, b""

    def now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True).encode()
        return self._text


DATE = _Date()
_RUN, _NUMBERS = os.urandom(6).hex(), itertools.count(1)


def next_id() -> str:
    """A request id: random for each run of the daemon, counted within it."""
    return f"{_RUN}-{next(_NUMBERS):x}"


class EdgeRequest(server.Request):
    """One request and its answer."""

    _log = Logger()
    channel: Any

    def __init__(self, channel: Any, queued: Any = None) -> None:
        super().__init__(channel)
        self.edge: Edge = channel.site.edge
        self.principal: Principal = STRANGER
        self.request_id = ""
        self.bytes_in = 0
        self._admission: Admission | None = None
        self._refusal: LoopsyError | None = None
        self._call: Call[Any] | None = None
        self._sink: BufferedBody | BodyStream | None = None
        self._arrived = time.monotonic()
        self._body_is_here = False
        self._finish_wanted = False
        self._left_to_drain = DRAIN_BYTES
        self._linger: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self._audited = False
        self._error_code: int | None = None

    # -- the head ---------------------------------------------------------------------------------------------------
    def gotLength(self, length: int | None) -> None:
        """The head is here. ``length`` is the body's, None when it comes in chunks."""
        self._arrived = time.monotonic()
        channel = self.channel
        self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version
        self.path = self.uri.partition(b"?")[0]
        self.request_id = self._given_id() or next_id()
        try:
            self._admit(length)
        except LoopsyError as error:
            self._refuse(error, length)
        except Exception:
            self._refuse(self._bug(Failure()), length)

    def _admit(self, length: int | None) -> None:
        self.edge.check_host(self.getHeader(b"host"))
        callers.check_site(self)
        self.principal = callers.identify(self)
        admission = self.edge.admit(self.method, self.path, self.principal, lambda: self.getHeader(b"content-type"))
        self._admission = admission
        route = admission.match.bound.route
        if route.takes is Raw and not self._is_json():
            self._sink = BodyStream(self, length)
            self._start(self._sink)
        else:
            limit = route.body_limit or self.channel.site.json_limit
            if length is not None and length > limit:
                raise BodyTooLarge(f"the body has {length} bytes; at most {limit} are taken here")
            self._sink = BufferedBody(limit)
            if length != 0:
                self._deadline = self.channel.callLater(BODY_S, self._too_slow)

    def _too_slow(self) -> None:
        """The body did not come in time."""
        if self._refusal is None:
            self._refuse(RequestTooSlow(f"the body did not come within {BODY_S:g} seconds"), None)
        else:
            self.cut()

    def _is_json(self) -> bool:
        kind = self.getHeader(b"content-type") or b"application/json"
        return kind.split(b";")[0].strip().lower() == b"application/json"

    def _given_id(self) -> str:
        given = self.getHeader(REQUEST_ID)
        text = given.decode("ascii", "replace") if given else ""
        return text if len(text) <= MAX_ID and text.isprintable() and text.isascii() else ""

    def header(self, name: bytes) -> str | None:
        """A header's text, None where there is none."""
        value = self.getHeader(name)
        return None if value is None else value.decode("utf-8", "replace")

    @property
    def wants_websocket(self) -> bool:
        """Whether it is a WebSocket's handshake."""
        return (self.getHeader(b"upgrade") or b"").lower() == b"websocket"

    def query(self, name: str) -> str | None:
        """A query parameter, None where there is none.

        :raises InvalidRequest: the query is not UTF-8.
        """
        query = self.uri.partition(b"?")[2]
        if not query:
            return None
        try:
            values = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
        except ValueError:
            raise InvalidRequest("the query can't be read: it must be percent-encoded UTF-8") from None
        return values[name][-1] if name in values else None

    # -- the body ---------------------------------------------------------------------------------------------------
    def handleContentChunk(self, data: bytes) -> None:
        """Some of the body."""
        self.bytes_in += len(data)
        if self._refusal is not None:
            self._drain(data)
            return
        try:
            if self._sink is not None:
                self._sink.data(data)
        except LoopsyError as error:
            self._refuse(error, None)

    def _drain(self, data: bytes) -> None:
        self._left_to_drain -= len(data)
        if self._left_to_drain < 0:
            self.cut()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The whole body is here."""
        self._body_is_here = True
        self._stop_timers()
        if self._refusal is not None:
            if self.startedWriting:
                self._finish_now()
            else:
                self._send_error(self._refusal)
        elif isinstance(self._sink, BodyStream):
            self._sink.end()
            if self._finish_wanted:
                self._finish_now()
        elif isinstance(self._sink, BufferedBody):
            self._start_with(self._sink.value())

    def _start_with(self, data: bytes) -> None:
        assert self._admission is not None  # a refused request does not get here
        takes = self._admission.match.bound.route.takes
        try:
            body = data if takes in (None, Raw) else codec.parse_bytes(takes, data)
        except LoopsyError as error:
            self._send_error(error)
            return
        self._start(body)

    # -- the answer -------------------------------------------------------------------------------------------------
    def _start(self, body: Any) -> None:
        assert self._admission is not None
        match = self._admission.match
        self._call = Call(principal=self.principal, body=body, request=self)
        try:
            result = match.bound(self._call, match.parameters)
        except Exception:
            self._failed(Failure())
            return
        if isinstance(result, Deferred):
            result.addCallbacks(self._answer, self._failed).addErrback(self._bug)
        else:
            self._answer(result)

    def _answer(self, result: object) -> None:
        if result is ANSWERED or self._disconnected:
            return
        assert self._admission is not None
        self.send_json(self._admission.match.bound.route.status, codec.dump(result))

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, LoopsyError):
            error = self._bug(failure)
        if self.startedWriting or self._disconnected:
            self.cut()
        else:
            self._send_error(error)

    def _bug(self, failure: Failure) -> LoopsyError:
        self._log.failure("{method} {path} failed", failure, method=self.method, path=self.path)
        return InternalError()

    def _refuse(self, error: LoopsyError, length: int | None) -> None:
        """Answer before the body is read. A small one is awaited, so that the connection can be used again."""
        self._refusal = error
        if isinstance(self._sink, BodyStream):
            self._sink.lost()
        if length is not None and length <= SMALL:
            self._linger = self.channel.callLater(BODY_S, self.cut)
            return
        self.channel.persistent = False
        self.requestHeaders.removeHeader(b"expect")
        if not self.startedWriting:
            self.responseHeaders.setRawHeaders(b"connection", [b"close"])
            self._write_error(error)
        self._linger = self.channel.callLater(DRAIN_S, self.cut)

    def _stop_timers(self) -> None:
        for timer in (self._linger, self._deadline):
            if timer is not None and timer.active():
                timer.cancel()
        self._linger = self._deadline = None

    def _send_error(self, error: LoopsyError) -> None:
        self._write_error(error)
        self.finish()

    def _write_error(self, error: LoopsyError) -> None:
        self._error_code = error.code
        if error.retry_after is not None:
            self.responseHeaders.setRawHeaders(b"retry-after", [b"%d" % error.retry_after])
        if error.status == 405 and isinstance(error.details.get("allow"), str):
            self.responseHeaders.setRawHeaders(b"allow", [error.details["allow"].encode()])
        if error.status == 401:
            self.responseHeaders.setRawHeaders(b"www-authenticate", [b"Bearer"])
        self._write_json(error.status, codec.dump(error.body()))

    def send_json(self, status: int, body: bytes) -> None:
        """Answer with JSON."""
        if self.method == b"HEAD" or next(self.responseHeaders.getAllRawHeaders(), None) is not None:
            self._write_json(status, body)
        else:
            self._write_whole(status, body)
        self.finish()

    def _write_whole(self, status: int, body: bytes) -> None:
        """The common answer in one piece: building a Headers object and taking it apart costs as much as the rest."""
        self.setResponseCode(status, REASONS.get(status))
        self.startedWriting = 1
        self.sentLength = len(body)
        values = (status, self.code_message, DATE.now(), self.request_id.encode(), SECURITY_LINES, len(body))
        self.channel.write(HEAD % values + body)

    def _write_json(self, status: int, body: bytes) -> None:
        self.begin(status, b"application/json", len(body))
        self.write(body)

    def begin(self, status: int, content_type: bytes, length: int | None = None) -> None:
        """Set the head; it leaves with the first ``write``."""
        self.setResponseCode(status, REASONS.get(status))
        headers = self.responseHeaders
        headers.setRawHeaders(b"date", [DATE.now()])
        headers.setRawHeaders(b"content-type", [content_type])
        headers.setRawHeaders(REQUEST_ID, [self.request_id.encode()])
        for name, values in SECURITY.items():
            headers.setRawHeaders(name, values)
        if length is not None:
            headers.setRawHeaders(b"content-length", [b"%d" % length])

    def upgraded(self, protocol: Any, answer: bytes) -> None:
        """The connection changes its protocol: ``answer`` is the last that is said in HTTP, and ``protocol`` gets all
        that comes (``dataReceived``) and the end. The request lasts as long, so a lost key cuts it like any other."""
        self.setResponseCode(101)
        self.startedWriting = 1
        self.channel.upgrade(protocol)
        self.channel.transport.write(answer)

    def finish(self) -> None:
        """The answer is complete. While the body still comes, the connection waits for its end."""
        if self._disconnected or self.finished:
            return
        if self._body_is_here:
            self._finish_now()
            return
        self._finish_wanted = True
        self.channel.persistent = False
        if self._linger is None:
            self._linger = self.channel.callLater(DRAIN_S, self.cut)
        if isinstance(self._sink, BodyStream):
            self._sink.discard()

    def _finish_now(self) -> None:
        self._audit()
        super().finish()

    @property
    def is_gone(self) -> bool:
        """Whether the client went away."""
        return bool(self._disconnected)

    def recheck(self) -> None:
        """Keys or scopes changed: a request of somebody who would no longer be let in is cut."""
        if self._admission is not None:
            try:
                principals.check(callers.identify(self), self._admission.match.bound.route.access)
            except LoopsyError:
                self.cut()

    def cut(self) -> None:
        """Break the connection: a half-sent answer must not look whole."""
        if not self._disconnected:
            self.channel.abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The client went away. Whoever waits for its body hears of it when nothing can be answered any more."""
        self._stop_timers()
        super().connectionLost(reason)
        if isinstance(self._sink, BodyStream):
            self._sink.lost()
        self._audit()

    # -- the audit line ---------------------------------------------------------------------------------------------
    def _audit(self) -> None:
        if self._audited:
            return
        self._audited = True
        record: dict[str, Any] = {
            "time": now_ms(),
            "request": self.request_id,
            "who": self.principal.name,
            "from": getattr(self.client, "host", ""),
            "method": (self.method or b"-").decode("latin-1"),
            "path": (self.path or b"-").decode("latin-1"),  # "-": its head never came to an end
            "status": 499 if self._disconnected and not self.finished and self.code != 101 else self.code,
            "ms": round((time.monotonic() - self._arrived) * 1000, 1),
            "in": self.bytes_in,
            "out": self.sentLength,
        }
        if self._error_code is not None:
            record["code"] = self._error_code
        hint = self.getHeader(b"x-loopsy-node-id")
        if hint is not None:
            record["claims"] = hint.decode("latin-1")[:MAX_ID]
        if self._call is not None and self._call.noted:
            record["what"] = self._call.noted
        rule = None if self._admission is None else self._admission.match.bound.route.rule
        took = time.monotonic() - self._arrived
        self.edge.tally.add(record["method"], rule, record["status"], took, self.bytes_in, self.sentLength)
        self.edge.records.record(record)
