"""The sessions as services drive them, with a clock of our own: time-outs, silence, questions that wait."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from loopsy.core import pairing as rules
from loopsy.core import pairing_joiner
from loopsy.core.pairing_keys import Label, Role
from loopsy.core.pairing_messages import Cancelled, Confirm, Confirmed, Done, Finish, Poll, Wait, decode, encode
from loopsy.core.pairing_states import No, Yes, say
from loopsy.errors import ConfigError, LoopsyError, PairingEnded, PairingExpired
from loopsy.services.addresses import reachable
from loopsy.services.inviting import InviterSession, NewPeer
from loopsy.testing.pairing import CODE, INVITER, JOINER, fixed


class Inviter:
    """A session on a clock, and a joiner that speaks to it by hand."""

    def __init__(self, keep: Any = None) -> None:
        self.clock = Clock()
        self.kept: list[NewPeer] = []
        self.session = InviterSession(self.clock, 1, INVITER, CODE, fixed("i"), keep or self._keep)
        self.joiner: Any = pairing_joiner.begin(JOINER, CODE, INVITER.fingerprint, fixed("j"))

    async def _keep(self, new: NewPeer) -> str:
        self.kept.append(new)
        return "bravo"

    def says(self, message: Any) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self.session.receive(encode(message), "192.0.2.7"))

    def token(self, label: Label, kind: Any) -> Deferred[bytes]:
        return self.says(say(self.joiner.agreement, label, kind))

    def meet(self) -> Inviter:
        for _ in range(2):
            said = self.joiner.hello if isinstance(self.joiner, pairing_joiner.Greeting) else self.joiner.ours
            self.joiner = pairing_joiner.receive(self.joiner, decode(now(self.says(said)))).state  # type: ignore[arg-type]
        return self

    def polls(self) -> Deferred[bytes]:
        return self.token(Label.POLL, Poll)


def now(deferred: Deferred[Any]) -> Any:
    """What it has fired with, or the error."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    assert found, "it has not fired"
    if hasattr(found[0], "raiseException"):
        found[0].raiseException()
    return found[0]


def test_five_minutes_end_it_and_nobody_gets_in_then() -> None:
    one = Inviter()
    one.clock.advance(rules.SESSION_S - 1)
    assert one.session.status().state == "inviting"
    one.clock.advance(2)
    status = one.session.status()
    assert (status.state, status.fault and status.fault.code) == ("ended", 7006)
    with pytest.raises(PairingExpired):
        now(one.says(one.joiner.hello))
    assert one.clock.getDelayedCalls() == []


def test_five_minutes_end_it_while_numbers_are_compared_too() -> None:
    one = Inviter().meet()
    for _ in range(int(rules.SESSION_S / rules.POLL_S)):
        answer = one.polls()
        one.clock.advance(rules.POLL_S)
        assert isinstance(decode(now(answer)), Wait)
    last = one.polls()
    one.clock.advance(rules.POLL_S)
    with pytest.raises(PairingExpired):
        now(last)
    assert one.clock.getDelayedCalls() == []


def test_a_joiner_that_is_not_heard_of_is_gone() -> None:
    one = Inviter().meet()
    one.clock.advance(rules.SILENCE_S - 1)
    answer = one.polls()
    one.clock.advance(rules.POLL_S)
    assert isinstance(decode(now(answer)), Wait)
    one.clock.advance(rules.SILENCE_S + 1)
    status = one.session.status()
    assert (status.state, status.fault and status.fault.code) == ("ended", 7003)
    assert one.clock.getDelayedCalls() == []


def test_a_waiting_question_is_answered_as_soon_as_there_is_something_to_tell() -> None:
    one = Inviter().meet()
    assert isinstance(decode(now(one.token(Label.CONFIRM, Confirm))), Wait)
    answer = one.polls()
    assert not answer.called
    one.session.decide(Yes())
    assert isinstance(decode(now(answer)), Confirmed)
    assert one.kept == []
    assert isinstance(decode(now(one.token(Label.FINISH, Finish))), Done)
    assert isinstance(decode(now(one.token(Label.FINISH, Finish))), Done)
    (new,) = one.kept
    agreement = one.joiner.agreement
    assert (new.facts.name, new.address) == ("bravo", "192.0.2.7")
    assert {new.their_key, new.our_key} == {agreement.key(role) for role in Role}
    assert one.session.is_over
    assert one.clock.getDelayedCalls() == []


def test_a_no_reaches_the_waiting_joiner_at_once() -> None:
    one = Inviter().meet()
    answer = one.polls()
    one.session.decide(No())
    assert isinstance(decode(now(answer)), Cancelled)
    with pytest.raises(PairingEnded):
        one.session.decide(Yes())


def test_finish_asked_twice_while_the_disk_is_slow_stores_once() -> None:
    slow: Deferred[str] = Deferred()
    calls = []

    async def keep(new: NewPeer) -> str:
        calls.append(new)
        return await slow

    one = Inviter(keep).meet()
    now(one.token(Label.CONFIRM, Confirm))
    one.session.decide(Yes())
    first, second = one.token(Label.FINISH, Finish), one.token(Label.FINISH, Finish)
    one.clock.advance(rules.SESSION_S + 1)
    slow.callback("bravo")
    assert [type(decode(now(answer))) for answer in (first, second)] == [Done, Done]
    assert len(calls) == 1
    assert one.session.status().state == "paired"


def test_a_disk_that_fails_is_told_to_both() -> None:
    async def keep(new: NewPeer) -> str:
        raise ConfigError("no space left")

    one = Inviter(keep).meet()
    now(one.token(Label.CONFIRM, Confirm))
    one.session.decide(Yes())
    assert isinstance(decode(now(one.token(Label.FINISH, Finish))), Cancelled)
    fault = one.session.status().fault
    assert fault is not None
    assert "no space left" in fault.message


def test_questions_that_wait_are_few() -> None:
    one = Inviter().meet()
    answers = [one.polls() for _ in range(6)]
    assert [answer.called for answer in answers] == [False] * 4 + [True] * 2
    one.session.stop()
    assert all(answer.called for answer in answers)
    for answer in answers:
        answer.addErrback(lambda failure: failure.trap(LoopsyError))


def test_addresses_are_those_to_type() -> None:
    assert reachable("192.0.2.1", 19532, 19532) == ("192.0.2.1",)
    assert reachable("192.0.2.1", 1, 19532) == ("192.0.2.1:1",)
    assert reachable("fd00::1", 1, 19532) == ("[fd00::1]:1",)
    assert not any(address.startswith("127.") for address in reachable("0.0.0.0", 19532, 19532))
