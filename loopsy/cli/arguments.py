"""What the parsers of all commands share: errors in our own form, common options, and the kinds of values."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any, NoReturn

from loopsy.client.local import LocalDaemon
from loopsy.errors import UsageError
from loopsy.store.layout import Layout, data_dir

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
THIS_MACHINE = (".", "local")
"""Peer words that mean the machine we are on."""

Run = Callable[[argparse.Namespace], int]
"""A command: takes its options, returns its exit status."""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal. Argparse makes a formatter for every argument that is added, and without a width
    each asks ``shutil``, whose import (with every compression module) would take 5 ms of each command."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    try:
        return min(os.get_terminal_size(1).columns, 120)
    except OSError:
        return 100


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ours, so that they look like all others."""

    split: Callable[[list[str]], tuple[list[str], list[str]]] | None = None
    """Divides the words into those to be parsed and ``args.command``, for a command that takes another one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": Formatter, **options})

    is_intermixed = False
    """Options may stand between positional words of which there may be any number."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, which calls it for actions too. Completion looks at each word by itself."""
        if not self.is_intermixed or "_ARGCOMPLETE" in os.environ:
            return super().parse_known_args(args, namespace)
        self.is_intermixed = False  # it comes back here
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.is_intermixed = True

    def parse_words(self, words: list[str]) -> argparse.Namespace:
        """The options that the words say.

        :raises UsageError: they can't be understood.
        """
        if self.split is None:
            return self.parse_args(words)
        own, command = self.split(words)
        args = self.parse_args(own)
        args.command = command
        return args

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        :raises UsageError: always.
        """
        raise UsageError(message, hint=f"see: {self.prog} --help")


def describe(parser: argparse.ArgumentParser, text: str, example: str, run: Run | None = None) -> None:
    """What ``--help`` says, and what the command does."""
    parser.description = text
    parser.epilog = "example:\n" + "\n".join(f"  {line}" for line in example.splitlines())
    # SUPPRESS: a subcommand's parser would overwrite with its default what stood before the subcommand.
    parser.add_argument("--data-dir", metavar="DIR", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    if run is not None:
        parser.set_defaults(run=run)


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print the daemon's answer as one JSON document"
    )


def add_peer(parser: argparse.ArgumentParser) -> None:
    """``--peer``."""
    action = parser.add_argument("--peer", metavar="PEER", help="on that machine (default: this one)")
    complete_peers(action)


MANY = ("--on", "--all", "--label")
"""Options that choose several machines."""


def add_many(parser: argparse.ArgumentParser) -> None:
    """The options of a command that may run on several machines."""
    add = parser.add_argument
    complete(add("--on", action="append", metavar="A,B", help="on these machines (. is this one)"), "several_peers")
    add("--all", action="store_true", help="on every peer that this machine is paired with")
    complete(
        add("--label", action="append", metavar="LABEL", help="on the peers that have it (repeated: all of them)"),
        "known_labels",
    )
    add("--forks", type=how_many, default=10, metavar="N", help="so many at once (default: 10)")
    add("--stop-on-error", action="store_true", help="begin on no more machines after the first failure")


def wants_many(args: argparse.Namespace) -> bool:
    """Whether one of ``MANY`` was given."""
    return bool(args.on or args.all or args.label)


def how_many(text: str) -> int:
    """How many at once. Each is a thread and a connection."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 256):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 256")
    return int(text)


def complete(action: argparse.Action, by: str) -> None:
    """Let the shell complete this argument by a function of ``loopsy.cli.completion``: it takes the options so far
    and what of this word stands there already."""

    def names(prefix: str = "", **context: Any) -> list[str]:
        from loopsy.cli import completion

        found: list[str] = getattr(completion, by)(context.get("parsed_args") or argparse.Namespace(), prefix)
        return found

    setattr(action, "completer", names)  # noqa: B010 - as below


def complete_peers(action: argparse.Action) -> None:
    """Let the shell complete this argument with peer names."""
    setattr(action, "completer", peer_names)  # noqa: B010 - argcomplete's way to say it; argparse knows no such field


def peer_names(**context: Any) -> list[str]:
    """Argcomplete's completer. Silent when the daemon is not there: a prompt is no place for an error."""
    from loopsy.cli.completion import known_peers

    return known_peers(getattr(context.get("parsed_args"), "data_dir", None))


def session_names(**context: Any) -> list[str]:
    """Argcomplete's completer for sessions of this machine."""
    from loopsy.store import sessions

    directory = data_dir(getattr(context.get("parsed_args"), "data_dir", None))
    return [session.name for session in sessions.every(sessions.main_of(Layout(directory)))]


def daemon_of(args: argparse.Namespace) -> LocalDaemon:
    """The client for the data directory that was asked for."""
    return LocalDaemon(directory_of(args))


def layout_of(args: argparse.Namespace) -> Layout:
    """The data directory that was asked for."""
    return Layout(directory_of(args))


def directory_of(args: argparse.Namespace) -> str:
    """The same as text."""
    return data_dir(getattr(args, "data_dir", None))


def wants_json(args: argparse.Namespace) -> bool:
    """Whether ``--json`` was given."""
    return bool(getattr(args, "json", False))


def peer_of(word: str | None) -> str | None:
    """What the gateway is asked for; None for this machine, which needs no gateway."""
    return None if word in THIS_MACHINE else word


def milliseconds(text: str) -> int:
    """``90``, ``90s``, ``1.5m``, ``2h`` or ``500ms``; a bare number is seconds."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(number) :] or "s"
    try:
        value = float(number) * UNITS_MS[unit]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration (90, 90s, 5m, 2h)") from None
    if not 1 <= value < 2**53:
        raise argparse.ArgumentTypeError(f"{text!r} must be more than nothing, and finite")
    return round(value)


def port_number(text: str) -> int:
    """A TCP port."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def variable(text: str) -> tuple[str, str]:
    """``NAME=VALUE``; ``NAME`` alone takes the value it has here."""
    name, equals, value = text.partition("=")
    if not name or (not equals and name not in os.environ):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value if equals else os.environ[name]
