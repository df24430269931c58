"""What a service starts, whichever system it is for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from attrs import frozen

from loopsy.osservice import command
from loopsy.store.layout import Layout

STOP_S = 25
"""Jobs get 5 s to end after TERM, then are killed; with flushing a stop takes 20 s at the most."""
RETRY_S = 5
"""Between the end of a daemon that failed and its next start."""


@frozen(kw_only=True)
class Unit:
    """One daemon as a service."""

    name: str
    argv: tuple[str, ...]
    home: str
    path: str
    """``PATH`` for the daemon, and so for the commands that it runs: systems start services with a short one."""
    output: str
    """A file for what is printed before the daemon writes its own log, where the system keeps no log of services."""
    user: str = ""
    """Who it is for, where the system wants to know (Windows: ``DOMAIN\\name``)."""


def unit_of(layout: Layout, environment: Mapping[str, str]) -> Unit:
    """The service of a data directory."""
    home = os.path.expanduser("~")
    domain, user = environment.get("USERDOMAIN"), environment.get("USERNAME", "")
    return Unit(
        name=name_of(layout, home),
        argv=tuple(command.argv(layout.root)),
        home=home,
        path=environment.get("PATH") or os.defpath,
        output=str(layout.start_output),
        user=f"{domain}\\{user}" if domain else user,
    )


def name_of(layout: Layout, home: str) -> str:
    """``loopsy`` for ``~/.loopsy``, ``loopsy-<name>`` for its sessions; any other data directory has one of its own."""
    usual = os.path.join(home, ".loopsy")
    if str(layout.root) == usual:
        return "loopsy"
    if str(layout.root.parent) == os.path.join(usual, "sessions"):
        return f"loopsy-{layout.root.name}"
    return f"loopsy-{hashlib.sha256(os.fsencode(layout.root)).hexdigest()[:8]}"
