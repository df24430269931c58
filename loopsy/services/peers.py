"""The peer book as a service: kept on disk, kept fresh by the prober, asked by the gateway."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from loopsy.client.peer import PeerClient, Target
from loopsy.client.pins import normal
from loopsy.core import peers as rules
from loopsy.core.around import Around, not_paired
from loopsy.core.peers import Book, Record
from loopsy.core.principals import PeerPrincipal, Principal
from loopsy.errors import HandshakeFailed, InvalidRequest, LoopsyError, PeerNotFound, Unauthenticated
from loopsy.services.clock import now_ms
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.store import peers as table
from loopsy.store.database import get_fact, set_fact
from loopsy.wire.peers import OFFLINE, ONLINE, AddPeer, NodeIdentity, Peer
from loopsy.wire.status import PeerCounts
from loopsy.wire.trust import DEFAULT_SCOPES

FROM_CONFIG = "manual-peers"
"""A fact: the endpoints that are in the book only because ``discovery.manualPeers`` names them, as JSON."""
AFTER_PAIRING_S = 1.0
"""The other side files our key in the same moment: asked at once, it would not know it yet."""
Watcher = Callable[[Record, bool], None]
"""Is told of a record, and whether it is gone."""


class Peers(Service):
    """Who is known, and how they are."""

    name = "peers"
    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        settings: Settings,
        storage: Storage,
        client: PeerClient,
        own: NodeIdentity,
        around: Around | None = None,
    ) -> None:
        """``around``: what discovery finds."""
        self.own = own
        self._around = Around(own.node_id) if around is None else around
        self.client = client
        self._reactor = reactor
        self._settings = settings
        self._storage = storage
        self._book = Book(table.load(storage.reader))
        self._probes: dict[str, IDelayedCall] = {}
        self.last_used: dict[str, int] = {}
        """When a peer's key was last presented here, by name (ms since the epoch); the edge writes it."""
        self._introduced: set[str] = set()
        """Node ids that know us since this daemon started."""
        self._claimed: dict[str, str] = {}
        """By node id: the named peer that a nameless one, unproved, said it was."""
        self._watchers: list[Watcher] = []
        found = json.loads(get_fact(storage.reader, FROM_CONFIG) or "[]")
        self._from_config: set[tuple[str, int]] = {(address, port) for address, port in found}
        settings.when_changed(self._take_up_config)

    # -- life -------------------------------------------------------------------------------------------------------
    def startService(self) -> None:
        """Take up the configured peers and start probing."""
        super().startService()
        self._take_up_config()
        for record in self._book.all():
            self._schedule(record, 0.0)

    async def stopService(self) -> None:  # our parent awaits it
        """Stop probing and close the connections."""
        super().stopService()
        for call in self._probes.values():
            call.cancel()
        self._probes.clear()
        await self.client.close()

    def _take_up_config(self) -> None:
        self.client.forget_others({normal(pin) for pin in self._settings.config.tls.pinned_certs.values()})
        configured = self._settings.config.discovery.manual_peers
        before = set(self._from_config)
        for endpoint in before - {(peer.address, peer.port) for peer in configured}:
            self._drop(endpoint)
        for peer in configured:
            known = self._book.at(peer.address, peer.port)
            if known is None and peer.hostname is not None:
                known = self._book.named(peer.hostname)
            if known is None:
                self._from_config.add((peer.address, peer.port))
            record = known or rules.manual(peer.address, peer.port, peer.hostname, None)
            record = evolve(
                record, address=peer.address, port=peer.port, manually_added=True, name=peer.hostname or record.name
            )
            if record != known:
                self._file(record)
                self._schedule(record, 0.0)
        if self._from_config != before:
            text = json.dumps(sorted(self._from_config))
            self._logged(self._storage.write(partial(set_fact, name=FROM_CONFIG, value=text)))

    def _drop(self, endpoint: tuple[str, int]) -> None:
        """The config no longer names a peer: it leaves the book, unless we have a key or pin for it."""
        record = self._book.at(*endpoint)
        auth, pins = self._settings.config.auth, self._settings.config.tls.pinned_certs
        if record is not None and record.name in {*auth.allowed_keys, *auth.peer_keys, *pins}:
            return  # it is looked at again when its keys go
        self._from_config.discard(endpoint)
        if record is not None:
            self._logged(self._strike(record))

    # -- the book ---------------------------------------------------------------------------------------------------
    def resolve(self, word: str) -> Record:
        """Who is meant.

        :raises PeerNotFound: :raises InvalidRequest:
        """
        try:
            return self._book.resolve(word)
        except PeerNotFound as error:
            raise not_paired(word, self._strangers()) or error from None

    def target(self, record: Record) -> Target:
        """Where it is and the key for it."""
        auth, pins = self._settings.config.auth, self._settings.config.tls.pinned_certs
        key = rules.key_for(record, self._book, auth.peer_keys, auth.allowed_keys, pins)
        pin = pins.get(record.name) if record.name else None
        return Target(record.address, record.port, key, record.label, None if pin is None else normal(pin))

    def keyed(self, record: Record) -> Target:
        """The same, for requests that need the key.

        :raises Unauthenticated: there is none.
        """
        target = self.target(record)
        if target.key is not None:
            return target
        claimed = self._claimed.get(record.node_id)
        if claimed is None:
            hint = "pair with it: loopsy pair (or, by hand, loopsy connect)"
            raise Unauthenticated(f"there is no key for {record.label}", hint=hint)
        raise Unauthenticated(
            f"{record.label} says that it is {claimed}, and nothing proves it, so it does not get {claimed}'s key",
            hint=f"if it is: loopsy peers add {record.address}:{record.port} --name {claimed}",
        )

    def key_name(self, record: Record) -> str | None:
        """The name under which the key is filed that this peer gets."""
        auth, pins = self._settings.config.auth, self._settings.config.tls.pinned_certs
        return rules.key_name(record, self._book, {**auth.allowed_keys, **auth.peer_keys}, pins)

    def is_trusted(self, name: str) -> bool:
        """Whether a key is filed under ``name``."""
        auth = self._settings.config.auth
        return name in auth.allowed_keys or name in auth.peer_keys

    def holding(self, name: str) -> Record | None:
        """The peer that gets the key filed under ``name``."""
        return next((record for record in self._book.all() if self.key_name(record) == name), None)

    def when_changed(self, watcher: Watcher) -> None:
        """Call ``watcher`` after each change of a record: its place, name or status, or that it answers again."""
        self._watchers.append(watcher)

    def _tell(self, record: Record, is_gone: bool = False) -> None:
        for watcher in self._watchers:
            watcher(record, is_gone)

    def records(self) -> tuple[Record, ...]:
        """Everyone, as the book has them."""
        return tuple(self._book.all())

    def list(self) -> tuple[Peer, ...]:
        """Everyone, as the wire shows them."""
        return tuple(self._shown(record) for record in self._book.all())

    def everyone(self) -> tuple[Peer, ...]:
        """The book, with what is announced of its peers; then who was found or offered, and isn't in it."""
        return (*map(self._around.with_news, self.list()), *self._strangers())

    def _strangers(self) -> tuple[Peer, ...]:
        book = self._book.all()
        return self._around.strangers({r.node_id for r in book}, {r.endpoint for r in book})

    def shared_with(self, principal: PeerPrincipal) -> tuple[Peer, ...]:
        """What a peer is told: the others that we are paired with, and where they are."""
        if not self._settings.config.discovery.share_peers:
            return ()
        return tuple(
            rules.shared(record)
            for record in self._book.all()
            if record.name != principal.name and record.is_identified and self.target(record).key is not None
        )

    def _shown(self, record: Record) -> Record:
        """A record with what the config and the requests of late say of it."""
        target, auth = self.target(record), self._settings.config.auth
        scopes = None
        if record.name is not None and record.name in auth.allowed_keys:
            scopes = tuple(auth.scopes.get(record.name, DEFAULT_SCOPES))
        used = self.last_used.get(record.name or "", record.last_used)
        return evolve(record, trusted=target.key is not None, pin=target.pin, scopes=scopes, last_used=used)

    def counts(self) -> PeerCounts:
        """How many, by status."""
        statuses = [record.status for record in self._book.all()]
        return PeerCounts(total=len(statuses), online=statuses.count(ONLINE), offline=statuses.count(OFFLINE))

    def node_of(self, principal: Principal) -> str:
        """The node id behind a caller: ours, or the peer's (its name, until its id is known)."""
        if not isinstance(principal, PeerPrincipal):
            return self.own.node_id
        record = self._book.named(principal.name)
        return record.node_id if record is not None and record.is_identified else principal.name

    async def add(self, request: AddPeer) -> Peer:
        """File a peer that the user names; on disk when this returns.

        :raises InvalidRequest: it is this machine.
        """
        if request.node_id == self.own.node_id:
            raise InvalidRequest("nodeId: this is the node's own id")
        known = self._book.at(request.address, request.port)
        record = rules.manual(request.address, request.port, request.hostname, request.node_id)
        if known is not None:
            record = evolve(known, manually_added=True, name=request.hostname or known.name)
        await self._file(record)
        self._schedule(record, 0.0)
        return self._shown(record)

    async def remove(self, word: str) -> Record:
        """Strike a peer; gone from disk when this returns.

        :raises PeerNotFound:
        """
        record = self._book.resolve(word)
        await self._strike(record)
        return record

    async def set_labels(self, word: str, labels: Collection[str]) -> Peer:
        """Give a peer these labels and no others; on disk when this returns.

        :raises PeerNotFound: :raises InvalidRequest: several are meant.
        """
        record = evolve(self.resolve(word), labels=tuple(sorted(set(labels))))
        await self._file(record)
        self._schedule(record, rules.INTERVAL_S)  # a probe under way finds another record, and gives up
        return self._shown(record)

    def _strike(self, record: Record) -> Deferred[Any]:
        self._book.remove(record.node_id)
        self._forget(record.node_id)
        self._tell(record, is_gone=True)
        return self._storage.write(partial(table.delete, node_id=record.node_id))

    async def met(self, identity: NodeIdentity, address: str, principal: Principal) -> NodeIdentity:
        """A caller introduces itself. Its name is its key's; the address is the connection's.

        :raises InvalidRequest: it claims to be us, or a peer that has another key.
        """
        if identity.node_id == self.own.node_id:
            raise InvalidRequest("nodeId: this is the node's own id")
        name = principal.name if isinstance(principal, PeerPrincipal) else None
        same, there = self._book.get(identity.node_id), self._book.at(address, identity.port)
        if same is not None and _is_anothers(same, name):
            raise InvalidRequest(f"nodeId: {identity.node_id} is another peer's")
        if there is not None and _is_anothers(there, name):
            there = None  # two behind one address, or a name of the user's for somebody else
        base = (
            (self._book.named(name) if name else None)
            or same
            or there
            or evolve(rules.manual(address, identity.port, name, None), manually_added=False)
        )
        record = evolve(
            rules.identified(base, identity, now_ms()), address=address, port=identity.port, name=name or base.name
        )
        await self._file(record, instead_of=base.node_id)
        self._schedule(record, rules.INTERVAL_S)
        return self.own

    def _file(self, record: Record, instead_of: str | None = None) -> Deferred[Any]:
        record = self._book.with_labels(record, instead_of)
        gone = self._book.put(record, instead_of)
        for node_id in gone:
            self._forget(node_id)
        self._tell(record)

        def store(db: Any) -> None:
            for node_id in gone:
                table.delete(db, node_id)
            table.put(db, record)

        return self._logged(self._storage.write(store))

    def _logged(self, done: Deferred[Any]) -> Deferred[Any]:
        done.addErrback(self._not_stored)
        return done

    def _not_stored(self, failure: Any) -> Any:
        self.log.error("the peer book could not be written: {error}", error=failure.value)
        return failure if not isinstance(failure.value, LoopsyError) else None

    def _forget(self, node_id: str) -> None:
        call = self._probes.pop(node_id, None)
        if call is not None:
            call.cancel()
        self._introduced.discard(node_id)
        self._claimed.pop(node_id, None)

    # -- the prober -------------------------------------------------------------------------------------------------
    def knows(self, node_id: str) -> bool:
        """Whether that node is in the book."""
        return self._book.get(node_id) is not None

    def announced(self, node_id: str) -> None:
        """Somebody says on the LAN that it is this peer: ask it now, if that may change anything."""
        record = self._book.get(node_id)
        if record is None:
            return
        is_elsewhere = record.endpoint not in self._around.places_of(node_id)
        if is_elsewhere or record.failure_count or record.status != ONLINE:
            self._schedule(record, 0.0)

    def _schedule(self, record: Record, wait: float) -> None:
        if not self.running:
            return
        call = self._probes.pop(record.node_id, None)
        if call is not None:
            call.cancel()
        self._probes[record.node_id] = self._reactor.callLater(wait, self._probe_now, record.node_id)

    def _probe_now(self, node_id: str) -> None:
        self._probes.pop(node_id, None)
        Deferred.fromCoroutine(self._probe(node_id)).addErrback(
            lambda failure: self.log.failure("a probe failed", failure)
        )

    async def _probe(self, node_id: str) -> None:
        record = self._book.get(node_id)
        if record is None:
            return
        began = self._reactor.seconds()
        updated = await self._look(record)
        if self._book.get(node_id) is not record:
            return  # it introduced itself, or was removed, meanwhile
        if rules.lasting(updated) != rules.lasting(record):
            self.log.info("peer {label} is {status}", label=updated.label, status=updated.status)
            self._file(updated, instead_of=node_id)
        else:
            self._book.put(updated)
            if record.failure_count and not updated.failure_count:
                self._tell(updated)  # it was away for less than it takes to be called offline
        # from one question to the next, however long the answer took: so a dead machine is offline within 50 s
        self._schedule(updated, max(0.0, rules.probe_wait(updated) - (self._reactor.seconds() - began)))

    async def _look(self, record: Record) -> Record:
        """Ask after a peer; learn who it is, and tell it who we are, where we have a key."""
        target = self.target(record)
        try:
            health = await self.client.health(target)
        except LoopsyError:
            return await self._elsewhere(record, target)
        if health.node_id == self.own.node_id:
            return rules.missed(record)
        if health.node_id != record.node_id:
            if record.is_identified and not record.manually_added:
                return rules.missed(record)  # another machine has that address now
            known = self._book.get(health.node_id)
            if known is not None and known.name is not None:
                return self._known_already(record, known)
            record = evolve(record, node_id=health.node_id)
        record = rules.heard(record, now_ms())
        if target.key is None or record.node_id in self._introduced:
            return record
        return await self._introduce(record, target)

    async def _elsewhere(self, record: Record, target: Target) -> Record:
        """A peer does not answer where it was. If it is pinned, whoever shows its certificate at a place where it is
        announced is it. One without a pin can't prove itself, so it stays where the user, or its own key, said."""
        for address, port in self._around.places_of(record.node_id) if target.pin is not None else ():
            if (address, port) == record.endpoint:
                continue
            try:
                health = await self.client.health(evolve(target, address=address, port=port))
            except LoopsyError:
                continue
            if health.node_id == record.node_id:
                self.log.info("{label} has moved to {address}", label=record.label, address=address)
                return rules.heard(evolve(record, address=address, port=port), now_ms())
        return rules.missed(record)

    def _known_already(self, record: Record, known: Record) -> Record:
        """A manual peer says that it is one with a name, and shows no key. While that one answers at its own address, a
        nameless one is taken for its second address, which nothing is sent to. Else it may be anybody: the named peer
        stays where it was, and its key goes to no other address than the user, or the holder of its key, told."""
        if record.name is None and known.status == ONLINE:
            return known
        if self._claimed.get(record.node_id) != known.label:
            self._claimed[record.node_id] = known.label
            self.log.warn("{label} says that it is {known}", label=record.label, known=known.label)
        return rules.missed(record)

    async def _introduce(self, record: Record, target: Target) -> Record:
        try:
            identity = await self.client.handshake(target, self.own)
            if identity.node_id != record.node_id:
                raise HandshakeFailed(f"{record.label} gave two node ids")
        except LoopsyError as error:
            self.log.warn("no handshake with {label}: {error}", label=record.label, error=error)
            return record
        self._introduced.add(identity.node_id)
        return rules.identified(record, identity, now_ms())

    async def trusted(self, node: NodeIdentity, address: str, name: str) -> None:
        """A peer was paired under ``name``; on disk when this returns."""
        base = self._book.get(node.node_id) or rules.manual(address, node.port, name, node.node_id)
        record = rules.identified(evolve(base, name=name, pinned_at=now_ms(), manually_added=True), node, now_ms())
        self._introduced.discard(node.node_id)
        await self._file(evolve(record, address=address, port=node.port))
        self._schedule(record, AFTER_PAIRING_S)

    async def distrusted(self, record: Record) -> None:
        """Its keys are gone: it stays in the book as somebody we know of."""
        self._introduced.discard(record.node_id)
        known = evolve(record, name=None, pinned_at=None, trusted=False)
        await self._file(known)
        self._schedule(known, rules.INTERVAL_S)  # a probe that is under way finds another record, and gives up

    def answered(self, record: Record) -> None:
        """The gateway reached it: no need to wait for the next probe to see it return."""
        if record.status != ONLINE:
            self._schedule(record, 0.0)


def _is_anothers(record: Record, name: str | None) -> bool:
    """Whether a caller whose key is filed under ``name`` has no claim to the record. The own key (None) has to all."""
    return name is not None and record.name is not None and record.name != name
