"""``loopsy dashboard``: open the dashboard in a browser."""

from __future__ import annotations

import argparse
import os
import sys

from loopsy.cli import arguments, render
from loopsy.wire import urls

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``dashboard``."""
    arguments.describe(
        parser,
        "Open the dashboard in a browser of this machine. The address works once, within a minute;\n"
        "the browser is then let in for 12 hours from its last use.",
        "loopsy dashboard\nloopsy dashboard --print\nssh -L 19532:127.0.0.1:19532 kai loopsy dashboard --print",
        run,
    )
    parser.add_argument("--print", action="store_true", help="print the address instead of opening it")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Ask for an address, and open it.

    :raises LoopsyError: the daemon's.
    """
    launch = arguments.daemon_of(args).ask("POST", urls.DASHBOARD_LAUNCH)
    if arguments.wants_json(args):
        render.print_json(launch)
    elif args.print or not opened(launch["url"]):
        print(launch["url"])
        if sys.stdout.isatty():
            print("open it within a minute; it works once", file=sys.stderr)
    else:
        print("the dashboard opens in your browser")
    return 0


def opened(url: str) -> bool:
    """Open it in a browser that the person sees; False where there is none (over ssh, without a desktop).

    The address holds a secret for a minute and must not stand in another program's arguments, so a small page of our
    own, which only this user reads, leads there.
    """
    import webbrowser

    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in DISPLAYS):
        return False
    return webbrowser.open(leading_page(url))


def leading_page(url: str) -> str:
    """The address of a file that leads to ``url``; readable by this user only, and gone with the temporary files."""
    import tempfile
    from pathlib import Path

    text = f'<!doctype html><meta http-equiv="refresh" content="0; url={url}"><title>loopsy</title>'
    descriptor, name = tempfile.mkstemp(prefix="loopsy-", suffix=".html")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return Path(name).as_uri()
