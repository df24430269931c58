"""What is announced on the LAN, and what a found service or a peer's peer is taken for. Nothing of it is believed.

What is found goes to ``core.around`` and not to the peer book: it is never written to disk, gets no key, can't be meant
by a peer's name, and can't move a peer. The prober asks there where a pinned peer that went silent may be, and takes
only an answer that comes with its certificate.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from attrs import field, frozen

from loopsy.wire.peers import OFFLINE, UNKNOWN, NodeIdentity, SharedPeer

TYPE = "_loopsy._tcp.local."
FOUND_MAX = 200
"""Ten times the largest fleet that this is for; an announcer that claims to be thousands gets no further."""
PLACES_MAX = 4
"""Addresses of one service that are tried: a machine with more networks in common with us is rare."""
CLAIMS_MAX = 3
"""Services that may say they are the same node, and be asked when that node is looked for."""
TEXT_MAX = 1300
"""RFC 6763 6.2: a TXT record should fit into one packet."""
STRING_MAX = 255
CAPABILITIES_MAX = 32
LABEL_MAX = 63
ASK_EACH_S = 60.0
"""Strangers are asked whether they are still there a quarter as often as peers."""
ASK_AGAIN_S = 5.0
"""Whoever announces itself anew all the time is asked no more often than this."""
MISSES = 3
OFFLINE_S = 600.0
GONE_S = 120.0
OFFERS_MAX = 64
"""Of one peer."""

NODE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{7,127}")
LIMITS = {"nodeid": 129, "version": 64, "platform": 64, "capabilities": STRING_MAX}
"""Characters of a value; a node id that is too long must not become another one by being cut."""
Place = tuple[str, int]
Address = IPv4Address | IPv6Address


@frozen(kw_only=True)
class Service:
    """A service as mDNS found it: anybody's words."""

    instance: str
    server: str = ""
    port: int = 0
    addresses: tuple[str, ...] = ()
    text: bytes = field(default=b"", repr=False)


@frozen(kw_only=True)
class Networks:
    """What this machine is connected to now. ``host`` is where we listen."""

    addresses: tuple[str, ...] = ()
    """Ours, where others reach us: those that are announced."""
    links: tuple[IPv4Network | IPv6Network, ...] = ()
    """Whoever is in one of these is reached without a router."""

    @property
    def is_loopback(self) -> bool:
        """Whether we listen on this machine only."""
        return bool(self.addresses) and all(ip_address(address).is_loopback for address in self.addresses)


@frozen(kw_only=True)
class Sighting:
    """A service that is a loopsy node, if what it says is true."""

    instance: str
    node_id: str
    hostname: str
    platform: str
    version: str
    capabilities: tuple[str, ...]
    places: tuple[Place, ...]
    """The likeliest first."""
    since: float
    status: str = UNKNOWN
    last_seen: int = 0
    """ms since the epoch."""
    failures: int = 0
    asked_at: float | None = None
    answered_at: float | None = None
    gone_at: float | None = None

    def is_due(self, now: float) -> bool:
        """Whether to ask it again."""
        return self.gone_at is None and (self.asked_at is None or now - self.asked_at >= ASK_EACH_S)

    def is_over(self, now: float) -> bool:
        """Whether to forget it."""
        if self.gone_at is not None:
            return now - self.gone_at >= GONE_S
        return self.status == OFFLINE and now - (self.answered_at or self.since) >= OFFLINE_S


@frozen(kw_only=True)
class Offer:
    """A peer of a peer."""

    node_id: str
    hostname: str
    place: Place
    by: str
    """The peer that told, by the name that we have for it."""


# -- what is announced ------------------------------------------------------------------------------------------------
def text_of(own: NodeIdentity) -> bytes:
    """Our TXT record."""
    values = {
        "nodeId": own.node_id,
        "version": own.version,
        "platform": own.platform,
        "capabilities": _joined(own.capabilities, STRING_MAX - len("capabilities=")),
    }
    return b"".join(_string(f"{name}={value}".encode()) for name, value in values.items())


def _string(data: bytes) -> bytes:
    data = data[:STRING_MAX]
    return bytes([len(data)]) + data


def _joined(words: Iterable[str], room: int) -> str:
    """As many whole words as there is room for, in bytes."""
    taken = ""
    for word in words:
        longer = f"{taken},{word}" if taken else word
        if len(longer.encode()) > room:
            break
        taken = longer
    return taken


def instance_of(node_id: str) -> str:
    """The name of a node's service."""
    return f"loopsy-{node_id[:8]}.{TYPE}"


def server_of(own: NodeIdentity) -> str:
    """The name under which our addresses are announced: one of our own. ``<host>.local`` is the system's; if two
    programs of one machine answered for it with different addresses, the system would give its name away."""
    label = re.sub(r"[^0-9a-z-]+", "-", own.hostname.partition(".")[0].lower()).strip("-")[:LABEL_MAX]
    mark = re.sub(r"[^0-9a-z]+", "", own.node_id.lower())[:8]
    return f"{label or 'loopsy'}.{mark or 'node'}.local."


# -- what is found ----------------------------------------------------------------------------------------------------
def read_text(data: bytes) -> dict[str, str]:
    """The keys of a TXT record that we know, in lower case; each value cleaned and cut. The first of a key counts."""
    found: dict[str, str] = {}
    data = data[:TEXT_MAX]
    at = 0
    while at < len(data):
        piece = data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
        name, equals, value = piece.partition(b"=")
        key = name.decode("ascii", "replace").lower()
        if equals and key in LIMITS:
            found.setdefault(key, clean(value.decode("utf-8", "replace"), LIMITS[key]))
    return found


def clean(text: str, limit: int) -> str:
    """Somebody's words for himself: printable characters only, so many at most."""
    return "".join(character for character in text[: 4 * limit] if character.isprintable())[:limit].strip()


def read(service: Service, networks: Networks, own_port: int, now: float) -> Sighting | None:
    """The node that a service says it is; None: it isn't one, or is nowhere that we would go."""
    text = read_text(service.text)
    node_id = text.get("nodeid", "")
    places = likely_places(service.addresses, service.port, networks, own_port)
    if not NODE_ID.fullmatch(node_id) or not places:
        return None
    words = (clean(word, LABEL_MAX) for word in text.get("capabilities", "").split(","))
    return Sighting(
        instance=service.instance,
        node_id=node_id,
        hostname=clean(service.server.partition(".")[0], LABEL_MAX) or node_id[:8],
        platform=text.get("platform") or "unknown",
        version=text.get("version") or "unknown",
        capabilities=tuple(word for word in words if word)[:CAPABILITIES_MAX],
        places=places,
        since=now,
    )


def likely_places(addresses: Iterable[str], port: int, networks: Networks, own_port: int) -> tuple[Place, ...]:
    """Where to look for a service: on our own links first, then in private networks. Never on the internet, since
    a neighbour's announcement is no reason to knock there, and not at our own door."""
    if not 1 <= port <= 65535:
        return ()
    ranked: dict[str, int] = {}
    for text in addresses:
        address = parsed(text)
        rank = None if address is None else _rank(address, networks)
        if rank is not None and (str(address), port) not in {(own, own_port) for own in networks.addresses}:
            ranked.setdefault(str(address), rank)
    return tuple((address, port) for address in sorted(ranked, key=lambda each: ranked[each])[:PLACES_MAX])


def _rank(address: Address, networks: Networks) -> int | None:
    """How likely a node is reached there (0 best); None: don't try."""
    if address.is_unspecified or address.is_multicast or (address.version == 6 and address.is_link_local):
        return None
    if address.is_loopback:
        return 0 if networks.is_loopback else None
    if str(address) in networks.addresses:
        return 2  # such as a container bridge's address, which many machines have
    if any(address.version == link.version and address in link for link in networks.links):
        return 0
    return 1 if address.is_private and not address.is_link_local else None


def parsed(text: str) -> Address | None:
    """An address, if the text is one."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def offers(shared: Iterable[SharedPeer], by: str, own_node_id: str) -> tuple[Offer, ...]:
    """What a peer told of its own peers, as far as it makes sense."""
    found: list[Offer] = []
    for peer in shared:
        address = parsed(peer.address)
        if address is None or address.is_loopback or address.is_multicast or address.is_unspecified:
            continue
        if 1 <= peer.port <= 65535 and peer.trusted and peer.node_id != own_node_id and NODE_ID.fullmatch(peer.node_id):
            hostname = clean(peer.hostname, LABEL_MAX) or peer.node_id[:8]
            found.append(Offer(node_id=peer.node_id, hostname=hostname, place=(str(address), peer.port), by=by))
    return tuple(found[:OFFERS_MAX])
