"""Files and trees over HTTP (docs/protocol/transfer.md)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from itertools import chain
from typing import Any
from urllib.parse import quote

from attrs import frozen
from twisted.internet.defer import Deferred

from loopsy.core import ranges
from loopsy.core.principals import Scope, Scoped
from loopsy.core.rates import Category
from loopsy.errors import InvalidRequest, RangeUnsatisfiable, WrongContentType
from loopsy.services.daemon import Daemon
from loopsy.services.intake import Intake
from loopsy.services.transfer import Incoming, Sendable
from loopsy.web.bodies import BodyStream
from loopsy.web.multipart import Form, boundary
from loopsy.web.routes import ANSWERED, Answered, Call, Raw, Routes
from loopsy.web.streams import Fed, Sent
from loopsy.wire import entries, urls
from loopsy.wire.transfer import (
    CHECKSUM,
    FILE_SIZE,
    MODE,
    MTIME,
    TICKET,
    Applied,
    FetchRequest,
    FileList,
    ListRequest,
    ManifestRequest,
    PullRequest,
    Pushed,
)

ACCESS = Scoped(Scope.TRANSFER)
FRAMING = 64 * 1024
"""Of a multipart body so much may be boundaries, headers and fields."""
OCTETS = b"application/octet-stream"


def count(daemon: Daemon, call: Call[Any]) -> None:
    """Count one transfer, unless the request belongs to one that was counted.

    :raises RateLimited:
    """
    if not daemon.transfer.tickets.holds(call.principal, call.request.header(TICKET)):
        call.request.edge.count(call.principal, Category.TRANSFER)


def needed(call: Call[Any], name: str) -> str:
    """A query parameter that must be there.

    :raises InvalidRequest: it isn't.
    """
    value = call.query(name)
    if not value:
        raise InvalidRequest(f"the query needs ?{name}=")
    return value


@frozen(eq=False)
class TransferArea:
    """Files."""

    daemon: Daemon
    routes = Routes()

    # -- whole files ------------------------------------------------------------------------------------------------
    @routes.declare("POST", urls.TRANSFER_PUSH, access=ACCESS, takes=Raw, answers=Pushed)
    async def push(self, call: Call[BodyStream | bytes]) -> Pushed:
        """Write a file: multipart/form-data with destPath, perhaps checksum, and the file, in any order."""
        count(self.daemon, call)
        transfer, body, started = self.daemon.transfer, call.body, time.monotonic()
        if isinstance(body, bytes):
            raise WrongContentType("a push is multipart/form-data")
        length = body.length if isinstance(body.length, int) else None
        incoming = Incoming(transfer, call.principal, expected=length)
        intake = Intake(transfer.in_background, incoming.write)
        form = Form(boundary(call.request.header(b"content-type")), incoming, intake)
        form.check_length(length, transfer.max_file_size + FRAMING)
        try:
            await intake.take(body, form)
            form.end()
            call.note(file=(incoming.path or "")[:4096], bytes=incoming.part.size if incoming.part else 0)
            return await transfer.in_thread(incoming.publish, started)  # type: ignore[no-any-return]
        finally:
            await transfer.in_thread(incoming.close)

    @routes.declare("POST", urls.TRANSFER_PULL, access=ACCESS, takes=PullRequest)
    async def pull(self, call: Call[PullRequest]) -> Answered:
        """Read a file."""
        count(self.daemon, call)
        return await self._send(call, call.body.source_path, attached=True)

    @routes.declare(("GET", "HEAD"), urls.TRANSFER_FILE, access=ACCESS)
    async def file(self, call: Call[None]) -> Answered:
        """Read the file at ?path=, or a range of it."""
        if call.request.method == b"GET":
            count(self.daemon, call)
        return await self._send(call, needed(call, "path"))

    async def _send(self, call: Call[Any], path: str, *, attached: bool = False) -> Answered:
        call.note(file=path[:4096])
        transfer = self.daemon.transfer
        file: Sendable = await transfer.in_thread(transfer.open_now, call.principal, path)
        try:
            checksum = transfer.known_checksum(file.status)
            if checksum is None and call.query("checksum") == "1":
                checksum = await transfer.in_background(file.digest)
                transfer.remember(file.status, checksum)
            span = describe(call, file, checksum, attached=attached)
        except BaseException:
            file.close()
            raise
        request = call.request
        if request.is_gone or span is None or request.method == b"HEAD" or span[0] == span[1]:
            file.close()
            request.finish()
        else:
            Sent(request, file, span, transfer.in_thread)
        return ANSWERED

    # -- directories and trees ----------------------------------------------------------------------------------------
    @routes.declare("POST", urls.TRANSFER_LIST, access=ACCESS, takes=ListRequest, answers=FileList)
    async def list(self, call: Call[ListRequest]) -> Answered:
        """What is in a directory, by name."""
        call.note(file=call.body.path[:4096])
        transfer = self.daemon.transfer
        pieces = await transfer.in_thread(transfer.list_now, call.principal, call.body.path)
        return await self._feed(call, pieces, b"application/json")

    @routes.declare("POST", urls.TRANSFER_MANIFEST, access=ACCESS, rate=Category.TRANSFER, takes=ManifestRequest)
    async def manifest(self, call: Call[ManifestRequest]) -> Answered:
        """The tree at a path, as NDJSON, parents before children."""
        call.note(file=call.body.path[:4096])
        transfer = self.daemon.transfer
        call.request.responseHeaders.setRawHeaders(TICKET, [transfer.tickets.give(call.principal).encode()])
        pieces = await transfer.in_thread(transfer.manifest_now, call.principal, call.body)
        return await self._feed(call, pieces, entries.NDJSON.encode())

    @routes.declare("POST", urls.TRANSFER_FETCH, access=ACCESS, takes=FetchRequest)
    async def fetch(self, call: Call[FetchRequest]) -> Answered:
        """Many small files in one stream."""
        count(self.daemon, call)
        call.note(file=call.body.path[:4096], files=len(call.body.paths))
        transfer = self.daemon.transfer
        pieces = await transfer.in_thread(transfer.fetch_now, call.principal, call.body)
        return await self._feed(call, pieces, entries.CONTENT_TYPE.encode())

    async def _feed(self, call: Call[Any], pieces: Iterator[bytes], kind: bytes) -> Answered:
        """Send what threads make. What is wrong at the first piece is still an error, not a cut."""
        in_thread = self.daemon.transfer.in_thread
        first: bytes | None = await in_thread(next, pieces, None)
        if not call.request.is_gone:
            call.request.begin(200, kind)
            Fed(call.request, pieces if first is None else chain([first], pieces), in_thread)
        return ANSWERED

    @routes.declare("POST", urls.TRANSFER_APPLY, access=ACCESS, takes=Raw, answers=Applied)
    async def apply(self, call: Call[BodyStream | bytes]) -> Applied:
        """Write a stream of small files, directories, symlinks and deletions below ?path=."""
        count(self.daemon, call)
        transfer, body, path = self.daemon.transfer, call.body, needed(call, "path")
        call.note(file=path[:4096])
        if isinstance(body, bytes):
            raise WrongContentType(f"the body must be {entries.CONTENT_TYPE}")
        applier = await transfer.in_thread(transfer.apply_now, call.principal, path)
        try:
            await Intake(transfer.in_thread, applier.write).take(body)
            applied: Applied = await transfer.in_thread(applier.finish)
        finally:
            await closing(transfer.in_thread(applier.close))
        call.note(files=applied.files, bytes=applied.bytes, errors=len(applied.errors))
        return applied


def closing(done: Deferred[Any]) -> Deferred[Any]:
    """What is cleaned up must not hide what went wrong."""
    return done.addErrback(lambda _: None)


# -- one file's head --------------------------------------------------------------------------------------------------
def describe(call: Call[Any], file: Sendable, checksum: str | None, *, attached: bool) -> tuple[int, int] | None:
    """Set the head of a file's answer; the bytes to send, None where none are.

    :raises RangeUnsatisfiable:
    """
    request, headers = call.request, call.request.responseHeaders
    for name, value in about(file, checksum).items():
        headers.setRawHeaders(name, [value])
    if attached:
        headers.setRawHeaders(b"content-disposition", [disposition(file.parts[-1])])
    if request.method in (b"GET", b"HEAD") and ranges.is_known(request.header(b"if-none-match"), file.tag):
        request.begin(304, OCTETS)
        return None
    asked = request.header(b"range") if request.method != b"HEAD" else None
    try:
        span = ranges.wanted(asked, request.header(b"if-range"), file.tag, file.size)
    except RangeUnsatisfiable:
        headers.setRawHeaders(b"content-range", [b"bytes */%d" % file.size])
        raise
    if span is None:
        request.begin(200, OCTETS, file.size)
        return 0, file.size
    headers.setRawHeaders(b"content-range", [b"bytes %d-%d/%d" % (span.start, span.end - 1, file.size)])
    request.begin(206, OCTETS, span.length)
    return span.start, span.end


def about(file: Sendable, checksum: str | None) -> dict[bytes, bytes]:
    """What is told of a file beside its content."""
    status = file.status
    told = {
        b"etag": file.tag.encode(),
        b"last-modified": formatdate(max(0, status.st_mtime_ns // 10**9), usegmt=True).encode(),
        b"accept-ranges": b"bytes",
        FILE_SIZE: b"%d" % file.size,
        MODE: b"%o" % (status.st_mode & 0o7777),
        MTIME: b"%d" % status.st_mtime_ns,
    }
    return told if checksum is None else {**told, CHECKSUM: checksum.encode()}


def disposition(name: str) -> bytes:
    """``Content-Disposition`` with any file name (RFC 6266)."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    whole = quote(name.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{whole}".encode()
