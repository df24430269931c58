"""``loopsy send`` and ``loopsy pull``: files and trees to and from a peer, as jobs of our own daemon."""

from __future__ import annotations

import argparse
import os
import stat
from typing import Any

from loopsy.cli import arguments
from loopsy.errors import UsageError
from loopsy.wire import urls

PIPE = "-"


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``send`` or ``pull``."""
    (_fill_send if name == "send" else _fill_pull)(parser)
    add = parser.add_argument
    add("-r", "--recursive", action="store_true", help="directories, with all that is in them")
    add("--delete", action="store_true", help="remove what the source doesn't have (with -r)")
    add("-n", "--dry-run", action="store_true", help="only say what would be done")
    add("--exclude", action="append", metavar="PATTERN", help="leave out names or paths like this (repeatable)")
    add("--checksum", action="store_true", help="compare by content, not by size and time")
    add("--detach", action="store_true", help="print the transfer's id and leave it to the daemon")
    arguments.add_json(parser)


def _fill_send(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "Send files to a peer. What is there already is not sent again; what was broken off goes on where it stopped\n"
        "when the same command is run again. As with cp, a destination that ends in / or is a directory takes the\n"
        "source's name, and site/. means what is in site. A relative destination begins at the home directory there.\n"
        "Ctrl-C cancels. - is standard input.",
        "loopsy send kai report.pdf .                       # into the home directory there\n"
        "loopsy send -r --exclude node_modules kai site www/\n"
        "loopsy send -r --delete kai site/. www/site        # make www/site equal to site\n"
        "tar c src | loopsy send kai - src.tar\n"
        "loopsy send --on kai,leo -r site www/              # to several; also --all, --label",
        run,
    )
    parser.set_defaults(direction="send")
    parser.usage = (
        "loopsy send [options] <peer> <source> … <destination>\n"
        "       loopsy send [options] --on A,B | --all | --label LABEL <source> … <destination>"
    )
    _add_places(parser)
    arguments.add_many(parser)


def _fill_pull(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "Get files from a peer. What is here already is not sent again; what was broken off goes on where it stopped\n"
        "when the same command is run again. As with cp, a destination that ends in / or is a directory takes the\n"
        "source's name, and site/. means what is in site. A relative source begins at the home directory there.\n"
        "Ctrl-C cancels. - is standard output.",
        "loopsy pull kai logs/build.log .\nloopsy pull -r kai www/site backup/\nloopsy pull kai src.tar - | tar x",
        run,
    )
    parser.set_defaults(direction="pull")
    parser.usage = "loopsy pull [options] <peer> <source> … <destination>"
    _add_places(parser)


def _add_places(parser: arguments.Parser) -> None:
    arguments.complete_peers(parser.add_argument("peer", help="a name or node id; . is this machine"))
    parser.add_argument("places", nargs="+", metavar="path", help="source(s), then the destination")


def run(args: argparse.Namespace) -> int:
    """Send or pull.

    :raises LoopsyError: it failed. :raises UsageError: the words make no transfer.
    """
    is_many = args.direction == "send" and arguments.wants_many(args)
    if is_many:
        args.places.insert(0, args.peer)
    if len(args.places) < 2:
        raise UsageError("a source and a destination are needed", hint=f"see: loopsy {args.direction} --help")
    *sources, destination = args.places
    if any(passes_through_us(args.direction, source, destination) for source in sources):
        if is_many:
            raise UsageError("a stream is sent to one machine only", hint="write it to a file first")
        if len(sources) > 1 or args.recursive or args.detach:
            raise UsageError("a stream is sent or pulled alone, without -r and --detach")
        from loopsy.cli.piping import pipe

        return pipe(args, sources[0], destination)
    if is_many:
        from loopsy.cli.send_many import send

        return send(args, request_body(args, sources, destination))
    from loopsy.cli.following import start_and_follow

    return start_and_follow(args, request_body(args, sources, destination))


def passes_through_us(direction: str, source: str, destination: str) -> bool:
    """Whether the bytes come from or go to what only this process has: a pipe, or a device."""
    ours = source if direction == "send" else destination
    if ours == PIPE:
        return True
    try:
        mode = os.stat(ours).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def request_body(args: argparse.Namespace, sources: list[str], destination: str) -> dict[str, Any]:
    """The JSON of ``POST /transfers``: our paths absolute, since the daemon works elsewhere."""
    sends = args.direction == "send"
    return {
        "direction": args.direction,
        "peer": "." if args.peer in arguments.THIS_MACHINE else args.peer,
        "sources": [wire_name(absolute(source) if sends else source) for source in sources],
        "destination": wire_name(destination if sends else absolute(destination)),
        "recursive": args.recursive,
        "delete": args.delete,
        "dryRun": args.dry_run,
        "checksum": args.checksum,
        "exclude": args.exclude or [],
    }


def absolute(path: str) -> str:
    """The same path from the root. A ``/`` or ``/.`` at its end means something, so it stays."""
    end = "/." if path.endswith("/.") or path == "." else "/" if path.endswith("/") else ""
    return os.path.abspath(path).rstrip("/") + end or "/"


def wire_name(path: str) -> str:
    """A path as JSON can hold it. (wire.transfer has the whole; importing it would cost more than the command.)"""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        pass
    else:
        if not path.startswith("b:"):
            return path
    from urllib.parse import quote_from_bytes

    return "b:" + quote_from_bytes(os.fsencode(path), safe="/")


def path_for_people(text: str) -> str:
    """A path of the wire, to be shown."""
    from urllib.parse import unquote_to_bytes

    if not text.startswith("b:"):
        return text
    return unquote_to_bytes(text[2:]).decode("utf-8", "backslashreplace")


def address_of(transfer_id: str) -> str:
    """Of one transfer."""
    return urls.fill(urls.TRANSFER_JOB, transfer_id=transfer_id)
