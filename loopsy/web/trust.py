"""Trust over HTTP, for this machine's own user."""

from __future__ import annotations

from attrs import frozen

from loopsy.core.principals import AnyKey, LocalOnly, PeerPrincipal
from loopsy.errors import Forbidden
from loopsy.services.daemon import Daemon
from loopsy.web.routes import Call, Routes
from loopsy.wire import urls
from loopsy.wire.trust import Half, Keep, NextCertificate, Noted, Probe, Probed, Revoked, Rotated, SetScopes, Trusted


@frozen(eq=False)
class TrustArea:
    """Who is trusted with what."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("POST", urls.TRUST_PROBE, access=LocalOnly(), takes=Probe, answers=Probed)
    async def probe(self, call: Call[Probe]) -> Probed:
        """See what is at an address, and whether it takes a key."""
        call.note(address=call.body.address, port=call.body.port)
        return await self.daemon.trust.probe(call.body)

    @routes.declare("POST", urls.TRUST, access=LocalOnly(), takes=Keep, answers=Trusted)
    async def keep(self, call: Call[Keep]) -> Trusted:
        """Trust a node whose keys were agreed on by hand."""
        call.note(peer=call.body.name, address=call.body.address, port=call.body.port)
        return await self.daemon.trust.keep_by_hand(call.body)

    @routes.declare("POST", urls.TRUST_REVOKE, access=LocalOnly(), answers=Revoked)
    async def revoke(self, call: Call[None], peer: str) -> Revoked:
        """Trust a peer no longer, at once."""
        call.note(peer=peer)
        return await self.daemon.trust.revoke(peer)

    @routes.declare("PUT", urls.TRUST_SCOPES, access=LocalOnly(), takes=SetScopes, answers=Trusted)
    async def scopes(self, call: Call[SetScopes], peer: str) -> Trusted:
        """Let a peer into just these areas."""
        call.note(peer=peer, scopes=list(call.body.scopes))
        return await self.daemon.trust.set_scopes(peer, call.body.scopes)

    @routes.declare("POST", urls.TRUST_ROTATE, access=LocalOnly(), answers=Rotated)
    async def rotate(self, call: Call[None], peer: str) -> Rotated:
        """Make new keys with a peer."""
        call.note(peer=peer)
        return await self.daemon.trust.rotate(peer)

    @routes.declare("POST", urls.TRUST_CERTIFICATE, access=AnyKey(), takes=NextCertificate, answers=Noted)
    async def certificate(self, call: Call[NextCertificate]) -> Noted:
        """A peer says which certificate it will have next."""
        if not isinstance(call.principal, PeerPrincipal):
            raise Forbidden("only a peer can announce its certificate")
        call.note(fingerprint=call.body.fingerprint)
        await self.daemon.trust.announced(call.principal.name, call.body.fingerprint)
        return Noted(success=True)

    @routes.declare("POST", urls.TRUST_ROTATION, access=AnyKey(), takes=Half, answers=Half)
    async def rotation(self, call: Call[Half]) -> Half:
        """A peer makes new keys with us."""
        if not isinstance(call.principal, PeerPrincipal):
            raise Forbidden("only a peer can make new keys with this machine")
        return await self.daemon.trust.offered(call.principal.name, call.body)
