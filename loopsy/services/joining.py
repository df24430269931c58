"""The joiner's session: the machine of ``core.pairing_joiner``, speaking to the inviter's daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from loopsy.client.peer import PeerClient, Target
from loopsy.core import pairing as rules
from loopsy.core import pairing_joiner as machine
from loopsy.core.pairing import Prepared, prepare
from loopsy.core.pairing_joiner import Agreed, Comparing, Greeting, OursGiven, Paired, Proving
from loopsy.core.pairing_keys import Entropy
from loopsy.core.pairing_messages import Facts, FromJoiner, Hello, Poll, Reveal, encode, from_inviter
from loopsy.core.pairing_states import Ended, Expired, Kept, Lost, No, NotKept, Refusal, Step, Why, Yes
from loopsy.errors import LoopsyError, PairingExpired, PairingViolation, PeerTimeout, PeerUnreachable, RateLimited
from loopsy.services.clock import now_ms
from loopsy.services.inviting import fault, shown
from loopsy.wire import pairing as wire
from loopsy.wire import urls
from loopsy.wire.pairing import JoinPairing, PairMessage, PairStatus

PATIENCE_S = 30.0
"""How long a crowded inviter (429) is asked again."""
AGAIN_S = 1.0
SEEN_S = 6.0
"""A server that does not know TLS may just wait for more. Then it is taken for a plain one; if it is not, the
transcript tells."""
UNHEARD = (PeerUnreachable, PeerTimeout)

Settle = Callable[[Prepared], Awaitable[str]]
"""Puts it aside, ends the pairing with the inviter, stores it; returns what the peer is called."""


async def seen_fingerprint(reactor: Any, client: PeerClient, address: str, port: int) -> str | None:
    """The fingerprint of the certificate that the inviter shows, None where it speaks plain HTTP. It proves nothing by
    itself: the transcript must hold the same, and every later request must meet the same certificate.
    """
    looked = Deferred.fromCoroutine(client.fingerprint_of(address, port))
    looked.addTimeout(SEEN_S, reactor, onTimeoutCancel=lambda _, __: None)
    try:
        return await looked
    except UNHEARD:
        return None  # it hung up on TLS, or is not there at all: then the greeting will tell


class JoinerSession:
    """One try with a code, from ``POST /pair/join`` to the pair or the end."""

    log = Logger()

    def __init__(
        self, reactor: Any, number: int, client: PeerClient, own: Facts, request: JoinPairing, entropy: Entropy,
        settle: Settle,
    ) -> None:  # fmt: skip
        self.number = number
        self._state: machine.Joiner | None = None
        self.when_changed: Callable[[], None] = lambda: None
        """Is called after each change of the state."""
        self.name: str | None = None
        self._reactor, self._client = reactor, client
        self._own, self._request, self._entropy = own, request, entropy
        self._settle = settle
        self._target = Target(request.address, request.port)
        self._until = now_ms() + int(rules.SESSION_S * 1000)
        self._next: FromJoiner | None = None
        self._asking: Deferred[Any] | None = None
        self._expiry: IDelayedCall = reactor.callLater(rules.SESSION_S, self._take, Expired())

    @property
    def state(self) -> machine.Joiner | None:
        """Where it is; None before it has greeted."""
        return self._state

    @state.setter
    def state(self, state: machine.Joiner | None) -> None:
        self._state = state
        self.when_changed()

    @property
    def is_over(self) -> bool:
        """Whether a new session may begin."""
        return isinstance(self.state, Paired | Ended)

    # -- the conversation -------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """All of it, to the pair or the end; never raises."""
        try:
            await self._greet()
            await self._compare()
            await self._finish()
        except LoopsyError as error:
            self._end(error)
        except Exception:
            self.log.failure("a pairing failed")
            self._end(LoopsyError("something went wrong inside the daemon; its log has the details"))
        finally:
            self.stop()

    def _end(self, error: LoopsyError) -> None:
        if not self.is_over:
            self.state = machine.refused(self.state, Refusal(error)).state

    async def _greet(self) -> None:
        """Hello → Welcome → Reveal → Revealed."""
        seen = await seen_fingerprint(self._reactor, self._client, self._target.address, self._target.port)
        self._target = Target(self._target.address, self._target.port, pin=seen)
        if self.is_over:
            return
        state = machine.begin(self._own, self._request.code, seen, self._entropy)
        self.state = state
        step = self._hear(await self._greeted(state.hello))
        if isinstance(step.say, Reveal):
            self._hear(await self._ask(urls.PAIR_MESSAGES, step.say))

    async def _greeted(self, hello: Hello) -> bytes:
        tries = 0
        while True:
            try:
                return await self._ask(urls.PAIR_INITIATE, hello)
            except RateLimited:
                tries += 1
                if tries * AGAIN_S > PATIENCE_S or self.is_over:
                    raise
                await self._pause()

    async def _compare(self) -> None:
        """Ask what was decided over there; say what is decided here."""
        silent_since: float | None = None
        while isinstance(self.state, Comparing | OursGiven):
            said, self._next = self._next or machine.poll(self.state), None
            try:
                data = await self._ask(urls.PAIR_MESSAGES, said)
            except UNHEARD:
                if self._next is not None or self.is_over:
                    continue  # not lost: called off, since there is something to say
                now = self._reactor.seconds()
                silent_since = silent_since if silent_since is not None else now
                if not isinstance(said, Poll) or now - silent_since > rules.SILENCE_S:
                    self._take(Lost())
                else:
                    await self._pause()
                continue
            silent_since = None
            if not self.is_over:
                self._hear(data)
        if self._next is not None:
            await self._say_last(self._next)

    async def _say_last(self, message: FromJoiner) -> None:
        """Tell the other side of the end; if it can't be reached it finds out by itself."""
        try:
            await self._ask(urls.PAIR_MESSAGES, message)
        except LoopsyError:
            pass

    async def _finish(self) -> None:
        if not isinstance(self.state, Agreed):
            return
        try:
            self.name = await self._settle(prepare(self.state, self._target.address, self._target.port, self._until))
        except LoopsyError as error:
            self._take(NotKept(error.message))
        else:
            self._take(Kept())

    async def _pause(self) -> None:
        """A moment, or until there is something to say."""
        self._asking = deferLater(self._reactor, AGAIN_S)
        try:
            await self._asking
        except CancelledError:
            pass
        finally:
            self._asking = None

    async def _ask(self, path: str, message: FromJoiner) -> bytes:
        question = PairMessage.of(encode(message))
        asking = Deferred.fromCoroutine(self._client.ask(self._target, b"POST", path, PairMessage, question))
        self._asking = asking
        try:
            return (await asking).data
        finally:
            self._asking = None

    def _hear(self, data: bytes) -> Step[machine.Joiner]:
        if self.state is None or self.is_over:
            return Step(self.state)  # type: ignore[arg-type]
        try:
            message = from_inviter(data)
        except PairingViolation as error:
            self._end(error)
            return Step(self.state)
        return self._take(message)

    # -- what the human and the clock say ---------------------------------------------------------------------------
    def decide(self, event: Yes | No) -> None:
        """The human here said something.

        :raises LoopsyError: it is too late for that.
        """
        if self.state is None and isinstance(event, No):
            self.state = Ended(why=Why.CANCELLED)
            self._interrupt()
            return
        step = self._take(event)
        if step.refusal is not None:
            raise step.refusal

    def _take(self, event: object) -> Step[machine.Joiner]:
        if self.state is None:
            self.state = machine.refused(None, Refusal(PairingExpired())).state
            return Step(self.state)
        step = machine.happened(self.state, event)
        self.state = step.state
        if isinstance(event, Yes | No) and step.refusal is None:
            self._next = step.say  # type: ignore[assignment]
            self._interrupt()
        elif isinstance(event, Expired):
            self._interrupt()
        return step

    def _interrupt(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    def stop(self) -> None:
        """Let go of the timer and the open question."""
        if self._expiry.active():
            self._expiry.cancel()
        self._interrupt()

    # -- for the commands -------------------------------------------------------------------------------------------
    @property
    def sas(self) -> str | None:
        """The number to compare, while it is."""
        return self.state.agreement.sas if isinstance(self.state, Comparing | OursGiven | Agreed) else None

    def status(self) -> PairStatus:
        """How it stands."""
        state = self.state
        bound = isinstance(state, Comparing | OursGiven | Agreed | Paired)
        return PairStatus(
            role=wire.JOINER,
            state=NAMES[type(state)],
            session=self.number,
            expires_at=self._until,
            sas=self.sas,
            peer=shown(state.inviter, self._target.address, self.name) if bound else None,  # type: ignore[union-attr]
            fault=fault(state.refusal()) if isinstance(state, Ended) else None,
        )


NAMES: dict[type, str] = {
    type(None): wire.JOINING,
    Greeting: wire.JOINING,
    Proving: wire.JOINING,
    Comparing: wire.COMPARING,
    OursGiven: wire.CONFIRMED,
    Agreed: wire.FINISHING,
    Paired: wire.PAIRED,
    Ended: wire.ENDED,
}
