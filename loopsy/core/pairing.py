"""Pairing: who may try now, what the new peer is called, and what a joiner puts aside before it is done.

The two halves are ``pairing_inviter`` and ``pairing_joiner``; both speak ``pairing_messages``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address

from attrs import field, frozen

from loopsy.core.pairing_joiner import Agreed
from loopsy.core.pairing_keys import Label, Role
from loopsy.core.pairing_messages import Cancelled, Done, Facts, Finish, encode
from loopsy.core.pairing_states import say
from loopsy.core.principals import RESERVED
from loopsy.core.rates import Bucket
from loopsy.errors import RateLimited
from loopsy.wire.peers import NodeIdentity

SESSION_S = 300.0
"""Two people, one walk to the other desk."""
SILENCE_S = 25.0
"""While numbers are compared the joiner asks at least every eight seconds: three missed ones mean that it is gone."""
POLL_S = 8.0
"""The inviter holds a question so long; below the ten seconds after which the joiner's client gives up."""
PER_ADDRESS, OVERALL = (1.0, 3), (3.0, 6)
"""Greetings a second, and how many at once: each costs the inviter 12 ms of computing at most, so a flood takes a
twenty-fifth of one core. One address leaves room for another; who gets 429 tries again a second later."""
ADDRESSES = 64
"""Remembered at once; the one not heard of for longest is forgotten, by then with its bucket full again or nearly."""


class Door:
    """Limits greetings before anything is computed for them."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._all = Bucket(OVERALL[1], 0.0)

    def knock(self, address: str, now: float) -> None:
        """Somebody greets from ``address`` at ``now`` (seconds of a monotonic clock).

        :raises RateLimited: too soon.
        """
        name = network(address)
        own = refilled(self._buckets.get(name, Bucket(PER_ADDRESS[1], now)), PER_ADDRESS, now)
        every = refilled(self._all, OVERALL, now)
        if own.tokens < 1 or every.tokens < 1:
            raise RateLimited("too many tries to pair at once", retry_after=1)
        self._all = Bucket(every.tokens - 1, now)
        self._buckets.pop(name, None)
        self._buckets[name] = Bucket(own.tokens - 1, now)
        if len(self._buckets) > ADDRESSES:
            del self._buckets[next(iter(self._buckets))]


def refilled(bucket: Bucket, limit: tuple[float, int], now: float) -> Bucket:
    """A bucket as it stands at ``now``."""
    rate, size = limit
    return Bucket(min(size, bucket.tokens + max(0.0, now - bucket.at) * rate), now)


def network(address: str) -> str:
    """Whom an address stands for: itself, or its /64, all of which one IPv6 host may have."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(int(parsed) >> 64)
    return str(parsed)


# -- names ------------------------------------------------------------------------------------------------------------
UNFIT = re.compile(r"[^\w.-]+")
LONGEST_NAME = 64


def name_for(node_id: str, hostname: str, known: Mapping[str, str], keyed: Collection[str]) -> str:
    """What the new peer is called: as before if it was paired before (its keys are then replaced), else its hostname,
    with a number behind it while that name is another's, or one of ours.

    ``known`` are the node ids of named peers by name, ``keyed`` the names that keys or pins are filed under.
    """
    before = [name for name, node in known.items() if node == node_id]
    if before:
        return before[0]
    base = UNFIT.sub("-", hostname).strip("-.")[:LONGEST_NAME] or "peer"
    taken = {*known, *keyed, *RESERVED}
    return next(name for name in (base, *(f"{base}-{n}" for n in range(2, len(taken) + 3))) if name not in taken)


# -- what a joiner puts aside -----------------------------------------------------------------------------------------
@frozen(kw_only=True)
class Prepared:
    """All that it takes to end a pairing well, on disk before the inviter is told to store its half."""

    node: NodeIdentity
    address: str
    port: int
    """Where it was reached."""
    pin: str | None = None
    """Of its certificate."""
    our_key: str = field(repr=False)
    their_key: str = field(repr=False)
    finish: str = field(repr=False)
    """What is said to it, in hex."""
    done: str = field(repr=False)
    cancelled: str = field(repr=False)
    """Its two possible answers, in hex."""
    until: int
    """ms since the epoch; after that the inviter can't store any more."""


def prepare(state: Agreed, address: str, port: int, until: int) -> Prepared:
    """What is put aside of a session in which both said yes."""
    agreement, inviter = state.agreement, state.inviter
    return Prepared(
        node=node_of(inviter),
        address=address,
        port=port,
        pin=inviter.fingerprint or None,
        our_key=agreement.key(Role.JOINER),
        their_key=agreement.key(Role.INVITER),
        finish=encode(say(agreement, Label.FINISH, Finish)).hex(),
        done=encode(say(agreement, Label.DONE, Done)).hex(),
        cancelled=encode(say(agreement, Label.CANCELLED, Cancelled)).hex(),
        until=until,
    )


def settles(prepared: Prepared, answer: bytes) -> bool | None:
    """Whether the inviter has stored its half (True), never will (False), or did not say (None)."""
    if compare_digest(answer, bytes.fromhex(prepared.done)):
        return True
    return False if compare_digest(answer, bytes.fromhex(prepared.cancelled)) else None


def node_of(facts: Facts) -> NodeIdentity:
    """A side's own words as an identity; the rest is learnt at the first handshake."""
    return NodeIdentity(node_id=facts.node_id, hostname=facts.name, port=facts.port)
