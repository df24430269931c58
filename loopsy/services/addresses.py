"""Where other machines may find this one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - recognised, not chosen


def reachable(host: str, port: int, default_port: int) -> tuple[str, ...]:
    """The addresses for another machine's user to type; with the port only where it is not the usual one."""
    hosts = _all(ipv6=host == "::") if host in EVERYWHERE else [host]
    return tuple(at if port == default_port else f"[{at}]:{port}" if ":" in at else f"{at}:{port}" for at in hosts)


def _all(ipv6: bool) -> list[str]:
    """Of every interface, IPv4 first; not loopback, and not those that hold on one link only."""
    import psutil  # asked for once in a pairing

    found = {address.address for of_one in psutil.net_if_addrs().values() for address in of_one}
    fit = [parsed for text in found if (parsed := _parsed(text)) is not None and (ipv6 or parsed.version == 4)]
    return [str(parsed) for parsed in sorted(fit, key=lambda parsed: (parsed.version, int(parsed)))]


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(text)
    except ValueError:
        return None  # a link's hardware address, or one with a zone
    return None if parsed.is_loopback or parsed.is_link_local else parsed
