"""``loopsy connect``: setting up a peer by hand, question by question, for nodes that can't be paired (existing Loopsy
nodes with shared keys). It tests the connection and says what is missing."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from typing import Any

from loopsy.cli import arguments, peers, render
from loopsy.client.local import LocalDaemon
from loopsy.errors import LoopsyError, UsageError
from loopsy.wire import urls


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``connect``."""
    arguments.describe(
        parser,
        "Set up a peer by hand: for existing Loopsy nodes, which share keys. Between two of ours, pair instead:\n"
        "that needs no key to be carried over. Asks for what is not given, and tests the connection.",
        "loopsy connect\n"
        "loopsy connect 192.168.1.75 --name kai\n"
        "pass kai | loopsy connect 192.168.1.75 --name kai --key -",
        run,
    )
    parser.add_argument("address", nargs="?", help="an IP address or host name, or address:port")
    parser.add_argument("--name", help="what to call it here")
    parser.add_argument("--key", help="the key to present there; - reads it from stdin")
    parser.add_argument("--pin", help="the fingerprint of its certificate (loopsy status shows it there)")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """The wizard."""
    daemon = arguments.daemon_of(args)
    address, port = peers.split_address(args.address or ask("address of the other machine"), None)
    found = daemon.ask("POST", urls.TRUST_PROBE, {"address": address, "port": port})
    tell(f"a daemon answers at {address}:{port} (node {found['nodeId'][:8]}, {speaks(found)})")
    pin = agreed_pin(found, args.pin)
    name = args.name or ask("what to call it here", address)
    key = given_key(args.key) or made_key(daemon, name)
    tested = daemon.ask("POST", urls.TRUST_PROBE, {"address": address, "port": port, "key": key})
    body = {"name": name, "address": address, "port": port, "ourKey": key, "theirKey": key, "pin": pin}
    answer = daemon.ask("POST", urls.TRUST, {k: v for k, v in body.items() if v is not None})
    return conclude(args, answer, tested)


def ask(question: str, default: str | None = None) -> str:
    """One question on the terminal.

    :raises UsageError: there is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"{question}? (there is no terminal to ask on)", hint="give it as an argument; see --help")
    answer = input(f"{question}{f' [{default}]' if default else ''}: ").strip()
    return answer or default or ask(question)


def tell(text: str) -> None:
    """Progress, beside what is printed for programs."""
    print(render.clean(text), file=sys.stderr)


def speaks(found: dict[str, Any]) -> str:
    """How it can be spoken to."""
    return "TLS" if found.get("fingerprint") else "plain HTTP: keys and data can be read on the way"


def agreed_pin(found: dict[str, Any], given: str | None) -> str | None:
    """The certificate to pin: the one that was given, or the one shown, if a person says that it is the right one.

    :raises UsageError: it is not.
    """
    shown = found.get("fingerprint")
    if given is not None:
        wanted = given.replace(":", "").lower()
        if wanted != shown:
            raise UsageError(
                f"it shows the certificate {shown or 'of nobody (plain HTTP)'}, not {wanted}",
                hint="compare with what loopsy status says on the other machine",
            )
        return wanted
    if shown is None:
        return None
    tell(f"it shows a certificate with the fingerprint\n  {shown}")
    if ask("is that what `loopsy status` says on the other machine? (yes/no)").lower() not in ("y", "yes"):
        raise UsageError("then somebody sits in between, or it is another machine: nothing was changed")
    return str(shown)


def given_key(option: str | None) -> str | None:
    """The key from the option, from stdin, or typed without being shown; None: make one."""
    if option == "-":
        return sys.stdin.readline().strip() or None
    if option is not None:
        return option
    if not sys.stdin.isatty():
        raise UsageError("which key? (there is no terminal to ask on)", hint="give --key -, and the key on stdin")
    from getpass import getpass

    return getpass("the key that it gave you (Enter: make a new one): ").strip() or None


def made_key(daemon: LocalDaemon, name: str) -> str:
    """A new key, and where to put it on the other machine."""
    key = secrets.token_hex(32)
    own = daemon.ask("GET", urls.IDENTITY)["hostname"]
    print(f"put this into config.yaml on {render.clean(name)}, and restart the daemon there:\n")
    print(f"  auth:\n    allowedKeys:\n      {json.dumps(own)}: {key}\n")
    ask("done? (Enter)", "yes")
    return key


def conclude(args: argparse.Namespace, answer: dict[str, Any], tested: dict[str, Any]) -> int:
    """What was done, and what is missing."""
    if arguments.wants_json(args):
        render.print_json({**answer, "takesKey": tested.get("takesKey")})
        return 0 if tested.get("takesKey") else 1
    name = render.clean(answer["name"])
    if tested.get("takesKey"):
        print(f"{name} is connected: try\n  loopsy exec {name} -- echo hello")
        return 0
    raise LoopsyError(
        f"{name} is in the book, but does not take the key",
        hint=f"put it under auth.allowedKeys in config.yaml on {name}, and reload or restart the daemon there",
    )
