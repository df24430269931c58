"""Tells of peers: who is shown otherwise than before, by the book or by the configuration."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from loopsy.services.events import Events
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.wire.peers import Peer


class PeerNews:
    """Compares what was told with what is shown. A sign of life alone is no news."""

    def __init__(self, peers: Peers, settings: Settings, events: Events) -> None:
        self._peers, self._events = peers, events
        self._told = {peer.node_id: lasting(peer) for peer in peers.everyone()}
        peers.when_changed(self.look)
        settings.when_changed(self.look)

    def look(self, *_: Any) -> None:
        """Something may have changed."""
        before, now = self._told, {peer.node_id: peer for peer in self._peers.everyone()}
        self._told = {node_id: lasting(peer) for node_id, peer in now.items()}
        for node_id in before.keys() - now.keys():
            gone = before[node_id]
            self._events.publish("peer.removed", {"nodeId": node_id, "hostname": gone.hostname, "name": gone.name})
        for node_id, peer in now.items():
            if before.get(node_id) != self._told[node_id]:
                self._events.publish("peer.changed", peer)


def lasting(peer: Peer) -> Peer:
    """A peer without what every request and probe changes."""
    return evolve(peer, last_seen=0, failure_count=0, last_used=None)
