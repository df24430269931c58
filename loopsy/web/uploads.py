"""Uploads that can be resumed, over HTTP: tus 1.0.0 (docs/protocol/transfer.md)."""

from __future__ import annotations

import binascii
from base64 import b64decode
from email.utils import formatdate
from typing import Any

from attrs import frozen

from loopsy.core import transfer as path_rules
from loopsy.core import uploads as rules
from loopsy.core.principals import Scope, Scoped
from loopsy.core.uploads import Upload
from loopsy.errors import InvalidRequest, TusVersionUnknown, WrongContentType
from loopsy.services.daemon import Daemon
from loopsy.services.uploads import Piece
from loopsy.web.bodies import BodyStream
from loopsy.web.routes import ANSWERED, Answered, Call, Raw, Routes
from loopsy.web.transfer import count
from loopsy.wire import codec, urls
from loopsy.wire.transfer import CHECKSUM, PIECE, Pushed

ACCESS = Scoped(Scope.TRANSFER)
VERSION = b"1.0.0"
EXTENSIONS = b"creation,creation-with-upload,termination,expiration,checksum"
ALGORITHMS = ("sha1", "sha256")


@frozen(eq=False)
class UploadsArea:
    """Uploads."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("OPTIONS", urls.UPLOADS, access=ACCESS)
    def options(self, call: Call[None]) -> Answered:
        """What of tus is spoken here."""
        headers = {
            b"tus-version": VERSION,
            b"tus-extension": EXTENSIONS,
            b"tus-max-size": b"%d" % self.daemon.transfer.max_file_size,
            b"tus-checksum-algorithm": ",".join(ALGORITHMS).encode(),
        }
        return answer(call, 204, headers)

    @routes.declare("POST", urls.UPLOADS, access=ACCESS, takes=Raw, answers=Pushed, status=201)
    async def create(self, call: Call[BodyStream | bytes]) -> Answered:
        """Begin an upload, or find the one that was begun; perhaps with its first bytes."""
        check_version(call)
        count(self.daemon, call)
        length = rules.number(call.request.header(b"upload-length"), "Upload-Length")
        described = path_rules.described(call.request.header(b"upload-metadata") or "")
        call.note(file=described.path[:4096], bytes=length)
        upload, offset, is_new = await self.daemon.uploads.create(call.principal, described, length)
        call.note(upload=upload.upload_id)
        pushed = None
        if is_new and (isinstance(call.body, BodyStream) or length == 0):
            offset, pushed = await self._receive(call, upload.upload_id, 0)
        headers = {b"location": urls.fill(urls.UPLOAD, upload_id=upload.upload_id).encode(), **standing(upload, offset)}
        return answer(call, 201 if is_new else 200, headers, pushed)

    @routes.declare("HEAD", urls.UPLOAD, access=ACCESS)
    async def head(self, call: Call[None], upload_id: str) -> Answered:
        """How much of an upload is here."""
        check_version(call)
        pushed = self.daemon.uploads.finished(call.principal, upload_id)
        if pushed is not None:
            size = b"%d" % pushed.size
            return answer(call, 200, {b"upload-offset": size, b"upload-length": size})
        upload, offset = await self.daemon.uploads.offset(call.principal, upload_id)
        return answer(call, 200, {**standing(upload, offset), b"upload-length": b"%d" % upload.length})

    @routes.declare("PATCH", urls.UPLOAD, access=ACCESS, takes=Raw, answers=Pushed)
    async def patch(self, call: Call[BodyStream | bytes], upload_id: str) -> Answered:
        """The next bytes of an upload."""
        check_version(call)
        call.note(upload=upload_id)
        offset = rules.number(call.request.header(b"upload-offset"), "Upload-Offset")
        pushed = self.daemon.uploads.finished(call.principal, upload_id)
        if pushed is not None:
            rules.check_offset(pushed.size, offset)
        else:
            offset, pushed = await self._receive(call, upload_id, offset)
        return answer(call, 204, {b"upload-offset": b"%d" % offset}, pushed)

    async def _receive(self, call: Call[BodyStream | bytes], upload_id: str, offset: int) -> tuple[int, Pushed | None]:
        body = call.body
        if isinstance(body, bytes):
            if body:
                raise WrongContentType(f"the body must be {PIECE}")
            return await self.daemon.uploads.receive(call.principal, upload_id, offset, None, 0, None)
        kind = (call.request.header(b"content-type") or "").partition(";")[0].strip().lower()
        if kind != PIECE:
            raise WrongContentType(f"the body must be {PIECE}")
        length = body.length if isinstance(body.length, int) else 0
        return await self.daemon.uploads.receive(call.principal, upload_id, offset, body, length, piece(call))

    @routes.declare("DELETE", urls.UPLOAD, access=ACCESS)
    async def delete(self, call: Call[None], upload_id: str) -> Answered:
        """Drop an upload."""
        check_version(call)
        call.note(upload=upload_id)
        await self.daemon.uploads.cancel(call.principal, upload_id)
        return answer(call, 204, {})


def check_version(call: Call[Any]) -> None:
    """:raises TusVersionUnknown: the request speaks another version of tus. One that names none is taken."""
    call.request.responseHeaders.setRawHeaders(b"tus-resumable", [VERSION])
    asked = call.request.header(b"tus-resumable")
    if asked is not None and asked != VERSION.decode():
        call.request.responseHeaders.setRawHeaders(b"tus-version", [VERSION])
        raise TusVersionUnknown(f"uploads speak tus {VERSION.decode()}, not {asked[:20]}")


def piece(call: Call[Any]) -> Piece | None:
    """``Upload-Checksum``, read.

    :raises InvalidRequest: it can't be.
    """
    header = call.request.header(b"upload-checksum")
    if header is None:
        return None
    algorithm, _, digest = header.partition(" ")
    if algorithm not in ALGORITHMS:
        raise InvalidRequest(f"Upload-Checksum must be one of {', '.join(ALGORITHMS)}")
    try:
        return Piece(algorithm, b64decode(digest.strip(), validate=True))
    except binascii.Error:
        raise InvalidRequest("Upload-Checksum is not base64") from None


def standing(upload: Upload, offset: int) -> dict[bytes, bytes]:
    """Where an upload stands."""
    expires = formatdate(upload.expires // 1000, usegmt=True).encode()
    return {b"upload-offset": b"%d" % offset, b"upload-expires": expires}


def answer(call: Call[Any], status: int, headers: dict[bytes, bytes], pushed: Pushed | None = None) -> Answered:
    """Answer with headers alone; or with the file that came to be, for those who take JSON."""
    request = call.request
    request.responseHeaders.setRawHeaders(b"tus-resumable", [VERSION])
    if pushed is not None:
        headers = {**headers, CHECKSUM: pushed.checksum.encode()}
    for name, value in headers.items():
        request.responseHeaders.setRawHeaders(name, [value])
    if pushed is not None and "application/json" in (request.header(b"accept") or ""):
        request.send_json(200 if status == 204 else status, codec.dump(pushed))
        return ANSWERED
    request.begin(status, b"application/json", None if status == 204 else 0)
    request.responseHeaders.removeHeader(b"content-type")
    request.finish()
    return ANSWERED
