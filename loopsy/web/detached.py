"""Detached jobs over HTTP: what became of them, and their output, then and as it comes."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from zope.interface import implementer

from loopsy.core.principals import Scope, Scoped
from loopsy.errors import InvalidRequest, JobNotFound
from loopsy.services.daemon import Daemon
from loopsy.web.request import EdgeRequest
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.wire import frames, urls
from loopsy.wire.execution import RUNNING, JobRecord

ACCESS = Scoped(Scope.EXECUTE)
WAIT_MOST_S = 300.0
OUTPUT_AT = b"x-loopsy-output-at"
"""The offset of the first byte of the answer: more than was asked for, where earlier output is no longer kept."""


@frozen(eq=False)
class DetachedArea:
    """Jobs without a reader."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("GET", urls.JOB_RECORD, access=ACCESS, answers=JobRecord)
    def record(self, call: Call[None], job_id: str) -> JobRecord:
        """One detached job: whether it runs, and how it ended."""
        return self.daemon.detached.record(job_id, call.principal)

    @routes.declare("GET", urls.JOB_WAIT, access=ACCESS, answers=JobRecord)
    async def wait(self, call: Call[None], job_id: str) -> JobRecord:
        """The same once it is over, or after ``?timeout=`` seconds (at most 300)."""
        record, timeout = self.daemon.detached.record(job_id, call.principal), seconds(call)
        kept = self.daemon.detached.live(job_id)
        if kept is not None and record.status == RUNNING:
            await _over(call.request, kept, timeout)
        return self.daemon.detached.record(job_id, call.principal)

    @routes.declare("GET", urls.JOB_OUTPUT, access=ACCESS)
    def output(self, call: Call[None], job_id: str) -> Answered:
        """Its output as frames, from offset ``?after=`` on; with ``?follow=1`` until its end."""
        record = self.daemon.detached.record(job_id, call.principal)
        text = call.query("after") or "0"
        if not text.isascii() or not text.isdigit() or len(text) > 15:
            raise InvalidRequest("after: must be a whole number of bytes")
        at = max(int(text), record.dropped_bytes)
        call.request.responseHeaders.setRawHeaders(OUTPUT_AT, [b"%d" % at])
        call.request.begin(200, frames.CONTENT_TYPE.encode())
        call.request.write(b"")
        Replay(self.daemon, call.request, job_id, at, call.query("follow") == "1").start()
        return ANSWERED


def seconds(call: Call[None]) -> float:
    """``?timeout=``.

    :raises InvalidRequest: it is no number from 0 to 300.
    """
    try:
        found = float(call.query("timeout") or WAIT_MOST_S)
    except ValueError:
        found = -1.0
    if not 0 <= found <= WAIT_MOST_S:
        raise InvalidRequest(f"timeout: must be from 0 to {WAIT_MOST_S:g} seconds")
    return found


def _over(request: EdgeRequest, kept: Any, timeout: float) -> Deferred[None]:
    """Fires when the job is over, the time is, or the reader has left."""
    done: Deferred[None] = Deferred()

    def finish(*_: Any) -> None:
        if watch in kept.watchers:
            kept.watchers.remove(watch)
        if timer.active():
            timer.cancel()
        if not done.called:
            done.callback(None)

    def watch() -> None:
        if kept.record.status != RUNNING:
            finish()

    timer: IDelayedCall = request.channel.callLater(timeout, finish)
    kept.watchers.append(watch)
    request.notifyFinish().addBoth(finish)
    return done


@implementer(IPushProducer)
class Replay:
    """Kept output on its way to a reader, a piece at a time, then what comes."""

    def __init__(self, daemon: Daemon, request: EdgeRequest, job_id: str, at: int, follows: bool) -> None:
        self._detached = daemon.detached
        self._request = request
        self._job_id = job_id
        self._at = at
        self._kept = daemon.detached.live(job_id) if follows else None
        self._full = self._over = False

    def start(self) -> None:
        """Begin."""
        if self._kept is not None:
            self._kept.watchers.append(self.go)
        self._request.notifyFinish().addErrback(lambda _: self.stopProducing())
        self._request.registerProducer(self, True)
        self.go()

    def go(self) -> None:
        """What there is, as far as the reader takes it."""
        while not (self._full or self._over):
            try:
                piece = self._detached.read(self._job_id, self._at)
            except JobNotFound:  # the reader was too slow: what it has must not look whole
                self._leave()
                self._request.cut()
                return
            if not piece:
                if self._kept is None or self._kept.record.status != RUNNING:
                    self._end()
                return
            self._at += len(piece)
            self._request.write(piece)

    def _end(self) -> None:
        self._leave()
        self._request.unregisterProducer()
        self._request.finish()

    def _leave(self) -> None:
        self._over = True
        if self._kept is not None and self.go in self._kept.watchers:
            self._kept.watchers.remove(self.go)

    def pauseProducing(self) -> None:
        """The reader is slow; the job isn't held up by that."""
        self._full = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self._full = False
        self.go()

    def stopProducing(self) -> None:
        """It left."""
        self._leave()
