"""Host headers: a request must be meant for this machine.

A web page of an attacker can make a name of his point at our address (DNS rebinding) and so have a browser speak to us
as if we were his site. Such a request still carries his name.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

from loopsy.errors import Forbidden, Misdirected


def check(host: str, names: Collection[str]) -> None:
    """``host`` is an IP literal, localhost or one of our ``names`` (lower case), with or without a port.

    :raises Misdirected: it is none of them.
    """
    name = without_port(host).lower().rstrip(".")
    if name == "localhost" or name in names or is_address(name):
        return
    raise Misdirected(f"this is not {name!r}", hint="ask for this machine by its address, its hostname, or localhost")


def check_origin(origin: str, host: str | None) -> None:
    """A page may only speak to the daemon that served it: its ``Origin`` is the host that it asks. Programs send none.

    :raises Forbidden: it is another site's page, or one of nowhere.
    """
    scheme, _, site = origin.partition("://")
    if scheme not in ("http", "https") or host is None or site.lower() != host.lower():
        raise Forbidden("a page of another site can't ask this daemon")


def without_port(host: str) -> str:
    """``a:1`` → ``a``, ``[::1]:1`` → ``::1``."""
    if host.startswith("["):
        address, _, rest = host[1:].partition("]")
        return address if not rest or rest.startswith(":") else host
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def is_address(text: str) -> bool:
    """An IPv4 or IPv6 literal."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own loopback."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
