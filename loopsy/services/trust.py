"""Who is trusted: the keys, pins and scopes of each peer in ``config.yaml``, changed as one and in use at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from loopsy.client.peer import Target
from loopsy.client.pins import SEPARATOR, normal
from loopsy.core import rotation
from loopsy.core.peers import Record
from loopsy.core.principals import RESERVED
from loopsy.errors import Forbidden, InternalError, InvalidRequest, LoopsyError, PeerNotFound, Unauthenticated
from loopsy.services.clock import now_ms
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.store import configfile
from loopsy.store.database import delete_fact, facts_below, get_fact, set_fact
from loopsy.wire import urls
from loopsy.wire.peers import NodeIdentity
from loopsy.wire.trust import DEFAULT_SCOPES, SCOPES, Half, Keep, Probe, Probed, Revoked, Rotated, Trusted

Edit = tuple[Sequence[str], Any]
KEYS_MADE = "keys-made:"
"""Facts with this prefix say when the keys of a peer were made (ms since the epoch), for `loopsy doctor`."""
PENDING = "pending-keys:"
"""Facts with this prefix hold the keys of a peer that wait for their first use."""


class Trust:
    """Changes of trust, one after the other: each is on disk and in use when it returns."""

    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, peers: Peers, storage: Storage) -> None:
        self._reactor = reactor
        self._settings = settings
        self._peers = peers
        self._storage = storage
        self._lock = settings.editing
        self.load_pending()

    async def keep(
        self, *, name: str, node: NodeIdentity, address: str, their_key: str, our_key: str, pin: str | None
    ) -> None:
        """Trust a node under ``name``: it presents ``their_key`` to us, we present ``our_key`` to it, and its
        certificate has the fingerprint ``pin`` (None: it speaks plain HTTP).

        :raises ConfigError: config.yaml can't be changed; all stays as it was.
        """
        await self._change(
            (("auth", "allowedKeys", name), their_key),
            (("auth", "peerKeys", name), our_key),
            (("tls", "pinnedCerts", name), pin),
        )
        await self._keys_are_new(name)
        await self._peers.trusted(node, address, name)

    async def _keys_are_new(self, name: str) -> None:
        """None is pending any more, in memory and on disk."""
        self._settings.set_pending(name, None)
        await self._storage.write(partial(delete_fact, name=f"{PENDING}{name}"))
        await self._storage.write(partial(_note_new_keys, name=name, now=now_ms()))

    async def probe(self, asked: Probe) -> Probed:
        """What is at an address, and whether it takes a key. What is learnt here proves nothing yet.

        :raises PeerUnreachable: nobody is there.
        """
        client = self._peers.client
        fingerprint = await client.fingerprint_of(asked.address, asked.port)
        target = Target(asked.address, asked.port, asked.key, f"{asked.address}:{asked.port}", fingerprint)
        health = await client.health(target)
        found = Probed(node_id=health.node_id, fingerprint=fingerprint)
        if asked.key is None:
            return found
        try:
            identity = await client.ask(target, b"GET", urls.IDENTITY, NodeIdentity)
        except (Unauthenticated, Forbidden):
            return evolve(found, takes_key=False)
        return evolve(found, takes_key=True, hostname=identity.hostname, version=identity.version)

    async def keep_by_hand(self, asked: Keep) -> Trusted:
        """Trust a node whose keys were agreed on by hand; what it lacks to be of use is told by a probe.

        :raises PeerUnreachable: it isn't there, so it can't be told apart from another. :raises InvalidRequest:
        """
        if asked.name in RESERVED:
            raise InvalidRequest(f"name: {asked.name!r} means this machine itself, or nobody")
        client = self._peers.client
        pin = None if asked.pin is None else normal(asked.pin)
        health = await client.health(Target(asked.address, asked.port, None, asked.name, pin))
        node = NodeIdentity(node_id=health.node_id, hostname=asked.name, version=health.version, port=asked.port)
        await self.keep(
            name=asked.name,
            node=node,
            address=asked.address,
            their_key=asked.their_key,
            our_key=asked.our_key,
            pin=pin,
        )
        return Trusted(name=asked.name, scopes=DEFAULT_SCOPES, pinned=pin)

    async def revoke(self, word: str) -> Revoked:
        """Trust a peer no longer: its key opens nothing, ours is forgotten, and what runs for it is cut.

        :raises PeerNotFound: nobody is called so.
        """
        record, name = self._named(word)
        auth = self._settings.config.auth
        edits: list[Edit] = [(("auth", section, name), None) for section in ("allowedKeys", "peerKeys", "scopes")]
        await self._change(*edits, (("tls", "pinnedCerts", name), None))
        self._settings.set_pending(name, None)
        await self._storage.write(partial(delete_fact, name=f"{PENDING}{name}"))
        await self._storage.write(partial(delete_fact, name=f"{KEYS_MADE}{name}"))
        if record is not None:
            await self._peers.distrusted(record)
        return Revoked(success=name in auth.allowed_keys or name in auth.peer_keys, name=name)

    async def set_scopes(self, word: str, scopes: Sequence[str]) -> Trusted:
        """Let a peer into just these areas.

        :raises PeerNotFound: nobody is called so, or it has no key of ours.
        """
        _, name = self._named(word)
        if name not in self._settings.config.auth.allowed_keys:
            raise PeerNotFound(f"{name} has no key here, so it may do nothing")
        ordered = [scope for scope in SCOPES if scope in scopes]
        await self._change((("auth", "scopes", name), ordered))
        return Trusted(name=name, scopes=tuple(ordered), pinned=self._settings.config.tls.pinned_certs.get(name))

    async def announced(self, name: str, fingerprint: str) -> None:
        """A pinned peer will show another certificate: both are good from now on."""
        pin = self._settings.config.tls.pinned_certs.get(name)
        if pin is None:
            return  # it was never pinned, and an announcement is no reason to begin
        known = normal(pin).split(SEPARATOR)
        if fingerprint not in known:
            both = SEPARATOR.join([known[-1], fingerprint])
            pins = self._settings.config.tls
            await self._change((("tls", "pinnedCerts", name), both), only_if=lambda: self._settings.config.tls == pins)

    # -- new keys (core/rotation.py has the protocol) ---------------------------------------------------------------
    def load_pending(self) -> None:
        """Take up the keys that waited for their first use when the daemon stopped."""
        for name, text in facts_below(self._storage.reader, PENDING).items():
            self._settings.set_pending(name, json.loads(text)["theirs"])

    async def rotate(self, word: str) -> Rotated:
        """Make new keys with a peer; in use here when this returns.

        :raises PeerNotFound: :raises PeerUnreachable: :raises LoopsyError: the peer's own.
        """
        record, name = self._named(word)
        old = self._old_keys(name)
        if record is None or old is None:
            raise PeerNotFound(f"{name} is not paired, so there are no keys to renew", hint="pair first: loopsy pair")
        private = ec.generate_private_key(ec.SECP256R1())
        mine = Half(public=rotation.public_half(private))
        target = self._peers.target(record)
        theirs = await self._peers.client.ask(target, b"POST", urls.TRUST_ROTATION, Half, mine)
        keys = rotation.agree(private, mine.public, theirs.public, theirs.public, old)
        changed = await self._change(
            (("auth", "allowedKeys", name), keys.responder),
            (("auth", "peerKeys", name), keys.initiator),
            only_if=lambda: self._old_keys(name) == old,
        )
        if not changed:
            raise PeerNotFound(f"{name} was revoked, or paired anew, before it answered; nothing was changed")
        await self._storage.write(partial(_note_new_keys, name=name, now=now_ms()))
        return Rotated(success=True, name=name, confirmed=await self._confirm(record))

    async def _confirm(self, record: Record) -> bool:
        """The first use of our new key makes the peer take its new ones."""
        try:
            await self._peers.client.ask(self._peers.target(record), b"GET", urls.IDENTITY, NodeIdentity)
        except LoopsyError as error:
            self.log.warn("{name} has not confirmed its new keys yet: {error}", name=record.label, error=error)
            return False
        return True

    async def offered(self, name: str, half: Half) -> Half:
        """A peer wants new keys: ours are pending, on disk, until it uses its new one.

        :raises InvalidRequest: its half is none.
        """
        present = self._old_keys(name)
        if present is None:
            raise Forbidden(f"there are no pair keys with {name} to renew")
        old = rotation.PairKeys(initiator=present.responder, responder=present.initiator)
        private = ec.generate_private_key(ec.SECP256R1())
        mine = rotation.public_half(private)
        keys = rotation.agree(private, half.public, mine, half.public, old)
        text = json.dumps({"theirs": keys.initiator, "ours": keys.responder})
        await self._storage.write(partial(set_fact, name=f"{PENDING}{name}", value=text))
        if self._old_keys(name) != present:
            raise Forbidden(f"there are no pair keys with {name} to renew")  # revoked, or paired anew, meanwhile
        self._settings.set_pending(name, keys.initiator)
        return Half(public=mine)

    def first_use(self, name: str) -> None:
        """A peer has used its new key: from now on only the new ones count."""
        Deferred.fromCoroutine(self._take_up(name)).addErrback(self._not_taken_up, name)

    def _not_taken_up(self, failure: Any, name: str) -> None:
        """The pending key goes on working; its next use tries again."""
        if failure.check(LoopsyError):
            self.log.error("new keys of {name} could not be stored: {error}", name=name, error=failure.value)
        else:
            self.log.failure("new keys of {name} could not be stored", failure, name=name)

    async def settled(self, name: str) -> None:
        """A peer has used its new key: returns when that one counts.

        :raises InternalError: it could not be stored.
        """
        await self._lock.run(lambda: None)
        text = get_fact(self._storage.reader, f"{PENDING}{name}")
        if text is not None and json.loads(text)["theirs"] != self._settings.config.auth.allowed_keys.get(name):
            raise InternalError("the new keys could not be stored here; the old ones still count")

    async def _take_up(self, name: str) -> None:
        text = get_fact(self._storage.reader, f"{PENDING}{name}")
        if text is None:
            return
        keys, old = json.loads(text), self._old_keys(name)
        await self._change(
            (("auth", "allowedKeys", name), keys["theirs"]),
            (("auth", "peerKeys", name), keys["ours"]),
            only_if=lambda: old is not None and self._old_keys(name) == old,
        )
        if get_fact(self._storage.reader, f"{PENDING}{name}") == text:  # else they wait again, for others
            await self._keys_are_new(name)

    def _old_keys(self, name: str) -> rotation.PairKeys | None:
        """The keys now in use, we being the initiator; None: not paired, or with a key that both share."""
        auth = self._settings.config.auth
        ours, theirs = auth.peer_keys.get(name), auth.allowed_keys.get(name)
        return None if ours is None or theirs is None else rotation.PairKeys(initiator=ours, responder=theirs)

    def _named(self, word: str) -> tuple[Record | None, str]:
        """Who is meant; a name that only stands in the config counts too."""
        auth = self._settings.config.auth
        try:
            record = self._peers.resolve(word)
        except PeerNotFound:
            if word in auth.allowed_keys or word in auth.peer_keys:
                return None, word
            raise
        return record, record.name or record.hostname

    async def _change(self, *edits: Edit, only_if: Callable[[], bool] = lambda: True) -> bool:
        """Whether it was done: what was decided on before a wait must still hold when its turn comes."""
        await self._lock.acquire()
        try:
            if not only_if():
                return False
            pool = self._reactor.getThreadPool()
            await deferToThreadPool(self._reactor, pool, configfile.change_all, self._settings.layout.config, edits)
            self._settings.reload()
            return True
        finally:
            self._lock.release()


def _note_new_keys(db: Any, *, name: str, now: int) -> None:
    set_fact(db, f"{KEYS_MADE}{name}", str(now))
