"""``loopsy shell``: a terminal on any machine, that goes on when one leaves it."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from loopsy.cli import arguments, render
from loopsy.cli.exec import FAILED
from loopsy.cli.versions import there
from loopsy.errors import InvalidRequest, UsageError
from loopsy.wire import urls


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``shell``."""
    arguments.describe(
        parser,
        "Open a shell (or a program) on a machine's terminal. It goes on when you leave it with ~. (at the begin of a\n"
        "line) or lose the connection; --attach brings you back. The exit status is the program's.",
        "loopsy shell kai\nloopsy shell kai -- htop\nloopsy shell kai --list\nloopsy shell kai --attach 3f",
        run,
    )
    peer = parser.add_argument("peer", nargs="?", default=".", help="a name or node id; . is this machine")
    arguments.complete_peers(peer)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-l", "--list", action="store_true", help="the terminals there")
    attach = what.add_argument("-a", "--attach", metavar="ID", help="be at one again; the begin of its id is enough")
    kill = what.add_argument("-k", "--kill", metavar="ID", help="end one, and all that runs in it")
    for action in (attach, kill):
        arguments.complete(action, "known_terminals")
    parser.add_argument("-w", "--watch", action="store_true", help="with --attach: look on, without typing")
    parser.add_argument("--cwd", metavar="DIR", help="where it starts (default: the home directory)")
    parser.add_argument("--record", action="store_true", help="keep a recording there (asciinema's format)")
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="a program instead of the login shell")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List, end, or be at one.

    :raises LoopsyError: the daemon's.
    """
    peer = arguments.peer_of(args.peer)
    if args.list:
        return show(args, peer)
    if args.kill:
        return kill(args, peer)
    own_screen()
    if args.watch and not args.attach:
        raise UsageError("--watch goes with --attach ID")
    if arguments.wants_json(args):
        raise UsageError("--json goes with --list and --kill")
    if not sys.stdin.isatty():
        raise UsageError("a terminal needs a terminal here too", hint="for a command without one: loopsy exec")
    return join(args, peer) if args.attach else begin(args, peer)


def terminals(args: argparse.Namespace, peer: str | None) -> list[dict[str, Any]]:
    """Those that there are."""
    with there(args.peer, "terminals"):
        answer = arguments.daemon_of(args).ask("GET", urls.on_peer(urls.TERMINALS, peer))
    found: list[dict[str, Any]] = answer["terminals"]
    return found


def own_screen() -> Any:
    """What puts another machine's terminal into this one.

    :raises UsageError: this system has no terminals as POSIX knows them.
    """
    try:
        from loopsy.cli import screen
    except ImportError:
        hint = "the dashboard shows one in the browser; loopsy exec runs commands"
        raise UsageError("terminals need a POSIX system", hint=hint) from None
    return screen


def show(args: argparse.Namespace, peer: str | None) -> int:
    """List them."""
    found = terminals(args, peer)
    if arguments.wants_json(args):
        render.print_json({"terminals": found})
    elif not found:
        print("no terminal is open there")
    else:
        now = time.time() * 1000
        rows = [
            (t["terminalId"][:8], t["title"], state(t), t["viewers"], f"{t['cols']}×{t['rows']}", t["from"],
             render.ago(t["startedAt"], now), render.ago(t["lastActivity"], now))
            for t in found
        ]  # fmt: skip
        print(render.table(("id", "title", "state", "viewers", "size", "opened by", "since", "active"), rows))
    return 0


def state(terminal: dict[str, Any]) -> str:
    """In a word."""
    if terminal["status"] == "running":
        return "running"
    return f"ended ({terminal.get('signal') or terminal.get('exitCode')})"


def one(args: argparse.Namespace, peer: str | None, word: str) -> str:
    """The id that begins so.

    :raises InvalidRequest: none does, or several do.
    """
    found = [t["terminalId"] for t in terminals(args, peer) if t["terminalId"].startswith(word)]
    if len(found) != 1:
        what = "no terminal has" if not found else "several terminals have"
        raise InvalidRequest(f"{what} an id that begins with {word!r}", hint="loopsy shell --list shows them")
    return str(found[0])


def kill(args: argparse.Namespace, peer: str | None) -> int:
    """End one."""
    terminal_id = one(args, peer, args.kill)
    address = urls.on_peer(urls.fill(urls.TERMINAL, terminal_id=terminal_id), peer)
    answer = arguments.daemon_of(args).ask("DELETE", address)
    if arguments.wants_json(args):
        render.print_json(answer)
    else:
        print(f"{terminal_id[:8]} is told to end")
    return 0


def join(args: argparse.Namespace, peer: str | None) -> int:
    """Be at one again."""
    from loopsy.wire.terminals import WATCH, WRITE

    screen = own_screen()
    terminal_id = one(args, peer, args.attach)
    status = screen.attach(arguments.daemon_of(args), peer, terminal_id, WATCH if args.watch else WRITE)
    return left(args, terminal_id) if status is None else status


def begin(args: argparse.Namespace, peer: str | None) -> int:
    """Open one, and be at it."""
    screen = own_screen()
    terminal_id = opened(args, peer, args.command, record=args.record, cwd=args.cwd)
    status = screen.attach(arguments.daemon_of(args), peer, terminal_id)
    return left(args, terminal_id) if status is None else status


def opened(
    args: argparse.Namespace,
    peer: str | None,
    command: list[str],
    *,
    record: bool = False,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
) -> str:
    """Open one of this terminal's size; its id."""
    screen = own_screen()
    columns, lines = screen.size()
    body: dict[str, Any] = {"cols": columns, "rows": lines, "record": record}
    if command:
        body |= {"command": command[0], "args": command[1:]}
    body |= {name: value for name, value in (("cwd", cwd), ("env", env)) if value}
    with there(args.peer, "terminals"):
        answer = arguments.daemon_of(args).ask("POST", urls.on_peer(urls.TERMINALS, peer), body)
    return str(answer["terminalId"])


def through_terminal(args: argparse.Namespace, peer: str | None) -> int:
    """``exec -t``: a program on a terminal that ends when it is left.

    :raises UsageError: options that don't go together.
    """
    screen = own_screen()
    if args.detach or arguments.wants_json(args) or args.timeout is not None or args.key or args.input:
        raise UsageError("-t does not go with -i, --detach, --json, --timeout or --key")
    if not sys.stdin.isatty():
        raise UsageError("-t needs a terminal here too", hint="for input from a file or pipe: loopsy exec -i")
    terminal_id = opened(args, peer, args.command, cwd=args.cwd, env=dict(args.env or ()))
    status: int | None = screen.attach(arguments.daemon_of(args), peer, terminal_id)
    if status is None:
        address = urls.on_peer(urls.fill(urls.TERMINAL, terminal_id=terminal_id), peer)
        arguments.daemon_of(args).ask("DELETE", address)
        return FAILED
    return status


def left(args: argparse.Namespace, terminal_id: str) -> int:
    """Say how to come back."""
    print(f"\r\nleft; it goes on: loopsy shell {args.peer} --attach {terminal_id[:8]}", file=sys.stderr)
    return 0
