"""A peer's files, as docs/protocol/transfer.md has them: what a transfer asks of its PeerClient."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse

from loopsy.client.bodies import BytesBody
from loopsy.client.peer import PeerClient, Target, collect, cut
from loopsy.errors import FileMissing, InvalidRequest, LoopsyError, PeerTimeout, PeerUnreachable, from_wire
from loopsy.wire import codec, entries, urls
from loopsy.wire.transfer import Applied, FetchRequest, ManifestEntry, ManifestRequest, Pushed, name_to_wire

MAX_ANSWER = 4 * 1024 * 1024
MAX_THINGS, MAX_MANIFEST = 500_000, 128 * 1024 * 1024
"""Entries and bytes of a manifest. It is held in memory whole, so a peer may not make it as long as it likes."""
MOST = 2**62
"""A number in a header: what is more is neither a size nor a time."""
SILENCE_S = 60.0
"""A peer that neither takes nor gives a byte for so long is gone. Syncing a large file to a slow disk stays below."""
TICKET = b"x-loopsy-transfer"
OFFSET = "application/offset+octet-stream"
PieceTaker = Callable[[bytes], None]


@frozen(kw_only=True)
class UploadOffer:
    """What is sent: enough for the peer to go on with an earlier try, and to end well."""

    path: str
    filename: str
    length: int
    source: str | None
    """Names this version of the file; None: nothing is kept when it breaks off."""
    mode: int
    mtime_ns: int

    def metadata(self) -> str:
        """tus' Upload-Metadata."""
        pairs = {
            "path": name_to_wire(self.path),
            "filename": name_to_wire(self.filename),
            **({} if self.source is None else {"source": self.source}),
            "mode": f"{self.mode & 0o777:o}",
            "mtime": str(self.mtime_ns),
        }
        return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in pairs.items())


@frozen
class Upload:
    """One that the peer has begun: its address there, and how much it holds."""

    location: str
    offset: int


@frozen(kw_only=True)
class RemoteFile:
    """The head of a peer's file."""

    size: int
    start: int
    """Where the body begins: 0, unless the range that was asked for is still good."""
    etag: str
    mode: int
    mtime_ns: int
    checksum: str | None


class Patience:
    """Calls ``over`` when nothing was felt for SILENCE_S."""

    def __init__(self, reactor: Any, over: Callable[[], None]) -> None:
        self._call: IDelayedCall = reactor.callLater(SILENCE_S, over)

    def felt(self) -> None:
        """Something moves."""
        if self._call.active():
            self._call.reset(SILENCE_S)

    def end(self) -> None:
        """No more waiting."""
        if self._call.active():
            self._call.cancel()


class PeerFiles:
    """The files of one peer, for one transfer."""

    def __init__(self, reactor: Any, client: PeerClient, target: Target) -> None:
        self._reactor, self._client, self._target = reactor, client, target
        self._ticket: bytes | None = None
        self._patience: list[Patience] = []

    def felt(self) -> None:
        """Bytes go out: whoever produces them says so."""
        for patience in self._patience:
            patience.felt()

    # -- trees ------------------------------------------------------------------------------------------------------
    async def look(self, path: str) -> ManifestEntry | None:
        """What a path is; None where there is nothing."""
        found = await self._manifest(ManifestRequest(path=name_to_wire(path), depth=0), 1)
        return found[0] if found else None

    async def manifest(self, path: str, checksum: bool, exclude: Sequence[str]) -> list[ManifestEntry]:
        """A tree; empty where there is nothing."""
        return await self._manifest(ManifestRequest(path=name_to_wire(path), checksum=checksum, exclude=tuple(exclude)))

    async def _manifest(self, request: ManifestRequest, limit: int = MAX_THINGS) -> list[ManifestEntry]:
        found: list[ManifestEntry] = []
        decoder = entries.LineDecoder()
        size = 0

        def take(data: bytes) -> None:
            nonlocal size
            size += len(data)
            found.extend(decoder.feed(data))
            if len(found) > limit or size > MAX_MANIFEST:
                most = f"more than {limit} entries, or {MAX_MANIFEST} bytes"
                raise InvalidRequest(f"the manifest of {request.path!r} has {most}: take it in parts")

        try:
            response = await self._post_json(urls.TRANSFER_MANIFEST, request)
            await self._read(response, take)
        except FileMissing:
            return []
        return found

    async def apply(self, root: str, body: IBodyProducer) -> Applied:
        """Send entries with content."""
        path = f"{urls.TRANSFER_APPLY}?path={quote(name_to_wire(root), safe='')}"
        response = await self._request(b"POST", path, {"content-type": entries.CONTENT_TYPE}, body)
        return codec.parse(Applied, await self._json(response))

    async def fetch(self, root: str, paths: Sequence[str], receiver: Receiver) -> None:
        """Get entries with content, as they come."""
        asked = FetchRequest(path=name_to_wire(root), paths=tuple(map(name_to_wire, paths)))
        await self.receive(await self._post_json(urls.TRANSFER_FETCH, asked), receiver)

    # -- large files ------------------------------------------------------------------------------------------------
    async def begin(self, offer: UploadOffer, body: IBodyProducer | None = None) -> Upload | Pushed:
        """Make an upload, or find the one that was broken off; with a whole body it may be done at once."""
        headers = {
            "upload-length": str(offer.length),
            "upload-metadata": offer.metadata(),
            "accept": "application/json",
        }
        if body is not None:
            headers["content-type"] = OFFSET
        response = await self._request(b"POST", urls.UPLOADS, headers, body)
        location = (response.headers.getRawHeaders(b"location") or [b""])[0].decode("latin-1")
        offset = number(response, b"upload-offset") or 0
        answer = await self._json(response)
        if isinstance(answer, dict) and "checksum" in answer:
            return codec.parse(Pushed, answer)
        if not location.startswith(f"{urls.BASE}/"):
            raise InvalidRequest(f"{self._target.label} keeps the upload at no address of its own: {location[:200]!r}")
        return Upload(location, offset)

    async def offset(self, upload: Upload) -> int:
        """How much the peer holds."""
        response = await self._request(b"HEAD", upload.location, {})
        return number(response, b"upload-offset") or 0

    async def go_on(self, upload: Upload, body: IBodyProducer) -> Pushed:
        """Send the rest, from the upload's offset on."""
        headers = {"content-type": OFFSET, "upload-offset": str(upload.offset), "accept": "application/json"}
        return codec.parse(Pushed, await self._json(await self._request(b"PATCH", upload.location, headers, body)))

    async def checksum(self, path: str) -> str | None:
        """SHA-256 of a file, computed there."""
        query = f"?path={quote(name_to_wire(path), safe='')}&checksum=1"
        response = await self._request(b"HEAD", f"{urls.TRANSFER_FILE}{query}", {})
        return text(response, b"x-loopsy-checksum")

    async def file(self, path: str, start: int, etag: str | None) -> tuple[RemoteFile, IResponse]:
        """Open a file at ``start``, if it is still the one with that etag; else at its beginning."""
        headers = {"range": f"bytes={start}-", "if-range": etag} if start and etag else {}
        query = f"?path={quote(name_to_wire(path), safe='')}"
        response = await self._request(b"GET", f"{urls.TRANSFER_FILE}{query}", headers)
        remote = RemoteFile(
            size=number(response, b"x-loopsy-file-size") or 0,
            start=start if response.code == 206 else 0,
            etag=text(response, b"etag") or "",
            mode=octal(text(response, b"x-loopsy-mode")),
            mtime_ns=number(response, b"x-loopsy-mtime") or 0,
            checksum=text(response, b"x-loopsy-checksum"),
        )
        return remote, response

    def drop(self, response: IResponse) -> None:
        """Don't read the body."""
        unwanted = Receiver(lambda _: None)
        unwanted.done.addErrback(lambda _: None)
        response.deliverBody(unwanted)
        unwanted.give_up()

    async def receive(self, response: IResponse, receiver: Receiver) -> None:
        """The body of an answer into a receiver.

        :raises PeerUnreachable: it was cut.
        """
        patience = Patience(self._reactor, receiver.give_up)
        self._patience.append(patience)
        receiver.felt = patience.felt
        try:
            response.deliverBody(receiver)
            await receiver.done
        finally:
            self._forget(patience)

    # -- requests ---------------------------------------------------------------------------------------------------
    async def _post_json(self, path: str, value: object) -> IResponse:
        return await self._request(b"POST", path, {"content-type": "application/json"}, BytesBody(codec.dump(value)))

    async def _request(
        self, method: bytes, path: str, fields: dict[str, str], body: IBodyProducer | None = None
    ) -> IResponse:
        headers = Headers({name.encode(): [value.encode()] for name, value in fields.items()})
        headers.setRawHeaders(b"tus-resumable", [b"1.0.0"])
        if self._ticket is not None:
            headers.setRawHeaders(TICKET, [self._ticket])
        asked = Deferred.fromCoroutine(self._client.request(self._target, method, path, headers, body))
        silent: list[bool] = []

        def give_up() -> None:
            silent.append(True)
            asked.cancel()

        patience = Patience(self._reactor, give_up)
        self._patience.append(patience)
        try:
            response: IResponse = await asked
        except (LoopsyError, CancelledError):
            if silent:
                raise PeerTimeout(f"{self._target.label} has not moved for {SILENCE_S:g} s") from None
            raise
        finally:
            self._forget(patience)
        self._ticket = next(iter(response.headers.getRawHeaders(TICKET) or ()), self._ticket)
        if response.code >= 400:
            raise await self._refusal(response)
        return response

    def _forget(self, patience: Patience) -> None:
        patience.end()
        self._patience.remove(patience)

    async def _refusal(self, response: IResponse) -> LoopsyError:
        data = await self._collect(response)
        try:
            error = from_wire(response.code, json.loads(data))
        except (ValueError, RecursionError):
            error = from_wire(response.code, None)
        error.retry_after = number(response, b"retry-after")
        return error

    async def _json(self, response: IResponse) -> Any:
        data = await self._collect(response)
        return codec.read_json(data) if data else None

    async def _collect(self, response: IResponse) -> bytes:
        """A small answer's body.

        :raises PeerTimeout: it does not come.
        """
        coming, silent = collect(response, MAX_ANSWER), []

        def give_up() -> None:
            silent.append(True)
            coming.cancel()

        patience = Patience(self._reactor, give_up)
        try:
            return await coming
        except CancelledError:
            if silent:
                raise PeerTimeout(f"{self._target.label} began an answer and did not end it") from None
            raise
        finally:
            patience.end()

    async def _read(self, response: IResponse, take: PieceTaker) -> None:
        await self.receive(response, Receiver(take))


def text(response: IResponse, name: bytes) -> str | None:
    """A header."""
    values = response.headers.getRawHeaders(name)
    return values[0].decode("latin-1") if values else None


def number(response: IResponse, name: bytes) -> int | None:
    """A header that is a number."""
    value = text(response, name)
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > len(str(MOST)):
        return None
    return min(int(value), MOST)


def octal(value: str | None) -> int:
    """A file's mode; what is none counts as not given."""
    try:
        return int(value or "", 8) & 0o7777
    except ValueError:
        return 0o644


class Receiver(Protocol):
    """Hands a body's pieces on; ``done`` fires at its end."""

    def __init__(self, take: PieceTaker) -> None:
        self._take = take
        self.done: Deferred[None] = Deferred(lambda _: self.give_up())
        self.felt: Callable[[], None] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        """Hand on; whatever the taker raises ends the body."""
        self.felt()
        if self.done.called:
            return
        try:
            self._take(data)
        except Exception:
            self.fail(Failure())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, or a cut."""
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(None)
        else:
            self.done.errback(PeerUnreachable("the connection broke in mid-transfer"))

    def fail(self, failure: Failure) -> None:
        """No more of it."""
        if not self.done.called:
            self.done.errback(failure)
        self.give_up()

    def give_up(self) -> None:
        """Close the connection."""
        cut(self.transport)

    def pause(self) -> None:
        """Let the peer wait."""
        if self.transport is not None:
            self.transport.pauseProducing()  # type: ignore[attr-defined]

    def resume(self) -> None:
        """Let it go on."""
        if self.transport is not None:
            self.transport.resumeProducing()  # type: ignore[attr-defined]
