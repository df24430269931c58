"""Who is trusted: the keys, pins and scopes of each peer in ``config.yaml``, changed as one and in use at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThreadPool

from loopsy.core.peers import Record
from loopsy.errors import PeerNotFound
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.store import configfile
from loopsy.wire.peers import NodeIdentity
from loopsy.wire.trust import SCOPES, Revoked, Trusted

Edit = tuple[Sequence[str], Any]


class Trust:
    """Changes of trust, one after the other: each is on disk and in use when it returns."""

    def __init__(self, reactor: Any, settings: Settings, peers: Peers) -> None:
        self._reactor = reactor
        self._settings = settings
        self._peers = peers
        self._lock = DeferredLock()

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
        await self._peers.trusted(node, address, name)

    async def revoke(self, word: str) -> Revoked:
        """Trust a peer no longer: its key opens nothing, ours is forgotten, and what runs for it is cut.

        :raises PeerNotFound: nobody is called so.
        """
        record, name = self._named(word)
        auth = self._settings.config.auth
        edits: list[Edit] = [(("auth", section, name), None) for section in ("allowedKeys", "peerKeys", "scopes")]
        await self._change(*edits, (("tls", "pinnedCerts", name), None))
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

    async def _change(self, *edits: Edit) -> None:
        await self._lock.acquire()
        try:
            pool = self._reactor.getThreadPool()
            await deferToThreadPool(self._reactor, pool, configfile.change_all, self._settings.layout.config, edits)
            self._settings.reload()
        finally:
            self._lock.release()
