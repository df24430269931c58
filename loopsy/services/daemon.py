"""The whole daemon, composed: what there is, in the order in which it starts (and stops, backwards)."""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from loopsy._version import WIRE_VERSION
from loopsy.client.peer import PeerClient
from loopsy.config import Config
from loopsy.core.around import Around
from loopsy.services.audit import Audit, remembered_head
from loopsy.services.context import Context
from loopsy.services.dashboard import Dashboard
from loopsy.services.delivery import Delivery
from loopsy.services.detached import Detached
from loopsy.services.discovery import Discovery
from loopsy.services.distrust import Distrust
from loopsy.services.events import Events
from loopsy.services.execution import Execution
from loopsy.services.logs import DaemonLog
from loopsy.services.messages import Messages
from loopsy.services.messages_v1 import OldMessages
from loopsy.services.news import PeerNews
from loopsy.services.offers import Offers
from loopsy.services.on_demand import OnDemand
from loopsy.services.peers import Peers
from loopsy.services.relay import Relay
from loopsy.services.renewal import Renewal
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.services.terminals import Terminals
from loopsy.services.tls import OwnTls, own_tls
from loopsy.services.transfer import Transfer
from loopsy.services.transfers import Transfers
from loopsy.services.trust import Trust
from loopsy.services.uploads import Uploads
from loopsy.store import context as context_table
from loopsy.store import identity, older
from loopsy.store import peers as peers_table
from loopsy.store import tasks as tasks_table
from loopsy.store.audit import AuditLog
from loopsy.store.database import PAIRING_PREPARED, Database, get_fact
from loopsy.store.layout import Layout
from loopsy.store.pidfile import PidFile
from loopsy.wire.peers import CAPABILITIES, NodeIdentity

if TYPE_CHECKING:
    from loopsy.services.pairing import Pairing
    from loopsy.services.tasks import Tasks


@frozen(kw_only=True)
class Daemon:
    """The parts that the HTTP edge speaks to."""

    settings: Settings
    own: NodeIdentity
    events: Events
    context: Context
    execution: Execution
    detached: Detached
    transfers: Transfers
    transfer: Transfer
    uploads: Uploads
    peers: Peers
    messages: Messages
    tasks: OnDemand[Tasks]
    audit: Audit
    trust: Trust
    pairing: OnDemand[Pairing]
    dashboard: Dashboard
    relay: Relay
    terminals: Terminals
    discovery: Discovery
    tls: OwnTls | None
    """Our certificate, where TLS is on."""
    started: float
    """Of ``time.monotonic``."""

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self.started, 3)


class Backwards(MultiService):
    """Children start in order and stop one after the other in the opposite order: each still has what it needs."""

    log = Logger()

    def stopService(self) -> Deferred[None]:
        """Stop all; one that fails to stop is logged and does not keep the others from it."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop_each())

    async def _stop_each(self) -> None:
        for service in reversed(list(self)):
            try:
                result = maybeDeferred(service.stopService)
                await result
            except Exception:
                self.log.failure("stopping {service} failed", service=service.name)


class Held(Service):
    """Holds the pid file while the daemon runs; first to start, last to stop."""

    name = "pid"

    def __init__(self, pid_file: PidFile) -> None:
        self._pid_file = pid_file

    def stopService(self) -> None:
        """Let go."""
        super().stopService()
        self._pid_file.release()


def build(reactor: Any, layout: Layout, config: Config) -> tuple[Backwards, Daemon]:
    """Take the data directory and compose the services over it; the edge is added by the caller.

    :raises DataDirError: another daemon has it, or something in it can't be used.
    """
    layout.make()
    pid_file = PidFile(layout.pid)
    pid_file.acquire()
    settings = Settings(layout, config)
    log = DaemonLog(settings)
    own = node_identity(identity.node_id(layout), config)
    database = Database(layout.database)
    import_older(layout, database)
    storage = Storage(reactor, database)
    limits = config.audit
    audit_log = AuditLog(layout.audit, limits.max_file_bytes, limits.keep_files, remembered_head(database.reader))
    transfer = Transfer(reactor, settings)
    uploads = Uploads(reactor, storage, transfer)
    events = Events()
    audit = Audit(reactor, storage, audit_log)
    around = Around(own.node_id)
    peers = Peers(reactor, settings, storage, PeerClient(reactor), own, around)
    context = Context(reactor, storage, settings, events)
    messages = Messages(reactor, settings, storage, events, peers)
    OldMessages(messages, context, peers)
    delivery = Delivery(reactor, settings, storage, peers, messages, context)
    execution = Execution(reactor, settings, events)
    tasks = tasks_on_demand(reactor, settings, storage, events, audit, transfer, own.hostname)
    detached = Detached(settings, storage)
    trust = Trust(reactor, settings, peers, storage)
    tls = own_tls(layout, own.hostname) if config.tls.enabled else None
    pairing = pairing_on_demand(reactor, settings, storage, peers, trust, tls, events)
    transfers = Transfers(reactor, settings, peers, events)
    discovery, offers = Discovery(reactor, settings, peers, around), Offers(reactor, settings, peers, around)
    news = PeerNews(peers, settings, events)
    discovery.when_changed(news.look)
    offers.when_changed(news.look)
    relay = Relay(reactor, peers, events)
    terminals = Terminals(reactor, settings, events)
    dashboard = Dashboard(settings, storage, config.server.port)
    root = Backwards()
    children: list[Service] = [
        *(Held(pid_file), log, storage, events, audit, context, peers, detached, execution),
        *(pairing, transfers, transfer, uploads, dashboard, relay, terminals, messages, delivery),
    ]
    children += [tasks, offers, discovery, Distrust(settings, storage, execution, detached, terminals, uploads)]
    if tls is not None:
        children.append(Renewal(reactor, layout, own.hostname, peers, storage))
    for service in children:
        service.setServiceParent(root)
    daemon = Daemon(
        settings=settings,
        own=own,
        events=events,
        context=context,
        execution=execution,
        detached=detached,
        transfers=transfers,
        transfer=transfer,
        uploads=uploads,
        peers=peers,
        messages=messages,
        tasks=tasks,
        audit=audit,
        trust=trust,
        pairing=pairing,
        dashboard=dashboard,
        relay=relay,
        terminals=terminals,
        discovery=discovery,
        tls=tls,
        started=time.monotonic(),
    )
    return root, daemon


def tasks_on_demand(
    reactor: Any,
    settings: Settings,
    storage: Storage,
    events: Events,
    audit: Audit,
    transfer: Transfer,
    hostname: str,
) -> OnDemand[Tasks]:
    """The AI tasks, once there is one."""

    def make() -> Tasks:
        from loopsy.services.tasks import compose

        return compose(reactor, settings, storage, events, audit, transfer, hostname)

    return OnDemand("tasks", make, lambda: tasks_table.has_any(storage.reader))


def pairing_on_demand(
    reactor: Any,
    settings: Settings,
    storage: Storage,
    peers: Peers,
    trust: Trust,
    tls: OwnTls | None,
    events: Events,
) -> OnDemand[Pairing]:
    """Pairing, once somebody pairs, or where one is left to be settled."""

    def make() -> Pairing:
        from loopsy.services.pairing import Pairing

        return Pairing(
            reactor, settings, storage, peers, trust, lambda: None if tls is None else tls.fingerprint, events
        )

    return OnDemand("pairing", make, lambda: get_fact(storage.reader, PAIRING_PREPARED) is not None)


def node_identity(node_id: str, config: Config) -> NodeIdentity:
    """Who we are, as told to peers."""
    return NodeIdentity(
        node_id=node_id,
        hostname=config.server.hostname or socket.gethostname(),
        platform=sys.platform,
        version=WIRE_VERSION,
        port=config.server.port,
        capabilities=CAPABILITIES,
    )


def import_older(layout: Layout, database: Database) -> None:
    """Take over the JSON files of an existing install, once: in one transaction, then they are renamed.

    :raises DataDirError: a file can't be read; nothing was taken over.
    """
    found = older.found(layout)

    def store(db: Any) -> None:
        for entry in found.entries:
            context_table.keep(db, entry)
        for record in found.peers:
            peers_table.put(db, record)

    if found:
        database.write([store])
        text = "imported {entries} context entries and {peers} peers"
        Logger(namespace="loopsy").info(text, entries=len(found.entries), peers=len(found.peers))
    older.retire(layout)
