"""Machines by the names that this one has for them: all that a model gets to see of where they are."""

from __future__ import annotations

import re
from typing import Any

from attrs import frozen

from loopsy.errors import InvalidRequest
from loopsy.mcp.call import Call
from loopsy.mcp.results import THIS_MACHINE, is_address
from loopsy.wire import urls

OURS = ("", ".", "local", "localhost", THIS_MACHINE)
HARMLESS = re.compile(r"\w[\w .@+-]{0,62}")
"""A host's own name for itself, while nobody has vouched for it."""
PEER = "The other machine's name, as loopsy_list_peers shows it. Leave it out for this machine."


def peer_of(word: str | None) -> str | None:
    """The machine that is meant; None is this one.

    :raises InvalidRequest: it is an address.
    """
    if word is None or word.strip() in OURS:
        return None
    if is_address(word):
        raise InvalidRequest("peer: machines are named here, not addressed", hint="loopsy_list_peers shows the names")
    return word


def label(peer: str | None) -> str:
    """For results."""
    return peer or THIS_MACHINE


def name_of(peer: dict[str, Any]) -> str | None:
    """What this machine calls it. A peer without a key has only the name that it gave itself, which could be any text:
    it is shown if it looks like a name. None: there is nothing but an address yet."""
    name = peer.get("name")
    if isinstance(name, str) and may_be_name(name):
        return name
    hostname, node_id = str(peer.get("hostname", "")), str(peer.get("nodeId", ""))
    if HARMLESS.fullmatch(hostname) and may_be_name(hostname):
        return hostname
    return None if is_address(node_id) else node_id[:8]


def may_be_name(word: str) -> bool:
    """Whether a tool that gets it would know which machine is meant."""
    return not is_address(word) and word.strip() not in OURS


@frozen
class Known:
    """The peers, and who we are."""

    peers: list[dict[str, Any]]
    own_node_id: str

    def called(self, node_id: object) -> str | None:
        """The name of a node; None: nobody we know."""
        if node_id == self.own_node_id:
            return THIS_MACHINE
        return next((name_of(peer) for peer in self.peers if peer.get("nodeId") == node_id), None)


async def known(call: Call) -> Known:
    """The peer book.

    :raises LoopsyError: the daemon's.
    """

    def read() -> str:
        try:
            return call.connect().layout.node_id.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    answer = await call.ask("GET", urls.PEERS)
    return Known(list(answer["peers"]), read())
