"""``loopsy transfers``: what is being sent and pulled, watching it, and cancelling it."""

from __future__ import annotations

import argparse
import time
from typing import Any

from loopsy.cli import arguments, render
from loopsy.errors import UsageError
from loopsy.wire import urls

ACTIONS = ("list", "watch", "cancel")


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``transfers``."""
    arguments.describe(
        parser,
        "List the transfers of this machine's daemon (those that run, and the last that ended), follow one, or cancel\n"
        "one. A cancelled transfer goes on where it stopped when its command is run again.",
        "loopsy transfers\nloopsy transfers watch 0b5f\nloopsy transfers cancel 0b5f",
        run,
    )
    parser.usage = "loopsy transfers [list | watch <id> | cancel <id>] [--json]"
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list", help="list is the default")
    parser.add_argument("transfer", nargs="?", metavar="id", help="its id, or the beginning of it")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List, watch or cancel.

    :raises LoopsyError: the daemon's.
    """
    if args.action == "list":
        return show(args)
    if args.transfer is None:
        raise UsageError("which transfer?", hint="see: loopsy transfers")
    transfer_id = whole_id(args)
    return watch(args, transfer_id) if args.action == "watch" else cancel(args, transfer_id)


def whole_id(args: argparse.Namespace) -> str:
    """The id that begins as was said.

    :raises UsageError: none does, or several do.
    """
    known = [item["transferId"] for item in arguments.daemon_of(args).ask("GET", urls.TRANSFERS)["transfers"]]
    found = [transfer_id for transfer_id in known if transfer_id.startswith(args.transfer)]
    if len(found) != 1:
        what = "several transfers begin" if found else "no transfer begins"
        raise UsageError(f"{what} with {args.transfer!r}", hint="see: loopsy transfers")
    return str(found[0])


def watch(args: argparse.Namespace, transfer_id: str) -> int:
    """Follow one to its end; Ctrl-C only stops watching."""
    from loopsy.cli import following

    info = following.Follower(arguments.daemon_of(args), transfer_id).follow()
    return following.tell_end(info, args, dry=False)


def cancel(args: argparse.Namespace, transfer_id: str) -> int:
    """End one."""
    from loopsy.cli.transfer import address_of

    info = arguments.daemon_of(args).ask("DELETE", address_of(transfer_id))
    if arguments.wants_json(args):
        render.print_json(info)
    else:
        print("cancelled" if info["state"] == "cancelled" else f"it was {info['state']} already")
    return 0


def show(args: argparse.Namespace) -> int:
    """The list."""
    answer = arguments.daemon_of(args).ask("GET", urls.TRANSFERS)
    if arguments.wants_json(args):
        render.print_json(answer)
    elif not answer["transfers"]:
        print("no transfers since the daemon started")
    else:
        now = time.time() * 1000
        rows = [_row(info, now) for info in answer["transfers"]]
        print(render.table(("id", "started", "state", "peer", "done", "what"), rows))
    return 0


def _row(info: dict[str, Any], now_ms: float) -> tuple[object, ...]:
    from loopsy.cli.following import title

    total, done = info.get("bytesTotal"), info.get("bytesDone", 0)
    share = f"{render.size(done)} of {render.size(total)}" if total else render.size(done)
    state = info["state"] + (f": {info['error']}" if info.get("error") else "")
    what = f"{info['direction']} {title(info)}"
    return info["transferId"][:8], render.ago(info["startedAt"], now_ms), state, info["peer"], share, what
