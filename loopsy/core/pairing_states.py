"""What both pairing machines share: the events, how a session ends, and how a table of transitions is walked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from hmac import compare_digest
from typing import Any, Generic, TypeVar

from attrs import field, frozen

from loopsy.core.pairing_keys import Agreement, Label
from loopsy.core.pairing_messages import Message
from loopsy.errors import (
    LoopsyError,
    NoPairingSession,
    PairingEnded,
    PairingExpired,
    PairingRefused,
    PairingViolation,
    WrongCode,
)


# -- events that are no messages --------------------------------------------------------------------------------------
@frozen
class Yes:
    """The human here says that the numbers are the same."""


@frozen
class No:
    """The human here says that they are not, or cancels."""

    mismatch: bool = False


@frozen
class Expired:
    """The five minutes are over."""


@frozen
class Lost:
    """Nothing has been heard of the other side for too long."""


@frozen
class Refusal:
    """The other side's daemon answered with an error instead of a message."""

    error: LoopsyError


@frozen
class Kept:
    """The keys are on disk here."""


@frozen
class NotKept:
    """The keys could not be stored, or the other side does not have them."""

    words: str


# -- the end ----------------------------------------------------------------------------------------------------------
class Why(Enum):
    """Why a session ended without a pair; each with the error that tells it."""

    CANCELLED = (PairingEnded, "the pairing was cancelled here")
    MISMATCH = (PairingRefused, "the numbers are not the same: somebody may be in between; nothing was kept")
    REFUSED = (PairingRefused, "the other side said no: the numbers differ there, or it was cancelled")
    WRONG_CODE = (WrongCode, "the code was wrong three times")
    VIOLATION = (PairingViolation, "the other side does not keep to the protocol; somebody may be in between")
    EXPIRED = (PairingExpired, "the five minutes are over; nothing was kept")
    LOST = (PairingEnded, "nothing was heard of the other side any more; nothing was kept")
    FAILED = (PairingEnded, "the pairing failed; nothing was kept")


@frozen(kw_only=True)
class Ended:
    """No pair came of it."""

    why: Why
    words: str | None = None
    error: LoopsyError | None = field(default=None, eq=False)
    """The other side's own words, where it had any."""
    farewell: Message | None = field(default=None, repr=False)
    """What the other side is told when it asks next."""

    def refusal(self) -> LoopsyError:
        """The end as an error."""
        kind, words = self.why.value
        return self.error or kind(self.words or words)

    def told(self) -> LoopsyError:
        """The same, for the other side."""
        by_us = self.why in (Why.CANCELLED, Why.MISMATCH)
        return PairingEnded("the pairing session was ended there") if by_us else self.refusal()


# -- the table --------------------------------------------------------------------------------------------------------
S = TypeVar("S")


@frozen
class Step(Generic[S]):
    """What a transition comes to: the next state, and what is said to the other side (or why nothing is)."""

    state: S
    say: Message | None = None
    refusal: LoopsyError | None = None


@frozen
class Row:
    """One transition: in this state, at this event, do that, and be in one of those states."""

    state: type
    event: type
    act: Callable[[Any, Any], Step[Any]]
    to: tuple[type, ...]

    @property
    def does(self) -> str:
        """What it does, in words."""
        return (self.act.__doc__ or "").strip().splitlines()[0].rstrip(".")


Table = Mapping[tuple[type, type], Row]


def table(*rows: Row) -> Table:
    """Rows by state and event; two for the same would be a mistake."""
    made = {(row.state, row.event): row for row in rows}
    assert len(made) == len(rows)
    return made


def rows(states: Sequence[type], event: type, act: Callable[[Any, Any], Step[Any]], *to: type) -> list[Row]:
    """The same transition out of several states; without ``to`` each stays where it is."""
    return [Row(state, event, act, to or (state,)) for state in states]


MESSAGES: tuple[type, ...] = Message.__args__
NO_SESSION = NoPairingSession("there is no pairing session here, or not that one", hint="start one with: loopsy pair")


def advance(known: Table, state: Any, event: Any) -> Step[Any]:
    """Walk the table. A message that has no row here came out of order, a second time, or too late: that ends it; but
    while the pair is being stored nothing can be taken back, and it is only refused. Any other event without a row came
    too late to matter, and changes nothing."""
    row = known.get((type(state), type(event)))
    if row is not None:
        step = row.act(state, event)
        assert isinstance(step.state, row.to), (state, event, step.state)
        return step
    if isinstance(state, Ended):
        return Step(state, refusal=state.told())
    if isinstance(event, MESSAGES):
        return violated(f"a {type(event).__name__} came out of order, or twice", state)
    return Step(state, refusal=PairingEnded("it is too late for that, or too early"))


class Stored:
    """A state in which the pair is on disk, or about to be: no message ends it."""


def violated(words: str, state: object = None) -> Step[Any]:
    """The end by a violation; or, where the pair is stored, just a refusal."""
    if isinstance(state, Stored):
        return Step(state, refusal=PairingViolation(words))
    end = Ended(why=Why.VIOLATION, words=words)
    return Step(end, refusal=end.refusal())


def ended(why: Why, words: str | None = None, farewell: Message | None = None) -> Step[Any]:
    """The end, nothing said now."""
    return Step(Ended(why=why, words=words, farewell=farewell))


def says(agreement: Agreement, label: Label, message: Any) -> bool:
    """Whether a message's token is the right one."""
    return message.exchange == agreement.exchange and compare_digest(agreement.derive(label), message.token)


def say(agreement: Agreement, label: Label, kind: Callable[..., Message]) -> Message:
    """A message with its token."""
    return kind(exchange=agreement.exchange, token=agreement.derive(label))


def no_reason(event: No) -> Why:
    """Why a human's no ends it."""
    return Why.MISMATCH if event.mismatch else Why.CANCELLED
