"""Tools about peers: who there is, and how one is."""

from __future__ import annotations

import time
from typing import Any

from pydantic import Field

from loopsy.errors import LoopsyError, PeerNotFound
from loopsy.mcp.call import Call
from loopsy.mcp.names import PEER, known, label, name_of, peer_of
from loopsy.mcp.results import in_words, moment, trust_of, visible
from loopsy.mcp.tool import Answer, Arguments, Effect, Tool
from loopsy.wire import urls

AWAY = (2002, 2003)
"""Codes of a peer that does not answer."""


class NoArguments(Arguments):
    """Nothing."""


class PeerAsked(Arguments):
    """One machine."""

    peer: str | None = Field(default=None, description=PEER, max_length=255)


class PeerShown(Answer):
    """A peer, without where it is."""

    name: str = Field(description="What to give other tools as peer")
    status: str = Field(description="online, offline or unknown")
    paired: bool = Field(description="There is a key for it: without one it can't be used")
    platform: str
    version: str
    capabilities: list[str]
    labels: list[str] | None = Field(default=None, description="The user's words for it, to choose several by")
    may_do_here: list[str] | None = Field(default=None, description="What it may do on this machine")
    last_seen: str | None = Field(default=None, description="UTC")


class Peers(Answer):
    """All of them."""

    peers: list[PeerShown]
    online: int
    notes: list[str] = []


class PeerStatus(Answer):
    """How a machine is."""

    peer: str
    status: str = Field(description="online or offline")
    trust: str
    answered_in_ms: float | None = None
    platform: str | None = None
    version: str | None = None
    uptime_seconds: float | None = None
    peers_known: int | None = None
    peers_online: int | None = None
    jobs_running: int | None = None
    context_entries: int | None = None
    encrypted: bool | None = Field(default=None, description="It speaks TLS")
    last_seen: str | None = Field(default=None, description="UTC; of an offline peer")
    reason: str | None = Field(default=None, description="Why it does not answer, and what to do")


def shown(peer: dict[str, Any]) -> PeerShown | None:
    """A peer for the list; None where only its address is known."""
    name = name_of(peer)
    if name is None:
        return None
    scopes = peer.get("scopes")
    return PeerShown(
        name=name,
        status=str(peer.get("status", "unknown")),
        paired=bool(peer.get("trusted")),
        platform=short(peer.get("platform")),
        version=short(peer.get("version")),
        capabilities=[short(item) for item in list(peer.get("capabilities") or ())[:16]],
        labels=[short(item) for item in peer.get("labels") or ()] or None,
        may_do_here=None if scopes is None else [str(scope) for scope in scopes],
        last_seen=moment(peer.get("lastSeen")),
    )


def short(value: object) -> str:
    """A word that another machine said."""
    return visible(str(value))[:32]


async def list_peers(call: Call, _: NoArguments) -> Peers:
    """Everyone in the peer book."""
    everyone = (await known(call)).peers
    peers = [one for one in map(shown, everyone) if one is not None]
    unnamed = len(everyone) - len(peers)
    notes = [f"{unnamed} more never answered yet; only their address is known"] if unnamed else []
    if not peers:
        notes.append("No peers yet. The user pairs two machines with `loopsy pair`.")
    return Peers(peers=peers[:200], online=sum(one.status == "online" for one in peers), notes=notes)


async def peer_status(call: Call, asked: PeerAsked) -> PeerStatus:
    """Ask it; one that does not answer is offline, which is no error.

    :raises LoopsyError: nobody is called so, or it won't tell us.
    """
    peer = peer_of(asked.peer)
    begin = time.perf_counter()
    try:
        status = await call.ask("GET", urls.on_peer(urls.STATUS, peer))
    except LoopsyError as error:
        if peer is None or error.code not in AWAY:
            raise
        return await away(call, peer, error)
    return PeerStatus(
        peer=label(peer),
        status="online",
        trust=trust_of(peer),
        answered_in_ms=round((time.perf_counter() - begin) * 1000, 1),
        platform=short(status.get("platform")),
        version=short(status.get("version")),
        uptime_seconds=number(status, "uptime"),
        peers_known=whole(status, "peers", "total"),
        peers_online=whole(status, "peers", "online"),
        jobs_running=whole(status, "jobs", "active"),
        context_entries=whole(status, "context", "entries"),
        encrypted=enabled(status),
    )


async def away(call: Call, peer: str, error: LoopsyError) -> PeerStatus:
    """What the book says of one that does not answer."""
    book = await known(call)
    found = next((one for one in book.peers if peer in (one.get("name"), one.get("hostname"), one.get("nodeId"))), {})
    last_seen = moment(found.get("lastSeen"))
    return PeerStatus(peer=peer, status="offline", trust=trust_of(None), last_seen=last_seen, reason=in_words(error))


def number(status: dict[str, Any], *path: str) -> float | None:
    """A number in another machine's answer, whatever that is."""
    value: Any = status
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return round(float(value), 1) if isinstance(value, int | float) and abs(value) < 2**53 else None


def whole(status: dict[str, Any], *path: str) -> int | None:
    """The same, whole."""
    value = number(status, *path)
    return None if value is None else int(value)


def enabled(status: dict[str, Any]) -> bool | None:
    """Whether it says that it speaks TLS."""
    tls = status.get("tls")
    return bool(tls.get("enabled")) if isinstance(tls, dict) else None


async def online_names(call: Call) -> tuple[list[str], list[str]]:
    """The paired peers that are online, and those that aren't.

    :raises PeerNotFound: there are none at all.
    """
    paired = [one for one in (await list_peers(call, NoArguments())).peers if one.paired]
    if not paired:
        raise PeerNotFound("no peers are paired with this machine", hint="the user pairs machines with `loopsy pair`")
    online = [one.name for one in paired if one.status == "online"]
    return online, [one.name for one in paired if one.status != "online"]


TOOLS = (
    Tool(
        name="loopsy_list_peers",
        title="List machines",
        description="List the user's other machines (peers): their names, whether they are online, and what they can "
        "do. Call this first: all other tools take these names. It shows what this machine knew a few seconds ago; "
        "loopsy_peer_status asks one machine now.",
        takes=NoArguments,
        gives=Peers,
        effect=Effect(reads_only=True, reaches_out=False),
        run=list_peers,
    ),
    Tool(
        name="loopsy_peer_status",
        title="Status of a machine",
        description="Ask one machine how it is, now: whether it answers and how quickly, its platform and version, and "
        "how many commands run there. An offline machine is a result, with when it was last seen, and no error.",
        takes=PeerAsked,
        gives=PeerStatus,
        effect=Effect(reads_only=True),
        run=peer_status,
    ),
)
