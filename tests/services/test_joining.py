"""The joiner's timers, on a clock of our own: an inviter that never answers, and one that goes silent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from loopsy.core import pairing as rules
from loopsy.core import pairing_inviter
from loopsy.errors import PairingExpired, PeerUnreachable
from loopsy.services.joining import JoinerSession
from loopsy.testing.pairing import CODE, INVITER, JOINER, fixed
from loopsy.wire.pairing import JoinPairing, PairMessage

Answer = Callable[[bytes], Any]


class Client:
    """A PeerClient whose peer is a function; None is an answer that never comes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def fingerprint_of(self, address: str, port: int) -> str | None:
        return INVITER.fingerprint

    async def ask(self, target: Any, method: bytes, path: str, kind: Any, value: PairMessage) -> PairMessage:
        data = self.answer(value.data)
        if data is None:
            await Deferred()
        return PairMessage.of(data)


def joiner(answer: Answer) -> tuple[Clock, JoinerSession]:
    clock = Clock()

    async def settle(prepared: Any) -> str:
        raise AssertionError("nothing is to be stored")

    request = JoinPairing(address="192.0.2.7", port=1, code=CODE)
    client: Any = Client(answer)
    session = JoinerSession(clock, 1, client, JOINER, request, fixed("j"), settle)
    Deferred.fromCoroutine(session.run())
    return clock, session


def an_inviter() -> Answer:
    """One that goes as far as showing its number."""
    state: Any = pairing_inviter.begin(INVITER, CODE, fixed("i"))

    def answer(data: bytes) -> bytes:
        nonlocal state
        from loopsy.core.pairing_messages import encode, from_joiner

        step = pairing_inviter.receive(state, from_joiner(data))
        state = step.state
        assert step.say is not None
        return encode(step.say)

    return answer


def test_an_inviter_that_never_answers_is_given_up_after_five_minutes() -> None:
    clock, session = joiner(lambda _: None)
    clock.advance(rules.SESSION_S - 1)
    assert not session.is_over
    clock.advance(1)
    assert session.is_over
    fault = session.status().fault
    assert fault is not None
    assert fault.code == PairingExpired.code
    assert clock.getDelayedCalls() == []


def test_one_that_goes_silent_while_numbers_are_compared_is_lost() -> None:
    inviter, said = an_inviter(), 0

    def answer(data: bytes) -> Any:
        nonlocal said
        said += 1
        if said > 2:
            raise PeerUnreachable("the cable was pulled")
        return inviter(data)

    clock, session = joiner(answer)
    assert session.sas is not None
    for _ in range(int(rules.SILENCE_S) + 3):
        clock.advance(1)
    assert session.is_over
    assert session.status().fault is not None
    assert clock.getDelayedCalls() == []
