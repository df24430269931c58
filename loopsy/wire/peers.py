"""Peers: who else there is, and introducing oneself."""

from __future__ import annotations

import re
from typing import Any

from attrs import field, frozen

from loopsy.wire.checks import Refused, at_most, no_nul, not_empty, one_of, within

CAPABILITIES = ("execute", "transfer", "context", "messages", "events", "ai-tasks", "peers")
"""What this version can do for a peer; grows with the areas."""
EVENTS = "events"
SHARES_PEERS = "peers"
"""It tells a peer of the peers that it is paired with."""
ONLINE, OFFLINE, UNKNOWN = "online", "offline", "unknown"
MAX_LABELS = 32
LABEL_SHAPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What may stand between commas, in a shell and in a table without quotes."""


@frozen(kw_only=True)
class NodeIdentity:
    """Who a node says it is: ``GET /identity``, the handshake, and its answer."""

    node_id: str = field(validator=[not_empty, no_nul, at_most(128)])
    hostname: str = field(validator=[not_empty, no_nul, at_most(255)])
    platform: str = field(default="unknown", validator=at_most(64))
    version: str = field(default="unknown", validator=at_most(64))
    port: int = field(validator=within(1, 65535, ""))
    capabilities: tuple[str, ...] = field(default=(), validator=at_most(64))


@frozen(kw_only=True)
class Peer:
    """A peer as ``GET /peers`` shows it."""

    node_id: str
    hostname: str
    address: str
    port: int
    platform: str = "unknown"
    version: str = "unknown"
    capabilities: tuple[str, ...] = ()
    status: str = field(default=UNKNOWN, validator=one_of(ONLINE, OFFLINE, UNKNOWN))
    last_seen: int = 0
    """ms since the epoch; 0: never."""
    failure_count: int = 0
    trusted: bool = False
    """A key for this peer is on file."""
    manually_added: bool = False
    name: str | None = None
    """What this machine calls it: the name its key is filed under."""
    pin: str | None = None
    """The fingerprint of its certificate; None: it is spoken to in plain HTTP."""
    pinned_at: int | None = None
    """ms since the epoch."""
    scopes: tuple[str, ...] | None = None
    """What it may do here; None: it has no key of ours."""
    last_used: int | None = None
    """When its key was last presented here, ms since the epoch."""
    found: bool = False
    """It is announced on the LAN now, by whoever says so."""
    announced_at: str | None = None
    """Where it is announced, if not at ``address``: ``address:port``, unproved."""
    offered_by: tuple[str, ...] | None = None
    """Peers of ours that are paired with it, where it isn't known otherwise."""
    labels: tuple[str, ...] = ()
    """Words of this machine's user for it (``gpu``), by which several are chosen at once."""


@frozen(kw_only=True)
class PeerList:
    """``GET /peers``. A peer is told of the paired ones only, and of what it needs to pair with them."""

    peers: tuple[Peer, ...]


@frozen(kw_only=True)
class SharedPeer:
    """What counts for us in another machine's ``GET /peers``; one that makes no sense is left out, not refused."""

    node_id: str
    hostname: str
    address: str
    port: int
    trusted: bool = False


@frozen(kw_only=True)
class SharedPeers:
    """The same, all of it."""

    peers: tuple[SharedPeer, ...]


@frozen(kw_only=True)
class AddPeer:
    """``POST /peers``."""

    address: str = field(validator=[not_empty, no_nul, at_most(255)])
    port: int = field(default=19532, validator=within(1, 65535, ""))
    hostname: str | None = field(default=None, validator=[not_empty, no_nul, at_most(255)])
    node_id: str | None = field(default=None, validator=[not_empty, no_nul, at_most(128)])


def are_labels(_: Any, attribute: Any, value: Any) -> None:
    """Words that may be labels."""
    wrong = [label for label in value if not LABEL_SHAPE.fullmatch(label)]
    if wrong:
        raise Refused(
            attribute,
            f"{wrong[0][:100]!r} is no label: letters, digits, dot, _ and -, a letter or digit first, up to 64",
        )


@frozen(kw_only=True)
class SetLabels:
    """``PUT /peers/<nodeId>/labels``: all that it is to have from now on."""

    labels: tuple[str, ...] = field(validator=[at_most(MAX_LABELS), are_labels])


@frozen(kw_only=True)
class PeerRemoved:
    """``DELETE /peers/<nodeId>``."""

    success: bool
    node_id: str
