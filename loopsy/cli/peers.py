"""``loopsy peers``: the peer book."""

from __future__ import annotations

import argparse
import time
from typing import Any

from loopsy.cli import arguments, labels, render, trust
from loopsy.client.local import DEFAULT_PORT, LocalDaemon
from loopsy.errors import UsageError
from loopsy.wire import urls

COLUMNS = ("peer", "address", "status", "last seen", "trust", "may", "used", "node")


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``peers``."""
    arguments.describe(parser, "List the peers that this machine knows.", "loopsy peers\nloopsy peers --json", show)
    arguments.add_json(parser)
    actions = parser.add_subparsers(metavar="[<action>]", prog="loopsy peers")
    listing = actions.add_parser("list", help="list them")
    arguments.describe(listing, "List the peers that this machine knows.", "loopsy peers list --json", show)
    arguments.add_json(listing)
    _fill_add(actions.add_parser("add", help="add one by its address"))
    removing = actions.add_parser("remove", help="forget one")
    arguments.describe(removing, "Forget a peer. Its keys stay in config.yaml.", "loopsy peers remove kai", remove)
    arguments.complete_peers(removing.add_argument("peer", help="its name, hostname or node id"))
    arguments.add_json(removing)
    trust.fill_revoke(actions.add_parser("revoke", help="trust one no longer"))
    trust.fill_rotate(actions.add_parser("rotate", help="make new keys with one"))
    labels.fill(actions.add_parser("label", help="give one labels, for exec and send --label"))
    trust.fill_scope(actions.add_parser("scope", help="say what one may do here"))


def _fill_add(adding: argparse.ArgumentParser) -> None:
    arguments.describe(
        adding,
        "Add a peer by its address. Its node id is learnt when it first answers.",
        "loopsy peers add 192.168.1.75 --name kai\nloopsy peers add 192.168.1.75:19533",
        add,
    )
    adding.add_argument("address", help="an IP address or host name, or address:port")
    adding.add_argument("port", nargs="?", type=arguments.port_number, help=f"default: {DEFAULT_PORT}")
    adding.add_argument("--name", help="what to call it: the name its key is filed under")
    adding.add_argument("--node-id", help="its node id, where it is known")
    arguments.add_json(adding)


def show(args: argparse.Namespace) -> int:
    """The list."""
    answer = arguments.daemon_of(args).ask("GET", urls.PEERS)
    peers: list[dict[str, Any]] = answer["peers"]
    if arguments.wants_json(args):
        render.print_json(answer)
    elif not peers:
        print("no peers are known yet\n  add one with: loopsy peers add <address> --name <name>")
    else:
        now = time.time() * 1000
        rows = [_row(peer, now) for peer in peers]
        if any(peer.get("labels") for peer in peers):
            rows = [(*row, ",".join(peer.get("labels") or ())) for row, peer in zip(rows, peers, strict=True)]
            print(render.table((*COLUMNS, "labels"), rows))
        else:
            print(render.table(COLUMNS, rows))
        for line in _advice(peers):
            print(render.clean(line))
    return 0


def _advice(peers: list[dict[str, Any]]) -> list[str]:
    """What there is to do about some of them."""
    lines = []
    if any(is_stranger(peer) for peer in peers):
        lines.append("what was found, or is offered by a peer, can be paired with: loopsy pair ADDRESS")
    for peer in peers:
        if peer.get("announcedAt") and peer.get("trusted") and not peer.get("pin"):
            where = peer["announcedAt"]
            lines.append(f"{label(peer)} is announced at {where}, which only a pinned certificate could prove")
            lines.append(f"  if that is it: loopsy peers add {where} --name {label(peer)}")
    return lines


def is_stranger(peer: dict[str, Any]) -> bool:
    """Whether it is here only because somebody says that it exists."""
    return not (peer.get("trusted") or peer.get("manuallyAdded")) and bool(peer.get("found") or peer.get("offeredBy"))


def label(peer: dict[str, Any]) -> str:
    """What a person calls it."""
    return str(peer.get("name") or peer.get("hostname") or peer.get("nodeId"))


def endpoint(peer: dict[str, Any]) -> str:
    """``address:port``."""
    address = str(peer.get("address"))
    return f"[{address}]:{peer.get('port')}" if ":" in address else f"{address}:{peer.get('port')}"


def _row(peer: dict[str, Any], now_ms: float) -> tuple[object, ...]:
    node_id = str(peer.get("nodeId", ""))
    node = "not known yet" if node_id.startswith("manual-") else node_id[:8]
    seen, used = (render.ago(peer.get(field) or 0, now_ms) for field in ("lastSeen", "lastUsed"))
    return label(peer), endpoint(peer), peer.get("status"), seen, _trust(peer, now_ms), _may(peer), used, node


def _trust(peer: dict[str, Any], now_ms: float) -> str:
    """How we speak to it: with its certificate pinned, with a key in plain HTTP, or not at all."""
    if not peer.get("trusted"):
        offered_by = ", ".join(peer.get("offeredBy") or ())
        return "found on the LAN" if peer.get("found") else f"offered by {offered_by}" if offered_by else "no key"
    if not peer.get("pin"):
        return "key, plain http"
    since = peer.get("pinnedAt")
    return f"pinned {render.ago(since, now_ms)}" if since else "pinned"


def _may(peer: dict[str, Any]) -> str:
    """What it may do here."""
    scopes = peer.get("scopes")
    if scopes is None:
        return "nothing"
    if set(trust.DEFAULT_SCOPES) <= set(scopes):
        return ",".join(["all", *(scope for scope in scopes if scope not in trust.DEFAULT_SCOPES)])
    return ",".join(scopes) or "nothing"


def add(args: argparse.Namespace) -> int:
    """Add one."""
    address, port = split_address(args.address, args.port)
    wanted = {"address": address, "port": port, "hostname": args.name, "nodeId": args.node_id}
    body = {name: value for name, value in wanted.items() if value is not None}
    peer = arguments.daemon_of(args).ask("POST", urls.PEERS, body)
    if arguments.wants_json(args):
        render.print_json(peer)
        return 0
    print(f"added {render.clean(label(peer))} at {render.clean(endpoint(peer))}")
    if not peer.get("trusted"):
        print("  there is no key for it yet; pair with it: loopsy pair")
    return 0


def split_address(word: str, port: int | None) -> tuple[str, int]:
    """``address``, ``address:port``, ``[v6]:port`` or a bare IPv6 address, with a port that may stand behind it.

    :raises UsageError: the port is none, or stands there twice.
    """
    address, colon, behind = word.rpartition(":")
    if word.startswith("["):
        address, bracket, behind = word[1:].partition("]")
        colon, behind = behind[:1], behind[1:]
        if not bracket:
            raise UsageError(f"{word!r} has no closing bracket")
    elif not colon or ":" in address:  # a name or IPv4 address without a port; a bare IPv6 address
        return word, port or DEFAULT_PORT
    if not colon:
        return address, port or DEFAULT_PORT
    if port is not None:
        raise UsageError(f"two ports: {behind} and {port}")
    try:
        return address, arguments.port_number(behind)
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from None


def remove(args: argparse.Namespace) -> int:
    """Forget one."""
    daemon = arguments.daemon_of(args)
    answer = daemon.ask("DELETE", urls.fill(urls.PEER, node_id=_node_id(daemon, args.peer)))
    if arguments.wants_json(args):
        render.print_json(answer)
    else:
        print(f"removed {render.clean(args.peer)}")
    return 0


def _node_id(daemon: LocalDaemon, word: str) -> str:
    """The node id behind a name, hostname or node id, if just one peer has it; else the daemon decides."""
    peers: list[dict[str, Any]] = daemon.ask("GET", urls.PEERS)["peers"]
    for field in ("nodeId", "name", "hostname"):
        found = [str(peer["nodeId"]) for peer in peers if peer.get(field) == word]
        if len(found) == 1:
            return found[0]
    return word
