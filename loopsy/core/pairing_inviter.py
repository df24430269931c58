"""The inviter's half of pairing: it shows a code, and waits for whoever knows it.

All is decided here, without I/O; ``TABLE`` is the whole of it, and docs/protocol/pairing.md draws it.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve, field, frozen

from loopsy.core.pairing_keys import (
    Agreement,
    Entropy,
    Ephemeral,
    Label,
    Role,
    Spake,
    check_commitment,
    proves,
    revealed,
)
from loopsy.core.pairing_messages import (
    EXCHANGE,
    NONCE,
    Cancel,
    Cancelled,
    Confirm,
    Confirmed,
    Done,
    Facts,
    Finish,
    FromJoiner,
    Hello,
    Poll,
    Reveal,
    Wait,
    Welcome,
    encode,
)
from loopsy.core.pairing_states import (
    NO_SESSION,
    Ended,
    Expired,
    Kept,
    Lost,
    No,
    NotKept,
    Row,
    Step,
    Stored,
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
from loopsy.errors import PairingBusy, PairingViolation, WrongCode

ATTEMPTS = 3
"""Wrong codes that end a session: a guesser has 3 chances in a million."""
OPEN = 8
"""Exchanges that may wait for their proof at once. An honest one waits for milliseconds; when a ninth comes, the oldest
goes, so that a flood of greetings holds little memory and blocks nobody."""


@frozen(kw_only=True)
class Exchange:
    """A joiner that has greeted; whether it knows the code is not known yet."""

    hello: Hello
    welcome: Welcome
    spake: Spake = field(repr=False)
    ephemeral: Ephemeral = field(repr=False)


# -- states -----------------------------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Inviting:
    """The code is shown; nobody has proved to know it."""

    own: Facts
    code: str = field(repr=False)
    entropy: Entropy = field(repr=False)
    wrong: int = 0
    exchanges: tuple[Exchange, ...] = ()


@frozen(kw_only=True)
class _Agreed:
    agreement: Agreement
    joiner: Hello
    """Who it is, as in the transcript."""


@frozen(kw_only=True)
class Comparing(_Agreed):
    """Somebody knows the code; two humans compare numbers."""


@frozen(kw_only=True)
class OursGiven(_Agreed):
    """The human here said yes."""


@frozen(kw_only=True)
class TheirsGiven(_Agreed):
    """The human there said yes."""


@frozen(kw_only=True)
class Agreed(_Agreed):
    """Both said yes; the joiner is to store its half first."""


@frozen(kw_only=True)
class Keeping(_Agreed, Stored):
    """The joiner has stored its half; ours is being stored."""


@frozen(kw_only=True)
class Paired(_Agreed, Stored):
    """Both have stored. The end."""


Inviter = Inviting | Comparing | OursGiven | TheirsGiven | Agreed | Keeping | Paired | Ended
I = Step[Inviter]  # noqa: E741
BOUND = (Comparing, OursGiven, TheirsGiven, Agreed, Keeping, Paired)
"""States in which one joiner has proved to know the code."""


def begin(own: Facts, code: str, entropy: Entropy) -> Inviting:
    """A new session."""
    return Inviting(own=own, code=code, entropy=entropy)


def receive(state: Inviter, message: FromJoiner) -> I:
    """A message came. One for another exchange than ours is refused, and changes nothing: anybody may send such."""
    if isinstance(message, Hello) or _knows(state, message.exchange):
        return advance(TABLE, state, message)
    return Step(state, refusal=state.told() if isinstance(state, Ended) else NO_SESSION)


def _knows(state: Inviter, exchange: bytes) -> bool:
    match state:
        case Inviting():
            return any(known.welcome.exchange == exchange for known in state.exchanges)
        case Ended(farewell=farewell):
            return farewell is not None and farewell.exchange == exchange  # type: ignore[union-attr]
        case _:
            return state.agreement.exchange == exchange


def happened(state: Inviter, event: object) -> I:
    """Something happened that is no message."""
    return advance(TABLE, state, event)


# -- while the code is shown ------------------------------------------------------------------------------------------
def greet(state: Inviting, hello: Hello) -> I:
    """Answer with Welcome: own SPAKE2 message and commitment; a greeting said twice drops its exchange."""
    others = tuple(known for known in state.exchanges if known.hello != hello)
    if len(others) < len(state.exchanges):
        return Step(evolve(state, exchanges=others), refusal=PairingViolation("a Hello came twice"))
    spake, ephemeral = Spake(Role.INVITER, state.code, state.entropy), Ephemeral.make(state.entropy)
    own = state.own
    welcome = Welcome(
        name=own.name,
        node_id=own.node_id,
        port=own.port,
        fingerprint=own.fingerprint,
        nonce=state.entropy(NONCE),
        spake=spake.message,
        commitment=ephemeral.commitment(Role.INVITER),
        exchange=state.entropy(EXCHANGE),
    )
    made = Exchange(hello=hello, welcome=welcome, spake=spake, ephemeral=ephemeral)
    return Step(evolve(state, exchanges=(*others, made)[-OPEN:]), welcome)


def examine(state: Inviting, theirs: Reveal) -> I:
    """Right proof: answer with Revealed; wrong: count it, the third ends the session."""
    (exchange,) = (known for known in state.exchanges if known.welcome.exchange == theirs.exchange)
    hello, welcome = exchange.hello, exchange.welcome
    without = evolve(state, exchanges=tuple(known for known in state.exchanges if known is not exchange))
    key = _key_if_proved(exchange, theirs)
    if key is None:
        return _wrong(without)
    try:
        check_commitment(hello, theirs)
        secret = exchange.ephemeral.secret(theirs.public)
    except PairingViolation as error:
        return violated(error.message)
    ours = revealed(key, exchange.ephemeral, hello, welcome, theirs)
    said = (encode(message) for message in (hello, welcome, theirs, ours))
    agreement = Agreement.of(theirs.exchange, key, secret, *said)
    return Step(Comparing(agreement=agreement, joiner=hello), ours)


def _key_if_proved(exchange: Exchange, theirs: Reveal) -> bytes | None:
    try:
        key = exchange.spake.key(exchange.hello.spake)
    except PairingViolation:
        return None
    return key if proves(Role.JOINER, key, theirs, exchange.hello, exchange.welcome) else None


def _wrong(state: Inviting) -> I:
    left = ATTEMPTS - state.wrong - 1
    if left == 0:
        refusal = WrongCode("the code is wrong, for the third time: that session is over", details={"left": 0})
        return Step(Ended(why=Why.WRONG_CODE), refusal=refusal)
    refusal = WrongCode(f"the code is wrong ({left} of {ATTEMPTS} tries left)", details={"left": left})
    return Step(evolve(state, wrong=state.wrong + 1), refusal=refusal)


# -- once somebody knows the code -------------------------------------------------------------------------------------
def second_hello(state: _Agreed, hello: Hello) -> Step[Any]:
    """Refuse another joiner; the same greeting again ends the session, unless the pair is stored."""
    if hello == state.joiner:
        return violated("a Hello came twice", state)
    return Step(state, refusal=PairingBusy("another machine is being paired there just now"))


FORGED = "a message is not from the machine that proved the code"


def _checked(label: Label, state: _Agreed, message: object, then: Step[Any]) -> Step[Any]:
    return then if says(state.agreement, label, message) else violated(FORGED, state)


def wait(state: _Agreed, poll: Poll) -> Step[Any]:
    """Answer Wait."""
    return _checked(Label.POLL, state, poll, Step(state, say(state.agreement, Label.WAIT, Wait)))


def tell(state: Agreed, poll: Poll) -> Step[Any]:
    """Answer Confirmed."""
    return _checked(Label.POLL, state, poll, Step(state, say(state.agreement, Label.CONFIRMED, Confirmed)))


def first_yes(state: Comparing, confirm: Confirm) -> Step[Any]:
    """Answer Wait."""
    then = Step(_move(state, TheirsGiven), say(state.agreement, Label.WAIT, Wait))
    return _checked(Label.CONFIRM, state, confirm, then)


def second_yes(state: OursGiven, confirm: Confirm) -> Step[Any]:
    """Answer Confirmed."""
    then = Step(_move(state, Agreed), say(state.agreement, Label.CONFIRMED, Confirmed))
    return _checked(Label.CONFIRM, state, confirm, then)


def own_yes(state: Comparing | TheirsGiven, event: Yes) -> Step[Any]:
    """Remember it; the joiner hears of it when both have said so."""
    return Step(_move(state, OursGiven if isinstance(state, Comparing) else Agreed))


def own_no(state: _Agreed, event: No) -> Step[Any]:
    """End; the joiner hears Cancelled when it asks next."""
    return ended(no_reason(event), farewell=say(state.agreement, Label.CANCELLED, Cancelled))


def withdraw(state: Inviting, event: No) -> Step[Any]:
    """End; the code is worth nothing any more."""
    return ended(Why.CANCELLED)


def their_no(state: _Agreed, cancel: Cancel) -> Step[Any]:
    """End."""
    return _checked(Label.CANCEL, state, cancel, ended(Why.REFUSED))


def store(state: Agreed | Keeping, finish: Finish) -> Step[Any]:
    """Store the keys; answer when that is done."""
    return _checked(Label.FINISH, state, finish, Step(_move(state, Keeping)))


def stored(state: Keeping, event: Kept) -> Step[Any]:
    """Answer Done."""
    return Step(_move(state, Paired), say(state.agreement, Label.DONE, Done))


def failed(state: Keeping, event: NotKept) -> Step[Any]:
    """End: the disk is full, the config can't be changed."""
    return ended(Why.FAILED, event.words, say(state.agreement, Label.CANCELLED, Cancelled))


def again(state: Paired, finish: Finish) -> Step[Any]:
    """Answer Done again: the first may have been lost on its way."""
    return _checked(Label.FINISH, state, finish, Step(state, say(state.agreement, Label.DONE, Done)))


def expire(state: object, event: Expired) -> Step[Any]:
    """End."""
    return ended(Why.EXPIRED)


def lose(state: object, event: Lost) -> Step[Any]:
    """End."""
    return ended(Why.LOST)


def bid_farewell(state: Ended, message: object) -> Step[Any]:
    """Answer as the session ended."""
    return Step(state, state.farewell)


def _move(state: _Agreed, to: type[_Agreed]) -> _Agreed:
    return to(agreement=state.agreement, joiner=state.joiner)


BEFORE = (Comparing, OursGiven, TheirsGiven, Agreed)
"""Bound, and nothing stored here: it can still end without a trace."""
TABLE = table(
    Row(Inviting, Hello, greet, (Inviting,)),
    Row(Inviting, Reveal, examine, (Comparing, Inviting, Ended)),
    Row(Inviting, No, withdraw, (Ended,)),
    *(Row(state, Poll, wait, (state, Ended)) for state in (Comparing, OursGiven, TheirsGiven)),
    Row(Comparing, Confirm, first_yes, (TheirsGiven, Ended)),
    Row(Comparing, Yes, own_yes, (OursGiven,)),
    Row(OursGiven, Confirm, second_yes, (Agreed, Ended)),
    Row(TheirsGiven, Yes, own_yes, (Agreed,)),
    Row(Agreed, Poll, tell, (Agreed, Ended)),
    Row(Agreed, Finish, store, (Keeping, Ended)),
    Row(Keeping, Finish, store, (Keeping,)),
    Row(Keeping, Kept, stored, (Paired,)),
    Row(Keeping, NotKept, failed, (Ended,)),
    Row(Paired, Finish, again, (Paired,)),
    *rows(BEFORE, No, own_no, Ended),
    *rows(BEFORE, Cancel, their_no, Ended),
    *rows((Inviting, *BEFORE), Expired, expire, Ended),
    *rows((Comparing, OursGiven, TheirsGiven), Lost, lose, Ended),
    *(Row(state, Hello, second_hello, (state, Ended)) for state in BEFORE),
    *rows((Keeping, Paired), Hello, second_hello),
    *rows((Ended,), Poll, bid_farewell),
    *rows((Ended,), Confirm, bid_farewell),
    *rows((Ended,), Finish, bid_farewell),
)
