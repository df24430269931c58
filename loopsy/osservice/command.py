"""How the daemon is started in the foreground: by twistd, the same way by hand and by every kind of service."""

from __future__ import annotations

import os
import sys

TWISTD = "from twisted.scripts.twistd import run; run()"


def argv(data_dir: str | os.PathLike[str], python: str = sys.executable) -> list[str]:
    """The whole command. ``-P``: the directory in which it runs is no place to import modules from."""
    return [python, "-P", "-c", TWISTD, *options(data_dir)]


def options(data_dir: str | os.PathLike[str]) -> list[str]:
    """What twistd is told. The daemon writes its own log and pid file."""
    silent = "--logger=loopsy.services.logs.silent"
    return ["--nodaemon", "--pidfile=", silent, "loopsy", "--data-dir", os.fspath(data_dir)]
