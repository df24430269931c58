"""The peer book over HTTP."""

from __future__ import annotations

from attrs import frozen

from loopsy.core.principals import AnyKey, LocalOnly, PeerPrincipal
from loopsy.services.daemon import Daemon
from loopsy.web.routes import Call, Routes
from loopsy.wire import urls
from loopsy.wire.peers import AddPeer, NodeIdentity, Peer, PeerList, PeerRemoved, SetLabels


@frozen(eq=False)
class PeersArea:
    """Who is known."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("GET", urls.PEERS, access=AnyKey(), answers=PeerList)
    def list(self, call: Call[None]) -> PeerList:
        """All known peers, and who was found; a peer is told of those that are paired."""
        if isinstance(call.principal, PeerPrincipal):
            return PeerList(peers=self.daemon.peers.shared_with(call.principal))
        return PeerList(peers=self.daemon.peers.everyone())

    @routes.declare("POST", urls.PEERS, access=LocalOnly(), takes=AddPeer, answers=Peer)
    async def add(self, call: Call[AddPeer]) -> Peer:
        """Add a peer by its address."""
        call.note(peer=f"{call.body.address}:{call.body.port}")
        return await self.daemon.peers.add(call.body)

    @routes.declare("DELETE", urls.PEER, access=LocalOnly(), answers=PeerRemoved)
    async def remove(self, call: Call[None], node_id: str) -> PeerRemoved:
        """Remove a peer."""
        call.note(peer=node_id)
        record = await self.daemon.peers.remove(node_id)
        return PeerRemoved(success=True, node_id=record.node_id)

    @routes.declare("PUT", urls.PEER_LABELS, access=LocalOnly(), takes=SetLabels, answers=Peer)
    async def label(self, call: Call[SetLabels], node_id: str) -> Peer:
        """Replace a peer's labels."""
        call.note(peer=node_id, labels=",".join(call.body.labels))
        return await self.daemon.peers.set_labels(node_id, call.body.labels)

    @routes.declare("POST", urls.HANDSHAKE, access=AnyKey(), takes=NodeIdentity, answers=NodeIdentity)
    async def handshake(self, call: Call[NodeIdentity]) -> NodeIdentity:
        """A peer says who it is, and hears who we are."""
        call.note(node=call.body.node_id)
        return await self.daemon.peers.met(call.body, call.request.client.host, call.principal)
