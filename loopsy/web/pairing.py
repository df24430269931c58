"""Pairing over HTTP: the user's verbs with the own key, and the joiner's half, which is open to anyone."""

from __future__ import annotations

from attrs import frozen

from loopsy.core.principals import Anyone, LocalOnly
from loopsy.services.daemon import Daemon
from loopsy.web.routes import Call, Routes
from loopsy.wire import urls
from loopsy.wire.pairing import BODY_LIMIT, ConfirmPairing, Invitation, JoinPairing, PairMessage, PairStatus


@frozen(eq=False)
class PairingArea:
    """Getting to know another machine."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("POST", urls.PAIR_START, access=LocalOnly(), answers=Invitation)
    def start(self, call: Call[None]) -> Invitation:
        """A new invite code."""
        return self.daemon.pairing.get().start()

    @routes.declare("POST", urls.PAIR_JOIN, access=LocalOnly(), takes=JoinPairing, answers=PairStatus)
    def join(self, call: Call[JoinPairing]) -> PairStatus:
        """Try a code on another machine."""
        call.note(peer=f"{call.body.address}:{call.body.port}")
        return self.daemon.pairing.get().join(call.body)

    @routes.declare("GET", urls.PAIR_STATUS, access=LocalOnly(), answers=PairStatus)
    def status(self, call: Call[None]) -> PairStatus:
        """How the pairing stands."""
        return self.daemon.pairing.get().status()

    @routes.declare("POST", urls.PAIR_CONFIRM, access=LocalOnly(), takes=ConfirmPairing, answers=PairStatus)
    def confirm(self, call: Call[ConfirmPairing]) -> PairStatus:
        """The user's yes or no to the number."""
        call.note(accept=call.body.accept)
        return self.daemon.pairing.get().confirm(call.body)

    @routes.declare("DELETE", urls.PAIR, access=LocalOnly(), answers=PairStatus)
    def cancel(self, call: Call[None]) -> PairStatus:
        """End the pairing."""
        return self.daemon.pairing.get().cancel()

    @routes.declare(
        "POST", urls.PAIR_INITIATE, access=Anyone(), takes=PairMessage, answers=PairMessage, body_limit=BODY_LIMIT
    )
    async def initiate(self, call: Call[PairMessage]) -> PairMessage:
        """A joiner's first message."""
        return PairMessage.of(await self.daemon.pairing.get().initiate(call.body.data, call.request.client.host))

    @routes.declare(
        "POST", urls.PAIR_MESSAGES, access=Anyone(), takes=PairMessage, answers=PairMessage, body_limit=BODY_LIMIT
    )
    async def messages(self, call: Call[PairMessage]) -> PairMessage:
        """A joiner's further messages."""
        return PairMessage.of(await self.daemon.pairing.get().message(call.body.data, call.request.client.host))
