"""Health, identity, status, reload."""

from __future__ import annotations

import os

from attrs import frozen

from loopsy._version import VERSION, WIRE_VERSION
from loopsy.core.principals import AnyKey, Anyone, LocalOnly, PeerPrincipal
from loopsy.services.daemon import Daemon
from loopsy.services.tls import OwnTls
from loopsy.web.routes import Call, Routes
from loopsy.wire import urls
from loopsy.wire.peers import NodeIdentity
from loopsy.wire.status import ContextCounts, Health, JobCounts, Reloaded, Status, TaskCounts, TlsState


def tls_state(own: OwnTls | None) -> TlsState:
    """Whether we speak TLS, and with what certificate."""
    if own is None:
        return TlsState(enabled=False)
    return TlsState(enabled=True, fingerprint=own.fingerprint, expires_at=own.expires)


def task_counts(daemon: Daemon) -> TaskCounts:
    """How many AI tasks there are; without the service that holds them there are none."""
    tasks = daemon.tasks.made
    return TaskCounts(active=0, total=0) if tasks is None else TaskCounts(active=tasks.active, total=tasks.total)


@frozen(eq=False)
class StatusArea:
    """How this daemon is."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("GET", urls.HEALTH, access=Anyone(), answers=Health)
    def health(self, call: Call[None]) -> Health:
        """Health check."""
        return Health(
            status="ok", node_id=self.daemon.own.node_id, uptime=self.daemon.uptime, version=WIRE_VERSION
        )

    @routes.declare("GET", urls.IDENTITY, access=AnyKey(), answers=NodeIdentity)
    async def identity(self, call: Call[None]) -> NodeIdentity:
        """Who this node is. Whoever asks with a new key that waited for its first use hears it once that one counts."""
        if isinstance(call.principal, PeerPrincipal) and call.principal.is_pending:
            await self.daemon.trust.settled(call.principal.name)
        return self.daemon.own

    @routes.declare("GET", urls.STATUS, access=AnyKey(), answers=Status)
    def status(self, call: Call[None]) -> Status:
        """What this daemon has and does."""
        daemon, own = self.daemon, self.daemon.own
        return Status(
            node_id=own.node_id,
            hostname=own.hostname,
            platform=own.platform,
            version=own.version,
            package_version=VERSION,
            uptime=daemon.uptime,
            pid=os.getpid(),
            peers=daemon.peers.counts(),
            jobs=JobCounts(active=daemon.execution.active, total=daemon.execution.total),
            context=ContextCounts(entries=daemon.context.count()),
            messages=daemon.messages.counts(),
            ai_tasks=task_counts(daemon),
            tls=tls_state(daemon.tls),
        )

    @routes.declare("POST", urls.RELOAD, access=LocalOnly(), answers=Reloaded)
    def reload(self, call: Call[None]) -> Reloaded:
        """Read config.yaml again."""
        return self.daemon.settings.reload()
