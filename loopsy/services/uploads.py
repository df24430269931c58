"""Uploads that can be resumed, across broken connections and restarts (docs/decisions/010)."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import new as new_hash
from typing import Any

from attrs import define, evolve, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from loopsy.core import transfer as path_rules
from loopsy.core import uploads as rules
from loopsy.core.principals import Principal
from loopsy.core.transfer import Described
from loopsy.core.uploads import Upload, Wanted
from loopsy.errors import ConnectionBroken, FileMissing, LoopsyError, PieceMismatch, UploadMissing
from loopsy.services.clock import now_ms
from loopsy.services.intake import Body, Intake
from loopsy.services.storage import Storage
from loopsy.services.transfer import Transfer
from loopsy.store import uploads as table
from loopsy.store import walk
from loopsy.store.files import Part, part_name
from loopsy.wire.transfer import Pushed

SWEEP_S = 3600.0
IDLE_OPEN = 64
"""Unfinished uploads that nobody sends to now, but whose hash and descriptors are kept: two descriptors each."""
REPEATED = 256
"""Answers of finished uploads that can be asked for again, by senders whose connection broke at the very end."""


@define(eq=False)
class Live:
    """One upload and what is open for it."""

    upload: Upload
    part: Part | None = None
    intake: Intake | None = None
    """Of the sender that is connected now."""
    turn: DeferredLock = field(factory=DeferredLock)
    """Whoever touches the part."""
    started: float = field(factory=time.monotonic)


@define
class Piece:
    """A body that announced its own checksum: it is taken whole or not at all."""

    algorithm: str
    digest: bytes


class Uploads(Service):
    """All unfinished uploads of this machine."""

    name = "uploads"
    log = Logger()

    def __init__(self, reactor: Any, storage: Storage, transfer: Transfer) -> None:
        self._storage = storage
        self._transfer = transfer
        self._live: OrderedDict[str, Live] = OrderedDict()
        self._finished: OrderedDict[str, tuple[str, Pushed]] = OrderedDict()
        self._creating = DeferredLock()
        self._sweep = LoopingCall(self._sweep_expired)
        self._sweep.clock = reactor

    def startService(self) -> None:
        """Take up what an earlier run left, and sweep what is too old of it."""
        super().startService()
        for upload in table.everything(self._storage.reader):
            self._live[upload.upload_id] = Live(upload)
        self._sweep.start(SWEEP_S).addErrback(lambda failure: self.log.failure("sweeping uploads stopped", failure))

    async def stopService(self) -> None:  # our parent awaits it
        """Cut the senders, and close what is open; all of it can be gone on with."""
        super().stopService()
        if self._sweep.running:
            self._sweep.stop()
        for live in list(self._live.values()):
            await self._interrupt(live, "the daemon is stopping")
            await live.turn.acquire()
            self._close(live)
            live.turn.release()

    # -- from outside -----------------------------------------------------------------------------------------------
    async def create(self, principal: Principal, described: Described, length: int) -> tuple[Upload, int, bool]:
        """A new upload, or the one that this sender began earlier; with its offset, and whether it is new.

        :raises PathDenied: :raises FileTooLarge: :raises StorageFull: :raises InvalidRequest:
        """
        path_rules.check_size(length, self._transfer.max_file_size)
        await self._creating.acquire()
        try:
            wanted, free = await self._transfer.in_thread(self._wanted_now, principal, described, length)
            found, older = rules.matching((live.upload for live in self._live.values()), wanted)
            for upload in older:
                await self._supersede(self._live[upload.upload_id])
            if found is None:
                return await self._begin(principal, described, length), 0, True
            live = self._live[found.upload_id]
        finally:
            self._creating.release()
        await self._interrupt(live, "another sender goes on with this upload")
        try:
            offset = await self._offset(live)
            path_rules.check_room(length - offset, free)  # what is there already needs no more room
            return live.upload, offset, False
        except UploadMissing:  # its part is gone: begin again
            return await self._begin(principal, described, length), 0, True

    def find(self, principal: Principal, upload_id: str) -> Live:
        """One of this caller's.

        :raises UploadMissing:
        """
        live = self._live.get(upload_id)
        rules.owned(None if live is None else live.upload, principal.name)
        assert live is not None
        return live

    def finished(self, principal: Principal, upload_id: str) -> Pushed | None:
        """The answer of one that has just finished."""
        owner, pushed = self._finished.get(upload_id, ("", None))
        return pushed if owner == principal.name else None

    async def offset(self, principal: Principal, upload_id: str) -> tuple[Upload, int]:
        """How much of it is on disk.

        :raises UploadMissing:
        """
        live = self.find(principal, upload_id)
        return live.upload, await self._offset(live)

    async def receive(
        self, principal: Principal, upload_id: str, offset: int, body: Body | None, length: int, piece: Piece | None
    ) -> tuple[int, Pushed | None]:
        """Take a body at ``offset``; the new offset, and the answer if that was all. ``length``: the body's at least.

        :raises UploadMissing: :raises OffsetConflict: :raises FileTooLarge: :raises ChecksumMismatch:
        :raises PieceMismatch: :raises StorageFull: :raises ConnectionBroken: the sender left; what came is kept
        """
        live = self.find(principal, upload_id)
        await self._interrupt(live, "another sender goes on with this upload")
        await live.turn.acquire()
        try:
            await self._transfer.in_thread(self._still_may_now, principal, live.upload)
            part = await self._open(live)
            rules.check_offset(part.size, offset)
            rules.check_end(offset + length, live.upload.length)
            if body is not None:
                await self._take(live, part, body, piece)
            pushed = await self._finish(live, part) if part.size == live.upload.length else None
            return part.size, pushed
        finally:
            live.turn.release()
            self._close_idle()

    async def cancel(self, principal: Principal, upload_id: str) -> None:
        """Drop it.

        :raises UploadMissing:
        """
        await self._drop(self.find(principal, upload_id), "the upload was cancelled")

    def disown(self, is_out: Callable[[str], bool]) -> None:
        """What those began who, as ``is_out`` says, are trusted no longer is dropped: whoever comes after one under its
        name goes on with nothing."""
        for upload_id in [each for each, (owner, _) in self._finished.items() if is_out(owner)]:
            del self._finished[upload_id]
        for live in [live for live in self._live.values() if is_out(live.upload.owner)]:
            done = Deferred.fromCoroutine(self._drop(live, "its sender is trusted no longer"))
            done.addErrback(lambda failure: self.log.failure("an upload could not be dropped", failure))

    def _still_may_now(self, principal: Principal, upload: Upload) -> None:
        """The policy may have been changed since the upload began."""
        self._transfer.policy_now(principal).check((*path_rules.split(upload.directory), upload.name))

    # -- beginning --------------------------------------------------------------------------------------------------
    def _wanted_now(self, principal: Principal, described: Described, length: int) -> tuple[Wanted, int]:
        with self._transfer.destination_now(principal, described.path, described.filename) as place:
            wanted = Wanted(
                owner=principal.name,
                directory="/" + "/".join(place.parts[:-1]),
                name=place.parts[-1],
                length=length,
                source=described.source,
            )
            return wanted, place.directory.free()

    async def _begin(self, principal: Principal, described: Described, length: int) -> Upload:
        rules.check_number((live.upload for live in self._live.values()), principal.name)
        upload: Upload
        upload, part = await self._transfer.in_thread(self._begin_now, principal, described, length)
        live = Live(upload, part)
        try:
            await self._storage.write(partial(table.put, upload=upload))
            await self._transfer.in_thread(part.keep, upload.part)  # named before that, a crash would leave it for ever
        except BaseException:
            await self._transfer.in_thread(part.discard)
            raise
        self._live[upload.upload_id] = live
        return upload

    def _begin_now(self, principal: Principal, described: Described, length: int) -> tuple[Upload, Part]:
        with self._transfer.destination_now(principal, described.path, described.filename) as place:
            path_rules.check_room(length, place.directory.free())
            directory = place.directory.copy()
            try:
                with walk.telling(place.parts):
                    part = Part.unnamed(directory)
            except BaseException:
                directory.close()
                raise
            return Upload(
                upload_id=secrets.token_hex(16),
                owner=principal.name,
                directory="/" + "/".join(place.parts[:-1]),
                name=place.parts[-1],
                part=part.name or part_name(),
                identity=part.identity,
                length=length,
                described=described,
                touched=now_ms(),
            ), part

    async def _supersede(self, live: Live) -> None:
        """The source has changed since: what came of the old one is of no use. One that is being sent stays."""
        if live.intake is None:
            await self._drop(live, "the source has changed")

    # -- going on ---------------------------------------------------------------------------------------------------
    async def _open(self, live: Live) -> Part:
        """Its part, as it is on disk. Called in turn.

        :raises UploadMissing: somebody has removed it.
        """
        if live.upload.upload_id not in self._live:
            raise UploadMissing()
        self._live.move_to_end(live.upload.upload_id)
        if live.part is None:
            try:
                live.part = await self._transfer.in_thread(_reopen_now, live.upload)
            except FileMissing:
                await self._forget(live)
                raise UploadMissing("what had arrived of the upload is gone") from None
        return live.part

    async def _offset(self, live: Live) -> int:
        """Of a sender that is connected, what is written so far; else after a sync."""
        if live.intake is not None and live.part is not None:
            return live.part.size
        await live.turn.acquire()
        try:
            part = await self._open(live)
            await self._transfer.in_thread(part.sync)
            return part.size
        finally:
            live.turn.release()

    async def _take(self, live: Live, part: Part, body: Body, piece: Piece | None) -> None:
        size, hash_then = part.size, part.hash.copy()
        check = new_hash(piece.algorithm, usedforsecurity=False) if piece is not None else None

        def write(chunks: list[bytes]) -> None:
            rules.check_end(part.size + sum(map(len, chunks)), live.upload.length)
            with walk.telling((live.upload.name,)):
                part.write(chunks)
            if check is not None:
                for chunk in chunks:
                    check.update(chunk)

        live.intake = Intake(self._transfer.in_background, write)
        try:
            await live.intake.take(body)
            if piece is not None and check is not None and check.digest() != piece.digest:
                raise PieceMismatch()
        except BaseException:
            if piece is not None:
                await self._transfer.in_thread(part.rewind, size, hash_then)
            raise
        finally:
            live.intake = None
            await self._touch(live)

    async def _touch(self, live: Live) -> None:
        live.upload = evolve(live.upload, touched=now_ms())
        with suppress(LoopsyError):  # then it expires a little early
            await self._storage.write(partial(table.put, upload=live.upload))

    async def _finish(self, live: Live, part: Part) -> Pushed:
        """All bytes are there. Called in turn."""
        try:
            pushed: Pushed = await self._transfer.in_thread(self._finish_now, live, part)
        except LoopsyError:
            await self._transfer.in_thread(part.discard)
            live.part = None
            await self._forget(live)
            raise
        live.part = None
        self._finished[live.upload.upload_id] = (live.upload.owner, pushed)
        if len(self._finished) > REPEATED:
            self._finished.popitem(last=False)
        await self._forget(live)
        return pushed

    def _finish_now(self, live: Live, part: Part) -> Pushed:
        upload, checksum = live.upload, part.checksum
        rules.check_content(upload.described.checksum, checksum)
        parts = (*path_rules.split(upload.directory), upload.name)
        with walk.telling(parts):
            status = part.publish(upload.name, upload.described.mode, upload.described.mtime_ns)
        return self._transfer.published(status, parts, checksum, live.started)

    # -- ending -----------------------------------------------------------------------------------------------------
    async def _interrupt(self, live: Live, why: str) -> None:
        """Whoever is sending stops. What came until then is written."""
        if live.intake is not None:
            live.intake.fail(ConnectionBroken(why))
            await live.turn.acquire()
            live.turn.release()

    async def _drop(self, live: Live, why: str) -> None:
        await self._interrupt(live, why)
        await live.turn.acquire()
        try:
            with suppress(LoopsyError):
                part = await self._open(live)
                live.part = None
                await self._transfer.in_thread(part.discard)
            await self._forget(live)
        finally:
            live.turn.release()

    async def _forget(self, live: Live) -> None:
        self._live.pop(live.upload.upload_id, None)
        await self._storage.write(partial(table.remove, upload_id=live.upload.upload_id))

    def _close(self, live: Live) -> None:
        part, live.part = live.part, None
        if part is not None:
            part.close()

    def _close_idle(self) -> None:
        """Those used longest ago; going on with them means reading them once."""
        idle = [live for live in self._live.values() if live.part is not None and not live.turn.locked]
        for live in idle[:-IDLE_OPEN]:
            self._close(live)

    async def _sweep_now(self) -> None:
        for live in list(self._expired()):
            self.log.info("an unfinished upload of {owner} expired", owner=live.upload.owner)
            await self._drop(live, "the upload expired")

    def _expired(self) -> Iterator[Live]:
        now = now_ms()
        return (live for live in self._live.values() if live.upload.expires < now and live.intake is None)

    def _sweep_expired(self) -> Deferred[None]:
        done = Deferred.fromCoroutine(self._sweep_now())
        return done.addErrback(lambda failure: self.log.failure("expired uploads could not be swept", failure))


def _reopen_now(upload: Upload) -> Part:
    """What an earlier run left. The record is ours, so is the directory in it; no symlink may have come in between."""
    policy = path_rules.PathPolicy(allowed=None, denied=())
    wanted = (*path_rules.split(upload.directory), upload.part)
    with walk.find(policy, wanted) as place:
        if place.parts != wanted:
            raise FileMissing("the destination's directory is another now")
        directory = place.directory.copy()
    try:
        return Part.again(directory, upload.part, upload.identity, upload.length)
    except BaseException:
        directory.close()
        raise
