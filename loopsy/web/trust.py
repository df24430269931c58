"""Trust over HTTP, for this machine's own user."""

from __future__ import annotations

from attrs import frozen

from loopsy.core.principals import LocalOnly
from loopsy.services.daemon import Daemon
from loopsy.web.routes import Call, Routes
from loopsy.wire import urls
from loopsy.wire.trust import Revoked, SetScopes, Trusted


@frozen(eq=False)
class TrustArea:
    """Who is trusted with what."""

    daemon: Daemon
    routes = Routes()

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
