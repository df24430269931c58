"""The joiner's half of pairing: it knows a code, and goes to the machine that shows it.

All is decided here, without I/O; ``TABLE`` is the whole of it, and docs/protocol/pairing.md draws it.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from loopsy.core.pairing_keys import Agreement, Entropy, Ephemeral, Label, Role, Spake, check_commitment, proves, reveal
from loopsy.core.pairing_messages import (
    NONCE,
    Cancel,
    Cancelled,
    Confirm,
    Confirmed,
    Facts,
    Finish,
    FromInviter,
    Hello,
    Poll,
    Reveal,
    Revealed,
    Wait,
    Welcome,
    encode,
)
from loopsy.core.pairing_states import (
    Ended,
    Expired,
    Kept,
    Lost,
    No,
    NotKept,
    Refusal,
    Row,
    Step,
    Why,
    Yes,
    advance,
    ended,
    no_reason,
    rows,
    say,
    says,
    table,
    violated,
)
from loopsy.errors import NoPairingSession, PairingExpired, PairingRefused, PairingViolation, WrongCode


# -- states -----------------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Greeting:
    """Hello was said."""

    hello: Hello
    spake: Spake = field(repr=False)
    ephemeral: Ephemeral = field(repr=False)
    seen: str | None
    """The fingerprint of the certificate on the connection, None where it has none."""


@frozen(kw_only=True)
class Proving:
    """The key is revealed, and the code proved."""

    hello: Hello
    welcome: Welcome
    ours: Reveal
    key: bytes = field(repr=False)
    ephemeral: Ephemeral = field(repr=False)


@frozen(kw_only=True)
class _Agreed:
    agreement: Agreement
    inviter: Welcome
    """Who it is, as in the transcript."""


@frozen(kw_only=True)
class Comparing(_Agreed):
    """The other side knows the code too; two humans compare numbers."""


@frozen(kw_only=True)
class OursGiven(_Agreed):
    """The human here said yes."""


@frozen(kw_only=True)
class Agreed(_Agreed):
    """Both said yes. The keys are put aside on disk (``pairing.Prepared``), then the inviter is told to store them."""


@frozen(kw_only=True)
class Paired(_Agreed):
    """Both have stored. The end."""


Joiner = Greeting | Proving | Comparing | OursGiven | Agreed | Paired | Ended
J = Step[Joiner]


def begin(own: Facts, code: str, seen: str | None, entropy: Entropy) -> Greeting:
    """A new try with a code. ``hello`` of the state is what to say first."""
    spake, ephemeral = Spake(Role.JOINER, code, entropy), Ephemeral.make(entropy)
    hello = Hello(
        name=own.name,
        node_id=own.node_id,
        port=own.port,
        fingerprint=own.fingerprint,
        nonce=entropy(NONCE),
        spake=spake.message,
        commitment=ephemeral.commitment(Role.JOINER),
    )
    return Greeting(hello=hello, spake=spake, ephemeral=ephemeral, seen=seen)


def receive(state: Joiner, message: FromInviter) -> J:
    """An answer came."""
    return advance(TABLE, state, message)


def happened(state: Joiner, event: object) -> J:
    """Something happened that is no message."""
    return advance(TABLE, state, event)


# -- until the numbers are shown --------------------------------------------------------------------------------------
def open_up(state: Greeting, welcome: Welcome) -> Step[Any]:
    """Check the certificate seen; answer with Reveal: own ECDH key, and the proof of the code."""
    if (state.seen or "") != welcome.fingerprint:
        return violated("the certificate on the connection is not the other machine's: somebody is in between")
    if welcome.node_id == state.hello.node_id:
        return violated("that is this machine itself")
    try:
        key = state.spake.key(welcome.spake)
    except PairingViolation as error:
        return violated(error.message)
    ours = reveal(key, state.ephemeral, welcome.exchange, state.hello, welcome)
    return Step(Proving(hello=state.hello, welcome=welcome, ours=ours, key=key, ephemeral=state.ephemeral), ours)


def examine(state: Proving, theirs: Revealed) -> Step[Any]:
    """Check its proof and commitment; show the number."""
    if theirs.exchange != state.welcome.exchange:
        return violated("the answer is for another exchange")
    if not proves(Role.INVITER, state.key, theirs, state.hello, state.welcome, state.ours):
        return violated("the other side does not know the code")
    try:
        check_commitment(state.welcome, theirs)
        secret = state.ephemeral.secret(theirs.public)
    except PairingViolation as error:
        return violated(error.message)
    said = (encode(message) for message in (state.hello, state.welcome, state.ours, theirs))
    agreement = Agreement.of(theirs.exchange, state.key, secret, *said)
    return Step(Comparing(agreement=agreement, inviter=state.welcome))


def refused(state: object, event: Refusal) -> Step[Any]:
    """End, in the inviter's words."""
    by_error = {
        WrongCode: Why.WRONG_CODE, PairingExpired: Why.EXPIRED, PairingRefused: Why.REFUSED,
        PairingViolation: Why.VIOLATION, NoPairingSession: Why.LOST,
    }  # fmt: skip
    return Step(Ended(why=by_error.get(type(event.error), Why.FAILED), error=event.error))


# -- while two humans compare -----------------------------------------------------------------------------------------
FORGED = "an answer is not from the machine that proved the code"


def _checked(label: Label, state: _Agreed, message: object, then: Step[Any]) -> Step[Any]:
    return then if says(state.agreement, label, message) else violated(FORGED)


def wait(state: _Agreed, answer: Wait) -> Step[Any]:
    """Go on asking."""
    return _checked(Label.WAIT, state, answer, Step(state))


def own_yes(state: Comparing, event: Yes) -> Step[Any]:
    """Say Confirm."""
    return Step(_move(state, OursGiven), say(state.agreement, Label.CONFIRM, Confirm))


def own_no(state: _Agreed, event: No) -> Step[Any]:
    """Say Cancel."""
    return Step(Ended(why=no_reason(event)), say(state.agreement, Label.CANCEL, Cancel))


def give_up(state: object, event: No) -> Step[Any]:
    """End."""
    return ended(Why.CANCELLED)


def their_no(state: _Agreed, answer: Cancelled) -> Step[Any]:
    """End."""
    return _checked(Label.CANCELLED, state, answer, ended(Why.REFUSED))


def both_yes(state: OursGiven, answer: Confirmed) -> Step[Any]:
    """Put the keys aside on disk, then say Finish."""
    then = Step(_move(state, Agreed), say(state.agreement, Label.FINISH, Finish))
    return _checked(Label.CONFIRMED, state, answer, then)


def settled(state: Agreed, event: Kept) -> Step[Any]:
    """Both have stored the keys."""
    return Step(_move(state, Paired))


def unsettled(state: Agreed, event: NotKept) -> Step[Any]:
    """End; what was put aside is forgotten."""
    return ended(Why.FAILED, event.words)


def expire(state: object, event: Expired) -> Step[Any]:
    """End."""
    return ended(Why.EXPIRED)


def lose(state: object, event: Lost) -> Step[Any]:
    """End."""
    return ended(Why.LOST)


def poll(state: _Agreed) -> Poll:
    """The question that is asked again and again; it changes nothing over there."""
    asked = say(state.agreement, Label.POLL, Poll)
    assert isinstance(asked, Poll)
    return asked


def _move(state: _Agreed, to: type[_Agreed]) -> _Agreed:
    return to(agreement=state.agreement, inviter=state.inviter)


EARLY = (Greeting, Proving)
COMPARING = (Comparing, OursGiven)
TABLE = table(
    Row(Greeting, Welcome, open_up, (Proving, Ended)),
    Row(Proving, Revealed, examine, (Comparing, Ended)),
    *rows(EARLY, No, give_up, Ended),
    *rows((*EARLY, *COMPARING), Refusal, refused, Ended),
    *(Row(state, Wait, wait, (state, Ended)) for state in COMPARING),
    Row(Comparing, Yes, own_yes, (OursGiven,)),
    Row(OursGiven, Confirmed, both_yes, (Agreed, Ended)),
    *rows(COMPARING, No, own_no, Ended),
    *rows(COMPARING, Cancelled, their_no, Ended),
    Row(Agreed, Kept, settled, (Paired,)),
    Row(Agreed, NotKept, unsettled, (Ended,)),
    *rows((*EARLY, *COMPARING), Expired, expire, Ended),
    *rows((*EARLY, *COMPARING), Lost, lose, Ended),
)
