"""Pairing as a service: one session at a time, the user's commands on one side, the other daemon on the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from attrs import evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from loopsy.client.peer import PeerClient
from loopsy.config import DEFAULT_PORT
from loopsy.core import pairing as rules
from loopsy.core.pairing import Prepared
from loopsy.core.pairing_keys import Entropy, invite_code
from loopsy.core.pairing_messages import Facts, Hello, decode
from loopsy.core.pairing_states import NO_SESSION, No, Why, Yes
from loopsy.errors import InvalidRequest, LoopsyError, NoPairingSession, PairingBusy, PairingViolation
from loopsy.services.addresses import reachable
from loopsy.services.clock import now_ms
from loopsy.services.events import Events
from loopsy.services.inviting import InviterSession, NewPeer
from loopsy.services.joining import JoinerSession
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.services.settling import Settling
from loopsy.services.storage import Storage
from loopsy.wire.pairing import COMPARING, CONFIRMED, ConfirmPairing, Invitation, JoinPairing, PairPeer, PairStatus
from loopsy.wire.peers import NodeIdentity


class Keeps(Protocol):
    """Who files a new peer: its keys, its pin, its place in the book."""

    async def keep(
        self, *, name: str, node: NodeIdentity, address: str, their_key: str, our_key: str, pin: str | None
    ) -> None:
        """On disk and in use when this returns. ``their_key`` is what it presents to us."""


class Pairing(Service):
    """Owns the session and its timers."""

    name = "pairing"
    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        storage: Storage,
        peers: Peers,
        trust: Keeps,
        fingerprint: Callable[[], str | None],
        events: Events,
        entropy: Entropy = os.urandom,
    ) -> None:
        """``fingerprint`` tells our own certificate's, None while TLS is off."""
        self._reactor, self._settings = reactor, settings
        self._peers, self._trust = peers, trust
        self._fingerprint, self._entropy = fingerprint, entropy
        self._events, self._told = events, PairStatus()
        self._client: PeerClient = peers.client
        self._door = rules.Door()
        self._session: InviterSession | JoinerSession | None = None
        self._invited_until = 0
        self._addresses: tuple[str, ...] = ()
        self._count = 0
        self._settling = Settling(reactor, storage, self._client, self._keep_prepared)

    # -- life -------------------------------------------------------------------------------------------------------
    def startService(self) -> None:
        """Settle what an earlier run left."""
        super().startService()
        left = self._settling.left_over()
        if left is not None:
            self.log.info("a pairing with {name} is to be settled", name=left.node.hostname)
            Deferred.fromCoroutine(self._settle_left(left))

    async def _settle_left(self, left: Prepared) -> None:
        try:
            name = await self._settling.resume(left)
            self.log.info("paired with {name}: settled after a restart", name=name)
        except LoopsyError as error:
            self.log.warn("the pairing with {name} came to nothing: {error}", name=left.node.hostname, error=error)
        except Exception:
            self.log.failure("a pairing could not be settled")

    def stopService(self) -> None:
        """End the session; what is put aside stays for the next start."""
        super().stopService()
        self._settling.stop()
        if self._session is not None:
            self._session.stop()

    # -- this machine's user ----------------------------------------------------------------------------------------
    def start(self) -> Invitation:
        """A new code.

        :raises PairingBusy: a session is under way.
        """
        self._make_room()
        code = invite_code(self._entropy)
        self._invited_until = now_ms() + int(rules.SESSION_S * 1000)
        server = self._settings.config.server
        self._addresses = reachable(server.host, server.port, DEFAULT_PORT)
        self._session = InviterSession(self._reactor, self._count, self._facts(), code, self._entropy, self._keep_new)
        self._session.when_changed = self._tell
        self._tell()
        return Invitation(invite_code=code, expires_at=self._invited_until, addresses=self._addresses)

    def join(self, request: JoinPairing) -> PairStatus:
        """Try a code on another machine; how it goes is told by ``status``.

        :raises PairingBusy: a session is under way.
        """
        self._make_room()
        session = JoinerSession(
            self._reactor, self._count, self._client, self._facts(), request, self._entropy, self._settling.settle
        )
        self._session = session
        session.when_changed = self._tell
        self._tell()
        Deferred.fromCoroutine(session.run())
        return self.status()

    def _make_room(self) -> None:
        if self._session is not None and not self._session.is_over:
            raise PairingBusy("a pairing is under way here already", hint="to end that one: loopsy pair --cancel")
        self._count += 1

    def confirm(self, request: ConfirmPairing) -> PairStatus:
        """What the human said of the number.

        :raises InvalidRequest: a yes without its number. :raises NoPairingSession: :raises PairingRefused: the number
            is another than ours: that ends the session. :raises PairingEnded: it is too late, or too early.
        """
        session = self._current()
        if request.accept and request.sas is None:
            raise InvalidRequest("sas: a yes needs the number that was compared")
        if not request.accept:
            session.decide(No())
        elif session.sas is None or request.sas == session.sas:
            session.decide(Yes())  # without a number there is nothing to say yes to: the machine refuses
        else:
            session.decide(No(mismatch=True))
            kind, words = Why.MISMATCH.value
            raise kind(words)
        return self.status()

    def cancel(self) -> PairStatus:
        """End the session; the other side is told.

        :raises NoPairingSession: there is none. :raises PairingEnded: it is too late.
        """
        self._current().decide(No())
        return self.status()

    def _current(self) -> InviterSession | JoinerSession:
        if self._session is None or self._session.is_over:
            raise NoPairingSession(NO_SESSION.message, hint=NO_SESSION.hint)
        return self._session

    def status(self) -> PairStatus:
        """How it stands."""
        if self._session is None:
            return PairStatus()
        status = self._session.status()
        if status.peer is not None and status.state in (COMPARING, CONFIRMED):
            status = evolve(status, peer=self._as_known(status.peer))
        if isinstance(self._session, InviterSession):
            return evolve(status, expires_at=self._invited_until, addresses=self._addresses)
        return status

    def _tell(self) -> None:
        """Publish how it stands, if that is new. The code and the number are only for who asks: events are kept."""
        told, self._told = self._told, evolve(self.status(), invite_code=None, sas=None)
        if told != self._told:
            self._events.publish("pairing.changed", self._told)

    def _as_known(self, peer: PairPeer) -> PairPeer:
        """With the pair that would be replaced. A node id proves nothing: who claims another's is told of here."""
        auth = self._settings.config.auth
        keyed = {*auth.allowed_keys, *auth.peer_keys}
        known = [record for record in self._peers.list() if record.node_id == peer.node_id and record.name in keyed]
        return evolve(peer, replaces=known[0].name, paired_at=known[0].pinned_at) if known else peer

    # -- the other daemon -------------------------------------------------------------------------------------------
    async def initiate(self, data: bytes, address: str) -> bytes:
        """A joiner greets. Nothing is computed before it is clear that somebody waits for one.

        :raises LoopsyError: nobody waits; too many greet at once; or as the session says.
        """
        session = self._inviting()
        if not isinstance(decode(data), Hello):
            raise PairingViolation("that is no Hello")
        self._door.knock(address, self._reactor.seconds())
        return await session.receive(data, address)

    async def message(self, data: bytes, address: str) -> bytes:
        """A joiner goes on.

        :raises LoopsyError: as the session says.
        """
        session = self._inviting()
        if isinstance(decode(data), Hello):
            raise PairingViolation("a Hello goes to pair/initiate")
        return await session.receive(data, address)

    def _inviting(self) -> InviterSession:
        if not isinstance(self._session, InviterSession):
            raise NoPairingSession(NO_SESSION.message, hint="on that machine: loopsy pair")
        return self._session

    # -- what comes of it -------------------------------------------------------------------------------------------
    def _facts(self) -> Facts:
        own = self._peers.own
        return Facts(
            name=own.hostname,
            node_id=own.node_id,
            port=self._settings.config.server.port,
            fingerprint=self._fingerprint() or "",
        )

    async def _keep_new(self, new: NewPeer) -> str:
        node = rules.node_of(new.facts)
        return await self._keep(node, new.address, new.their_key, new.our_key, new.facts.fingerprint or None)

    async def _keep_prepared(self, ready: Prepared) -> str:
        return await self._keep(ready.node, ready.address, ready.their_key, ready.our_key, ready.pin)

    async def _keep(self, node: NodeIdentity, address: str, their_key: str, our_key: str, pin: str | None) -> str:
        config = self._settings.config
        known = {peer.name: peer.node_id for peer in self._peers.list() if peer.name is not None}
        keyed = {*config.auth.allowed_keys, *config.auth.peer_keys, *config.tls.pinned_certs}
        name = rules.name_for(node.node_id, node.hostname, known, keyed)
        await self._trust.keep(name=name, node=node, address=address, their_key=their_key, our_key=our_key, pin=pin)
        self.log.info("paired with {name} ({node}) at {address}", name=name, node=node.node_id, address=address)
        return name
