"""Transfers as jobs of this daemon: it reads and writes this machine's files itself and speaks to the peer."""

from __future__ import annotations

import uuid
from typing import Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from loopsy.client.files import PeerFiles
from loopsy.client.peer import Target
from loopsy.core import transfers as rules
from loopsy.core.principals import Scope
from loopsy.core.transfers import Running, TransferTable
from loopsy.errors import InternalError, InvalidRequest, LoopsyError
from loopsy.services.clock import now_ms
from loopsy.services.events import Events
from loopsy.services.peers import Peers
from loopsy.services.pulling import pull
from loopsy.services.sending import send
from loopsy.services.settings import Settings
from loopsy.services.threads import Threads
from loopsy.services.transferring import Job, local_policy
from loopsy.store.pulls import Pulls
from loopsy.wire.transfer import TransferInfo, TransferRequest

SWEEP_S = 3600.0
TOLD = 20
"""Sources in an event."""
OURSELVES = (".", "local")


class Transfers(Service):
    """What is being sent and pulled."""

    name = "transfers"
    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, peers: Peers, events: Events) -> None:
        self._reactor, self._settings, self._peers, self._events = reactor, settings, peers, events
        self._threads = Threads(reactor, "transfers")
        self._table = TransferTable()
        self._jobs: dict[str, Job] = {}
        self._waiters: dict[str, list[Deferred[None]]] = {}
        self._notes = str(settings.layout.root / "pulls")
        self._sweeper: LoopingCall | None = None

    def startService(self) -> None:
        """Take transfers."""
        super().startService()
        self._threads.start()
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = self._reactor
        self._sweeper.start(SWEEP_S)

    def _sweep(self) -> Deferred[None]:
        """Remove what nobody went on pulling."""
        pulls = Pulls(self._notes, self._settings.config.auth.api_key.encode())
        done = self._threads.quick(pulls.sweep, now_ms() / 1000)
        return done.addCallbacks(lambda _: None, lambda failure: self.log.failure("the sweep failed", failure))

    async def stopService(self) -> None:  # our parent awaits it
        """End what runs; the same requests go on from there after the next start."""
        super().stopService()
        if self._sweeper is not None and self._sweeper.running:
            self._sweeper.stop()
        ends = [self.ended(transfer_id) for transfer_id in self._table.running()]
        for job in list(self._jobs.values()):
            job.cancel()
        await gatherResults(ends)
        self._threads.stop()

    # -- asked by clients -------------------------------------------------------------------------------------------
    def start(self, request: TransferRequest) -> TransferInfo:
        """Start a transfer, or join the one that does the same already.

        :raises PeerNotFound: :raises Unauthenticated: :raises InvalidRequest: :raises TooManyJobs:
        """
        if not self.running:
            raise InternalError("the daemon is stopping")
        for transfer_id in self._table.running():
            joined = self._table.get(transfer_id)
            if isinstance(joined, Running) and joined.request == request:
                return rules.info(joined)
        if not request.sources:
            raise InvalidRequest("sources: nothing to transfer")
        target, owner = self._target(request.peer)
        running = Running(transfer_id=str(uuid.uuid4()), request=request, started_at=now_ms())
        self._table.start(running)
        self._waiters[running.transfer_id] = []
        self._tell("transfer.started", running.transfer_id, owner)
        self._begin(running, target, owner)
        return self.info(running.transfer_id)

    def _target(self, peer: str) -> tuple[Target, str | None]:
        """Where it is, and the name that its key is filed under."""
        config = self._settings.config
        if peer in OURSELVES:
            return Target("127.0.0.1", config.server.port, config.auth.api_key, "this machine"), None
        record = self._peers.resolve(peer)
        return self._peers.keyed(record), record.name

    def _begin(self, running: Running, target: Target, owner: str | None) -> None:
        transfer_id = running.transfer_id
        job = Job(
            reactor=self._reactor,
            threads=self._threads,
            files=PeerFiles(self._reactor, self._peers.client, target),
            policy=local_policy(self._settings),
            request=running.request,
            node_id=self._peers.own.node_id,
            peer=target.label or target.origin,
            secret=self._settings.config.auth.api_key.encode(),
            notes=self._notes,
            tell=lambda step: self._table.step(transfer_id, step),
        )
        self._jobs[transfer_id] = job
        work = send if running.request.direction == "send" else pull
        job.work = Deferred.fromCoroutine(work(job))
        job.work.addBoth(lambda result: self._over(transfer_id, job, owner, result))

    def _over(self, transfer_id: str, job: Job, owner: str | None, result: Any) -> None:
        error = getattr(result, "value", None)
        if error is not None and not isinstance(error, LoopsyError | CancelledError):
            self.log.failure("transfer {id} failed", result, id=transfer_id)
        known = error if isinstance(error, LoopsyError) else InternalError() if error is not None else None
        del self._jobs[transfer_id]
        self._table.finish(transfer_id, known, job.cancelled and error is not None, now_ms())
        self._tell("transfer.ended", transfer_id, owner)
        for waiter in self._waiters.pop(transfer_id):
            waiter.callback(None)

    def _tell(self, kind: str, transfer_id: str, owner: str | None) -> None:
        """The peer that files go to or come from may know of it, and no other."""
        info = self.info(transfer_id)
        told = evolve(info, sources=info.sources[:TOLD])
        self._events.publish(kind, told, scope=None if owner is None else Scope.TRANSFER, owner=owner)

    def info(self, transfer_id: str) -> TransferInfo:
        """One transfer.

        :raises FileMissing: there is none.
        """
        return rules.info(self._table.get(transfer_id))

    def list(self) -> tuple[TransferInfo, ...]:
        """All that are known, newest first."""
        return tuple(map(rules.info, self._table.all()))

    def ended(self, transfer_id: str) -> Deferred[None]:
        """Fires when it is over."""
        if transfer_id not in self._waiters:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiters[transfer_id].append(waiter)
        return waiter

    async def cancel(self, transfer_id: str) -> TransferInfo:
        """Cancel it, and say how far it came. One that is over stays as it ended.

        :raises FileMissing: there is none.
        """
        self._table.get(transfer_id)
        over = self.ended(transfer_id)
        if transfer_id in self._jobs:
            self._jobs[transfer_id].cancel()
        await over
        return self.info(transfer_id)
