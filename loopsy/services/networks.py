"""Which networks this machine is on now."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import psutil

from loopsy.core.discovery import Networks, parsed
from loopsy.services.addresses import EVERYWHERE


def look(host: str) -> Networks:
    """The addresses at which a daemon that listens on ``host`` is reached, and the networks behind them; 0.2 ms.

    Interfaces that are down, or whose cable is out, don't count.
    """
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    found = [address for name, each in psutil.net_if_addrs().items() if name in up for address in each]
    fit = {address.address: address for address in found if _is_fit(address.address, host)}
    return Networks(addresses=tuple(sorted(fit)), links=tuple(filter(None, map(_link, fit.values()))))


def _is_fit(text: str, host: str) -> bool:
    address = parsed(text)
    if address is None or (address.version == 6 and address.is_link_local):
        return False  # a link's hardware address, or one with a zone
    if host not in EVERYWHERE:
        return text == ("127.0.0.1" if host == "localhost" else host)
    return not address.is_loopback and (address.version == 4 or host == "::")


def _link(address: Any) -> IPv4Network | IPv6Network | None:
    """The network of an interface's address, where the system tells how large it is."""
    mask: str | None = address.netmask
    if mask is None:
        return None
    if ":" in mask:  # IPv6 masks are written like addresses
        bits = int(ip_address(mask)).bit_count()
        return ip_network(f"{address.address}/{bits}", strict=False)
    return ip_network(f"{address.address}/{mask}", strict=False)
