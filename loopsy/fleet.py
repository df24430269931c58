"""Several daemons from one interpreter: ``python -m loopsy.fleet DIRECTORY…`` prints a process id for each.

Nearly all that a start takes is importing. Here that is done once, and each daemon is a fork of what came of it: five
start in the time of one and a half, and share that memory. Only on Linux: elsewhere a fork that doesn't exec breaks the
system's own libraries.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from loopsy.osservice import command
from loopsy.store.layout import Layout

SHARED = ("loopsy.services.daemon", "twisted.internet.epollreactor", "twisted.scripts.twistd", "twisted.web.server",
          "twisted.web.websocket", "werkzeug.routing")  # fmt: skip
"""All of weight but Klein, whose import makes the reactor: each daemon must have one (and its epoll) of its own."""
OUTPUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)


def main(directories: Sequence[str]) -> None:
    """Fork them all, and end; nobody waits for them but init."""
    for name in SHARED:
        import_module(name)
    assert "twisted.internet.reactor" not in sys.modules
    gc.freeze()
    for directory in directories:
        pid = os.fork()
        if pid == 0:
            become(Layout(directory))
        print(pid, flush=True)


def become(layout: Layout) -> None:
    """Be the daemon of a data directory, as if started by ``loopsy start``."""
    os.setsid()
    for descriptor, path, flags in ((0, os.devnull, os.O_RDONLY), (1, str(layout.start_output), OUTPUT)):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.dup2(1, 2)
    os.chdir(os.path.expanduser("~"))
    from twisted.scripts import twistd

    sys.argv = ["twistd", *command.options(layout.root)]
    twistd.run()
    sys.exit()


if __name__ == "__main__":
    main(sys.argv[1:])
