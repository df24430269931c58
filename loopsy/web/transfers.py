"""Transfers as jobs of this machine: started, watched and cancelled by its own clients."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from loopsy.core.principals import LocalOnly
from loopsy.services.daemon import Daemon
from loopsy.web.request import EdgeRequest
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.wire import codec, sse, urls
from loopsy.wire.transfer import TransferInfo, TransferList, TransferRequest

EVERY_S = 0.1
"""Between two snapshots: quicker than an eye that watches a bar."""
NOTED = 20
"""Sources on the audit line."""


@frozen(eq=False)
class TransfersArea:
    """Sending and pulling."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("POST", urls.TRANSFERS, access=LocalOnly(), takes=TransferRequest, answers=TransferInfo, status=201)
    def start(self, call: Call[TransferRequest]) -> TransferInfo:
        """Send files to a peer, or pull them. The same request as one that runs joins that one."""
        asked = call.body
        call.note(
            direction=asked.direction, peer=asked.peer, sources=asked.sources[:NOTED], destination=asked.destination
        )
        info = self.daemon.transfers.start(asked)
        call.note(transfer=info.transfer_id)
        return info

    @routes.declare("GET", urls.TRANSFERS, access=LocalOnly(), answers=TransferList)
    def list(self, call: Call[None]) -> TransferList:
        """Those that run and the last that ended, newest first."""
        return TransferList(transfers=self.daemon.transfers.list())

    @routes.declare("GET", urls.TRANSFER_JOB, access=LocalOnly(), answers=TransferInfo)
    def show(self, call: Call[None], transfer_id: str) -> TransferInfo:
        """One transfer."""
        return self.daemon.transfers.info(transfer_id)

    @routes.declare("DELETE", urls.TRANSFER_JOB, access=LocalOnly(), answers=TransferInfo)
    async def cancel(self, call: Call[None], transfer_id: str) -> TransferInfo:
        """Cancel a transfer; what has arrived stays, so that the same request goes on from there."""
        call.note(transfer=transfer_id)
        return await self.daemon.transfers.cancel(transfer_id)

    @routes.declare("GET", urls.TRANSFER_EVENTS, access=LocalOnly())
    def events(self, call: Call[None], transfer_id: str) -> Answered:
        """Server-sent events: what ``GET`` answers, whenever it changes, and at the end."""
        self.daemon.transfers.info(transfer_id)
        Snapshots(self.daemon, call.request, transfer_id)
        return ANSWERED


@implementer(IPushProducer)
class Snapshots:
    """One watcher. A slow one gets fewer snapshots, and always the last."""

    def __init__(self, daemon: Daemon, request: EdgeRequest, transfer_id: str) -> None:
        self._daemon, self._request, self._id = daemon, request, transfer_id
        self._shown: TransferInfo | None = None
        self._timer: IDelayedCall | None = None
        self._full = False
        request.notifyFinish().addBoth(self._gone)
        request.begin(200, sse.CONTENT_TYPE.encode())
        request.registerProducer(self, True)
        self._tick()
        daemon.transfers.ended(transfer_id).addCallback(self._last)

    def _tick(self) -> None:
        if not self._full:
            self._show()
        self._timer = self._request.channel.callLater(EVERY_S, self._tick)

    def _show(self) -> None:
        info = self._daemon.transfers.info(self._id)
        if info != self._shown:
            self._shown = info
            self._request.write(sse.encode(codec.plain_value(info)))

    def _last(self, _: Any) -> None:
        if self._request.is_gone:
            return
        self._show()
        self._request.unregisterProducer()
        self._request.finish()

    def _gone(self, _: Failure | None) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def pauseProducing(self) -> None:
        """It is slow."""
        self._full = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self._full = False

    def stopProducing(self) -> None:
        """It left; notifyFinish tells too."""
