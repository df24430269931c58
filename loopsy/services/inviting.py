"""The inviter's session: the machine of ``core.pairing_inviter``, with a clock and questions that wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from loopsy.core import pairing as rules
from loopsy.core import pairing_inviter as machine
from loopsy.core.pairing_inviter import ATTEMPTS, Agreed, Comparing, Inviting, Keeping, OursGiven, Paired, TheirsGiven
from loopsy.core.pairing_keys import Entropy, Role
from loopsy.core.pairing_messages import Facts, FromJoiner, Hello, Poll, Wait, encode, from_joiner
from loopsy.core.pairing_states import Ended, Expired, Kept, Lost, No, NotKept, Step, Yes
from loopsy.errors import LoopsyError, RateLimited
from loopsy.wire import pairing as wire
from loopsy.wire.pairing import PairPeer, PairStatus

WAITING = 4
"""Questions held at once: the joiner asks one at a time, and leaves one behind when it must say something."""


@frozen(kw_only=True)
class NewPeer:
    """A pair that came of a session."""

    facts: Facts
    address: str
    their_key: str
    our_key: str


Keep = Callable[[NewPeer], Awaitable[str]]
"""Stores a pair; returns what the peer is called."""


class InviterSession:
    """One invite code, from ``POST /pair/start`` to the pair or the end."""

    def __init__(self, reactor: Any, number: int, own: Facts, code: str, entropy: Entropy, keep: Keep) -> None:
        self.number = number
        self.state: machine.Inviter = machine.begin(own, code, entropy)
        self.name: str | None = None
        self.when_changed: Callable[[], None] = lambda: None
        """Is called after whatever may show in the status."""
        self._reactor = reactor
        self._keep = keep
        self._address = ""
        self._changed: list[Deferred[None]] = []
        self._expiry: IDelayedCall | None = reactor.callLater(rules.SESSION_S, self._take, Expired())
        self._silence: IDelayedCall | None = None

    @property
    def is_over(self) -> bool:
        """Whether a new session may begin."""
        return isinstance(self.state, Paired | Ended)

    # -- what the joiner says ---------------------------------------------------------------------------------------
    async def receive(self, data: bytes, address: str) -> bytes:
        """A message and its answer; a Poll is held until there is something to tell.

        :raises LoopsyError: why there is no answer.
        """
        message = from_joiner(data)
        answer = self._hear(message, address)
        if isinstance(message, Poll) and isinstance(answer.say, Wait) and len(self._changed) < WAITING:
            await self._change()
            answer = self._hear(message, address)
        if isinstance(self.state, Keeping) and answer.refusal is None:
            await self._stored()
            answer = self._hear(message, address)
        if answer.refusal is not None:
            raise answer.refusal
        assert answer.say is not None
        return encode(answer.say)

    def _hear(self, message: FromJoiner, address: str) -> Step[machine.Inviter]:
        was_bound = not isinstance(self.state, Inviting)
        step = machine.receive(self.state, message)
        if isinstance(step.state, Comparing) and not was_bound:
            self._address = address
        is_ours = not isinstance(message, Hello) and step.refusal is None
        self._enter(step.state)
        if is_ours:
            self._heard()
        return step

    async def _stored(self) -> None:
        """The keys are on disk, or can't be. Asked twice, it is done once."""
        if self.name is not None:
            if len(self._changed) >= WAITING:
                raise RateLimited("too many questions at once", retry_after=1)
            while isinstance(self.state, Keeping):
                await self._change()
            return
        self.name = ""
        state = self.state
        assert isinstance(state, Keeping)
        agreement = state.agreement
        new = NewPeer(
            facts=state.joiner,
            address=self._address,
            their_key=agreement.key(Role.JOINER),
            our_key=agreement.key(Role.INVITER),
        )
        try:
            self.name = await self._keep(new)
        except Exception as error:
            self._take(NotKept(f"the keys could not be stored: {error}"))
        else:
            self._enter(machine.happened(self.state, Kept()).state)

    # -- what the human and the clock say ---------------------------------------------------------------------------
    def decide(self, event: Yes | No) -> None:
        """The human here said something.

        :raises LoopsyError: it is too late for that.
        """
        step = self._take(event)
        if step.refusal is not None:
            raise step.refusal

    def _take(self, event: object) -> Step[machine.Inviter]:
        step = machine.happened(self.state, event)
        self._enter(step.state)
        return step

    def _enter(self, state: machine.Inviter) -> None:
        changed, self.state = type(state) is not type(self.state), state
        if self.is_over:
            self.close()
        if changed:
            waiting, self._changed = self._changed, []
            for waiter in waiting:
                waiter.callback(None)
        self.when_changed()

    def _change(self) -> Deferred[None]:
        """Fires when the state has changed, or the longest hold is over."""
        waiter: Deferred[None] = Deferred()
        timer = self._reactor.callLater(rules.POLL_S, self._let_go, waiter)
        waiter.addBoth(lambda _: timer.cancel() if timer.active() else None)
        self._changed.append(waiter)
        return waiter

    def _let_go(self, waiter: Deferred[None]) -> None:
        if waiter in self._changed:
            self._changed.remove(waiter)
            waiter.callback(None)

    def _heard(self) -> None:
        """The joiner is there; it must say something again before long."""
        if self._silence is not None and self._silence.active():
            self._silence.cancel()
        self._silence = None if self.is_over else self._reactor.callLater(rules.SILENCE_S, self._take, Lost())

    def close(self) -> None:
        """Let go of timers; whoever still waits is answered."""
        for timer in (self._expiry, self._silence):
            if timer is not None and timer.active():
                timer.cancel()
        self._expiry = self._silence = None

    def stop(self) -> None:
        """The daemon stops."""
        self.close()
        for waiter in list(self._changed):
            self._let_go(waiter)

    # -- for the commands -------------------------------------------------------------------------------------------
    @property
    def sas(self) -> str | None:
        """The number to compare, while it is."""
        return self.state.agreement.sas if isinstance(self.state, machine.BOUND) else None

    def status(self) -> PairStatus:
        """How it stands."""
        state, bound = self.state, isinstance(self.state, machine.BOUND)
        return PairStatus(
            role=wire.INVITER,
            state=NAMES[type(state)],
            session=self.number,
            invite_code=state.code if isinstance(state, Inviting) else None,
            tries_left=ATTEMPTS - state.wrong if isinstance(state, Inviting) else None,
            sas=self.sas if not isinstance(state, Paired) else None,
            their_yes=isinstance(state, TheirsGiven | Agreed | Keeping),
            peer=shown(state.joiner, self._address, self.name) if bound else None,  # type: ignore[union-attr]
            fault=fault(state.refusal()) if isinstance(state, Ended) else None,
        )


NAMES = {
    Inviting: wire.INVITING,
    Comparing: wire.COMPARING,
    TheirsGiven: wire.COMPARING,
    OursGiven: wire.CONFIRMED,
    Agreed: wire.FINISHING,
    Keeping: wire.FINISHING,
    Paired: wire.PAIRED,
    Ended: wire.ENDED,
}


def shown(facts: Facts, address: str, name: str | None) -> PairPeer:
    """The other side, for people."""
    return PairPeer(
        hostname=facts.name,
        node_id=facts.node_id,
        address=address,
        port=facts.port,
        fingerprint=facts.fingerprint or None,
        name=name or None,
    )


def fault(error: LoopsyError) -> wire.PairFault:
    """An end, for people."""
    left = error.details.get("left")
    return wire.PairFault(
        code=error.code, message=error.message, hint=error.hint, tries_left=left if isinstance(left, int) else None
    )
