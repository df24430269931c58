"""What was found and offered, all of it: never in the peer book, never on disk.

announced ──answers──▶ online ──3 misses──▶ offline ──▶ gone
    └──── goodbye, or its records ran out: gone two minutes later, unless it is announced again
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from attrs import evolve

from loopsy.core.discovery import CLAIMS_MAX, FOUND_MAX, MISSES, Offer, Place, Sighting
from loopsy.core.peers import endpoint
from loopsy.errors import PeerNotFound
from loopsy.wire.peers import OFFLINE, ONLINE, UNKNOWN, Peer


class Around:
    """What was found and offered; times in seconds of any one clock."""

    def __init__(self, own_node_id: str) -> None:
        self._own = own_node_id
        self._sightings: dict[str, Sighting] = {}
        self._offers: dict[str, tuple[Offer, ...]] = {}

    def __len__(self) -> int:
        return len(self._sightings)

    def get(self, instance: str) -> Sighting | None:
        """What is known of a service."""
        return self._sightings.get(instance)

    def take(self, sighting: Sighting) -> Sighting | None:
        """Keep what was found; what it is now, or None: there is no room, or it claims to be us."""
        if sighting.node_id == self._own:
            return None
        before = self._sightings.get(sighting.instance)
        if before is None and not self._make_room():
            return None
        if before is not None and before.node_id == sighting.node_id:
            is_same = before.places == sighting.places and before.gone_at is None
            sighting = evolve(
                sighting,
                since=before.since,
                status=before.status if is_same else UNKNOWN,
                last_seen=before.last_seen,
                failures=before.failures if is_same else 0,
                asked_at=before.asked_at,
                answered_at=before.answered_at,
            )
        self._sightings[sighting.instance] = sighting
        return sighting

    def _make_room(self) -> bool:
        """Who never answered makes room, the oldest first; nobody who did."""
        if len(self._sightings) < FOUND_MAX:
            return True
        silent = [one for one in self._sightings.values() if one.status != ONLINE]
        if silent:
            del self._sightings[min(silent, key=lambda one: one.since).instance]
        return bool(silent)

    def lost(self, instance: str, now: float) -> None:
        """It said goodbye, or its records ran out."""
        self._change(instance, status=OFFLINE, gone_at=now)

    def asked(self, instance: str, now: float) -> None:
        """A question is on its way."""
        self._change(instance, asked_at=now)

    def answered(self, instance: str, place: Place, now: float, now_ms: int) -> None:
        """A node with the id that it claims answered there."""
        sighting = self._sightings.get(instance)
        if sighting is not None and place in sighting.places:
            rest = tuple(each for each in sighting.places if each != place)
            self._change(instance, places=(place, *rest), status=ONLINE, failures=0, last_seen=now_ms, answered_at=now)

    def missed(self, instance: str) -> None:
        """Nobody answered, or another node."""
        sighting = self._sightings.get(instance)
        if sighting is not None:
            failures = sighting.failures + 1
            status = OFFLINE if failures >= MISSES else sighting.status
            self._change(instance, failures=failures, status=status)

    def _change(self, instance: str, **changes: Any) -> None:
        if instance in self._sightings:
            self._sightings[instance] = evolve(self._sightings[instance], **changes)

    def sweep(self, now: float) -> bool:
        """Forget who is long gone; whether there was any."""
        over = [instance for instance, one in self._sightings.items() if one.is_over(now)]
        for instance in over:
            del self._sightings[instance]
        return bool(over)

    def due(self, now: float, known: Collection[str]) -> list[Sighting]:
        """Strangers that should be asked; the ``known`` are asked by the prober."""
        return [one for one in self._sightings.values() if one.node_id not in known and one.is_due(now)]

    def offered(self, by: str, told: tuple[Offer, ...]) -> bool:
        """What a peer tells of its own; whether that is new."""
        before = self._offers.pop(by, ())
        if told:
            self._offers[by] = told
        return before != told

    def forget_offers(self, present: Collection[str]) -> bool:
        """Only what ``present`` peers told stays; whether anything went."""
        gone = [by for by in self._offers if by not in present]
        for by in gone:
            del self._offers[by]
        return bool(gone)

    # -- what is shown ----------------------------------------------------------------------------------------------
    def announced(self, node_id: str) -> tuple[Sighting, ...]:
        """The services that say they are this node now, those that answered first."""
        claims = [one for one in self._sightings.values() if one.node_id == node_id and one.gone_at is None]
        return tuple(sorted(claims, key=lambda one: (one.status != ONLINE, one.since))[:CLAIMS_MAX])

    def places_of(self, node_id: str) -> tuple[Place, ...]:
        """Where a node may be, if those who say so are right."""
        return tuple(dict.fromkeys(place for one in self.announced(node_id) for place in one.places))

    def with_news(self, peer: Peer) -> Peer:
        """A peer of the book, with what is announced of it."""
        if not self.announced(peer.node_id):
            return peer
        places = self.places_of(peer.node_id)
        elsewhere = None if (peer.address, peer.port) in places else endpoint(*places[0])
        return evolve(peer, found=True, announced_at=elsewhere)

    def strangers(self, known: Collection[str], endpoints: Collection[Place]) -> tuple[Peer, ...]:
        """Whoever is not in the book, as peers: found ones, then those that were only offered."""
        taken = {*known, self._own}
        found: dict[str, Peer] = {}
        by_status = sorted(self._sightings.values(), key=lambda one: (one.status != ONLINE, one.since))
        for one in by_status:
            if one.node_id not in taken and one.places[0] not in endpoints:
                found.setdefault(one.node_id, _found(one))
        for offer in (each for told in self._offers.values() for each in told):
            if offer.node_id in taken:
                continue
            peer = found.setdefault(offer.node_id, _offered(offer))
            found[offer.node_id] = evolve(peer, offered_by=tuple(dict.fromkeys((*(peer.offered_by or ()), offer.by))))
        return tuple(sorted(found.values(), key=lambda peer: (peer.hostname, peer.node_id)))


def not_paired(word: str, strangers: Collection[Peer]) -> PeerNotFound | None:
    """The error for a word that means one of the strangers; None: it doesn't."""
    for peer in strangers:
        place = endpoint(peer.address, peer.port)
        if word in (peer.hostname, peer.node_id, peer.address, place):
            how = "announced on the LAN" if peer.found else f"offered by {', '.join(peer.offered_by or ())}"
            return PeerNotFound(f"{word!r} is {how}, but not paired", hint=f"pair with it: loopsy pair {place}")
    return None


def _found(sighting: Sighting) -> Peer:
    address, port = sighting.places[0]
    return Peer(
        node_id=sighting.node_id,
        hostname=sighting.hostname,
        address=address,
        port=port,
        platform=sighting.platform,
        version=sighting.version,
        capabilities=sighting.capabilities,
        status=sighting.status,
        last_seen=sighting.last_seen,
        failure_count=sighting.failures,
        found=True,
    )


def _offered(offer: Offer) -> Peer:
    address, port = offer.place
    return Peer(node_id=offer.node_id, hostname=offer.hostname, address=address, port=port)
