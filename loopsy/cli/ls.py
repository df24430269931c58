"""``loopsy ls``: what is in a directory of a peer."""

from __future__ import annotations

import argparse
import stat
import time
from typing import Any

from loopsy.cli import arguments, render
from loopsy.cli.transfer import path_for_people, wire_name
from loopsy.wire import urls

TYPES = {"directory": stat.S_IFDIR, "symlink": stat.S_IFLNK, "file": stat.S_IFREG}
MARKS = {"directory": "/", "symlink": "@"}


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``ls``."""
    arguments.describe(
        parser,
        "List a directory of a peer, as far as it lets us. A relative path begins at the home directory there.",
        "loopsy ls kai\nloopsy ls -l kai www/site",
        run,
    )
    arguments.complete_peers(parser.add_argument("peer", help="a name or node id; . is this machine"))
    parser.add_argument("path", nargs="?", default="~", help="default: the home directory there")
    parser.add_argument("-l", "--long", action="store_true", help="with mode, size and time")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List.

    :raises LoopsyError: the daemon's.
    """
    address = urls.on_peer(urls.TRANSFER_LIST, arguments.peer_of(args.peer))
    answer = arguments.daemon_of(args).ask("POST", address, {"path": wire_name(args.path)})
    if arguments.wants_json(args):
        render.print_json(answer)
    elif args.long:
        for line in long_lines(answer["files"]):
            print(line)
    else:
        for entry in answer["files"]:
            print(name_of(entry) + MARKS.get(entry["type"], ""))
    return 0


def name_of(entry: dict[str, Any]) -> str:
    """A name for people: whatever it holds, it stays on its line."""
    return render.clean(path_for_people(entry["name"]))


def long_lines(files: list[dict[str, Any]]) -> list[str]:
    """Mode, size, time, name."""
    sizes = [render.size(entry["size"]) if entry["type"] == "file" else "-" for entry in files]
    width = max(map(len, sizes), default=0)
    return [_long_line(entry, size.rjust(width)) for entry, size in zip(files, sizes, strict=True)]


def _long_line(entry: dict[str, Any], size: str) -> str:
    mode = stat.filemode(TYPES.get(entry["type"], 0) | (entry.get("mode") or 0))
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["modified"] / 1000))
    name = name_of(entry)
    if entry.get("target") is not None:
        name += " -> " + render.clean(path_for_people(entry["target"]))
    return f"{mode}  {size}  {when}  {name}" + (f"  ({render.clean(entry['error'])})" if entry.get("error") else "")
