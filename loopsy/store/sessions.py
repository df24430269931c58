"""Sessions: further daemons on this machine, each in ``sessions/<name>/`` of the main one's data directory."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from typing import Any

import yaml
from attrs import frozen

from loopsy.config import Config
from loopsy.errors import ConfigError, UsageError
from loopsy.store import configfile
from loopsy.store.layout import DIRECTORY_MODE, Layout

FIRST_PORT = 19533
"""Right above the main daemon's own."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
"""It becomes a directory and the end of a host name, so nothing of a path may be in it."""
TAKEN_OVER = ("execution", "terminals", "transfer", "rateLimits", "context", "messages", "aiTasks", "audit", "logging")
"""A session starts with the main daemon's limits and policies: it is no way around them."""


@frozen
class Session:
    """One of them."""

    name: str
    layout: Layout


def main_of(layout: Layout) -> Layout:
    """The data directory of the main daemon: a session has no sessions of its own."""
    above = layout.root.parent
    return Layout(above.parent) if above.name == "sessions" and (above.parent / "config.yaml").exists() else layout


def find(main: Layout, name: str) -> Session:
    """The session of that name, which need not exist.

    :raises UsageError: it can't be a name.
    """
    if not NAME.fullmatch(name):
        hint = "letters, digits, - and _, 32 at most, the first a letter or digit"
        raise UsageError(f"a session can't be called {name!r}", hint=hint)
    return Session(name, Layout(main.sessions / name))


def existing(main: Layout, name: str) -> Session:
    """The same; it must exist.

    :raises ConfigError: there is none.
    """
    session = find(main, name)
    if not session.layout.config.exists():
        known = ", ".join(other.name for other in every(main)) or "none yet"
        raise ConfigError(f"there is no session {name!r}", hint=f"sessions: {known}; start one: loopsy session start")
    return session


def every(main: Layout) -> list[Session]:
    """All there are, by name; numbers at the end count as numbers."""
    try:
        found = [path.name for path in main.sessions.iterdir() if (path / "config.yaml").exists()]
    except OSError:
        return []
    return [Session(name, Layout(main.sessions / name)) for name in sorted(found, key=_order) if NAME.fullmatch(name)]


def _order(name: str) -> tuple[str, int]:
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def hostname_of(config: Config) -> str:
    """What a daemon with this config calls itself."""
    return config.server.hostname or socket.gethostname()


def create(main: Layout, session: Session, port: int) -> None:
    """Make its data directory and config.

    :raises ConfigError: the main daemon's can't be used. :raises DataDirError:
    """
    config = configfile.load(main.config).config
    raw: dict[str, Any] = yaml.safe_load(main.config.read_text("utf-8")) or {}
    values: dict[str, Any] = {name: raw[name] for name in TAKEN_OVER if raw.get(name)}
    # The main daemon protects its data directory by itself; a session's peers are to be kept from it too.
    denied = [*config.transfer.denied_paths, str(main.root)]
    values["transfer"] = {**values.get("transfer", {}), "deniedPaths": denied}
    values["server"] = {
        "port": port,
        "host": config.server.host,
        "hostname": f"{hostname_of(config)}-{session.name}",
    }
    values["auth"] = {"apiKey": configfile.new_key()}
    values["tls"] = {"enabled": config.tls.enabled}
    values["discovery"] = {"enabled": False}
    main.sessions.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    session.layout.make()
    configfile.create(session.layout.config, values)


def ports(sessions: Iterable[Session]) -> set[int]:
    """Those that are given to sessions, whether they run or not."""
    taken = set()
    for session in sessions:
        try:
            taken.add(configfile.load(session.layout.config).config.server.port)
        except ConfigError:
            continue  # told where that session is started
    return taken
