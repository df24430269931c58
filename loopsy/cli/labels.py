"""``loopsy peers label``: words for peers, by which several are chosen at once."""

from __future__ import annotations

import argparse
from typing import Any

from loopsy.cli import arguments, render
from loopsy.client.local import LocalDaemon
from loopsy.errors import PeerNotFound
from loopsy.wire import urls


def fill(parser: argparse.ArgumentParser) -> None:
    """The parser of ``peers label``. Options may also stand between the labels."""
    arguments.describe(
        parser,
        "Give a peer labels, or take them away; without any, show those it has. They are this machine's own words:\n"
        "no other machine is told of them. exec, send and the agents' tools choose peers by them.",
        "loopsy peers label kai gpu linux\nloopsy peers label kai --remove gpu\n"
        "loopsy exec --label gpu --label linux nvidia-smi",
        run,
    )
    if isinstance(parser, arguments.Parser):
        parser.is_intermixed = True
    arguments.complete_peers(parser.add_argument("peer", help="its name, hostname or node id"))
    parser.add_argument("labels", nargs="*", metavar="label", help="letters, digits, dot, _ and -")
    parser.add_argument("--remove", action="store_true", help="take these away (without labels: all)")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Change and show them.

    :raises LoopsyError: the daemon's.
    """
    daemon = arguments.daemon_of(args)
    peer = record_of(daemon, args.peer)
    had, named = set(peer.get("labels") or ()), set(args.labels)
    wanted = (had - named if named else set()) if args.remove else had | named
    if wanted != had:
        path = urls.fill(urls.PEER_LABELS, node_id=str(peer["nodeId"]))
        peer = daemon.ask("PUT", path, {"labels": sorted(wanted)})
    if arguments.wants_json(args):
        render.print_json(peer)
    else:
        print(render.clean(" ".join(peer.get("labels") or ()) or "no labels"))
    return 0


def record_of(daemon: LocalDaemon, word: str) -> dict[str, Any]:
    """The peer that is meant by a name, a hostname or a node id.

    :raises PeerNotFound: just one would have to be called so.
    """
    peers: list[dict[str, Any]] = daemon.ask("GET", urls.PEERS)["peers"]
    for field in ("name", "nodeId", "hostname"):
        found = [peer for peer in peers if peer.get(field) == word]
        if len(found) == 1:
            return found[0]
    raise PeerNotFound(f"no one peer is called {word!r}", hint="loopsy peers shows them")
