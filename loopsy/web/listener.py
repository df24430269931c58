"""The listening ports, as a service: the last to start, the first to stop."""

from __future__ import annotations

import socket
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from loopsy.config import ContextLimits
from loopsy.core.metrics import Tally
from loopsy.services.daemon import Daemon
from loopsy.web.audit import AuditArea
from loopsy.web.context import ContextArea
from loopsy.web.dashboard import DashboardArea
from loopsy.web.detached import DetachedArea
from loopsy.web.discovery import DiscoveryArea
from loopsy.web.edge import Edge
from loopsy.web.events import EventsArea
from loopsy.web.execution import ExecutionArea
from loopsy.web.gateway import GatewayArea
from loopsy.web.messages import MessagesArea
from loopsy.web.metrics import MetricsArea
from loopsy.web.oneport import OnePort
from loopsy.web.openapi import OpenApiArea
from loopsy.web.pairing import PairingArea
from loopsy.web.peers import PeersArea
from loopsy.web.routes import Area, Table
from loopsy.web.site import Site
from loopsy.web.status import StatusArea
from loopsy.web.tasks import TasksArea
from loopsy.web.terminals import TerminalsArea
from loopsy.web.transfer import TransferArea
from loopsy.web.transfers import TransfersArea
from loopsy.web.trust import TrustArea
from loopsy.web.uploads import UploadsArea

EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - recognised, not chosen
FLUSH_S = 2.0
"""At the stop, a reader that takes nothing for so long does not get the rest."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def table(daemon: Daemon, tally: Tally | None = None) -> Table:
    """Every route of the daemon."""
    areas: list[Area] = [
        StatusArea(daemon), PeersArea(daemon), ExecutionArea(daemon), DetachedArea(daemon), TasksArea(daemon),
        ContextArea(daemon), GatewayArea(daemon),
        TransferArea(daemon), UploadsArea(daemon), TransfersArea(daemon), TrustArea(daemon), PairingArea(daemon),
        DashboardArea(daemon), AuditArea(daemon), TerminalsArea(daemon), MetricsArea(daemon, tally or Tally()),
        EventsArea(daemon), MessagesArea(daemon), DiscoveryArea(daemon),
    ]  # fmt: skip
    return Table([*areas, OpenApiArea(areas)])


def body_limit(limits: ContextLimits) -> int:
    """Bytes of a JSON body. JSON may write a byte of a value as two (a quote, a line break); the rest needs room."""
    return 2 * limits.max_value_bytes + 64 * 1024


def own_names(hostname: str) -> frozenset[str]:
    """What this machine may be called in a Host header, beside its addresses and localhost."""
    short = hostname.partition(".")[0]
    return frozenset(name.lower() for name in (hostname, short, f"{short}.local", socket.getfqdn()) if name)


class Listener(Service):
    """Listens where the config says, and on loopback, where this machine's own clients come."""

    name = "http"
    log = Logger()

    def __init__(self, reactor: Any, daemon: Daemon) -> None:
        self._reactor = reactor
        server = daemon.settings.config.server
        self._port = server.port
        self._hosts = [server.host, *(["127.0.0.1"] if server.host not in (*EVERYWHERE, *LOOPBACK) else [])]
        names = own_names(daemon.own.hostname)
        used, first_use = daemon.peers.last_used, daemon.trust.first_use
        tally = Tally()
        routes, door = table(daemon, tally), daemon.dashboard
        edge = Edge(routes, daemon.settings, daemon.audit, names, used, first_use, door, tally)
        self._site = Site(reactor, edge, body_limit(daemon.settings.config.context))
        self._execution, self._terminals = daemon.execution, daemon.terminals
        self._tasks = daemon.tasks
        self._factory = OnePort(self._site, None if daemon.tls is None else daemon.tls.connections)
        daemon.settings.when_changed(self._site.recheck)
        daemon.dashboard.when_left(self._site.recheck)
        self._ports: list[IListeningPort] = []

    def privilegedStartService(self) -> None:
        """Take the ports, so that a taken one stops the start with a plain message."""
        for host in self._hosts:
            self._ports.append(self._reactor.listenTCP(self._port, self._factory, backlog=256, interface=host))

    def startService(self) -> None:
        """Tell."""
        super().startService()
        self.log.info("listening on {hosts}, port {port}", hosts=", ".join(self._hosts), port=self._port)

    async def stopService(self) -> None:  # our parent awaits it
        """Take no new connections, end the jobs, and let every answer out before its connection is closed."""
        super().stopService()
        await gatherResults([maybeDeferred(port.stopListening) for port in self._ports])
        self._ports.clear()
        await gatherResults([Deferred.fromCoroutine(each.end_all()) for each in (self._execution, self._terminals)])
        if self._tasks.made is not None:
            await self._tasks.made.end_all()
        await self._site.close_all(FLUSH_S)
