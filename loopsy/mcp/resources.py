"""What an agent can attach without calling a tool: peers, status and shared values of this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import mcp_types as types

from loopsy.mcp.call import Call
from loopsy.mcp.context import ContextList, context_list
from loopsy.mcp.peers import NoArguments, PeerAsked, list_peers, peer_status
from loopsy.mcp.tool import Answer

MIME = "application/json"


async def _peers(call: Call) -> Answer:
    return await list_peers(call, NoArguments())


async def _status(call: Call) -> Answer:
    return await peer_status(call, PeerAsked())


async def _context(call: Call) -> Answer:
    return await context_list(call, ContextList())


READERS: dict[str, tuple[str, str, Callable[[Call], Awaitable[Answer]]]] = {
    "loopsy://peers": ("Machines", "The user's other machines and whether they are online", _peers),
    "loopsy://status": ("This machine", "This machine's loopsy daemon: version, uptime, jobs, peers", _status),
    "loopsy://context": ("Shared values", "The named values on this machine, with how each begins", _context),
}


def described() -> list[types.Resource]:
    """As ``resources/list`` shows them."""
    return [
        types.Resource(uri=uri, name=uri.removeprefix("loopsy://"), title=title, description=about, mime_type=MIME)
        for uri, (title, about, _) in READERS.items()
    ]
