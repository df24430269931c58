"""``loopsy init`` and ``loopsy key``: the first configuration, and this machine's key."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path

from loopsy.cli import arguments, render
from loopsy.client.local import DEFAULT_PORT, LocalDaemon, read_endpoint
from loopsy.errors import ConfigError, DaemonNotRunning, LoopsyError
from loopsy.store.layout import Layout
from loopsy.wire import urls


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``init`` or ``key``."""
    if name == "init":
        _fill_init(parser)
        return
    arguments.describe(
        parser, "Show this machine's own key, or make a new one.", "loopsy key show\nloopsy key generate"
    )
    actions = parser.add_subparsers(metavar="<action>", required=True)
    showing = actions.add_parser("show", help="print the key")
    arguments.describe(showing, "Print this machine's own key, alone.", "loopsy key show", show_key)
    arguments.add_json(showing)
    making = actions.add_parser("generate", help="make a new key")
    arguments.describe(
        making,
        "Make a new own key. A running daemon takes it up at once; the old key is worth nothing from then on.",
        "loopsy key generate",
        generate_key,
    )
    arguments.add_json(making)


def _fill_init(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "Write a first configuration, with a fresh key. An existing one stays, unless --force is given.\n"
        "Then let the AI agents of this machine know of loopsy (the same as: loopsy mcp add).",
        "loopsy init\nloopsy init --hostname kai --port 19533 --data-dir ~/.loopsy-two",
        init,
    )
    parser.add_argument("--hostname", default=socket.gethostname(), help="what to call this machine (%(default)s)")
    parser.add_argument(
        "--port", type=arguments.port_number, default=DEFAULT_PORT, help="where to listen (%(default)s)"
    )
    parser.add_argument("--host", default="0.0.0.0", help="on which address (%(default)s)")  # noqa: S104 - a LAN daemon
    parser.add_argument("--force", action="store_true", help="replace the configuration; the old one is kept beside it")
    parser.add_argument("--no-mcp", action="store_true", help="leave the AI agents alone")


# -- init -------------------------------------------------------------------------------------------------------------
def init(args: argparse.Namespace) -> int:
    """Make the data directory, the node id and the config file, and register with the agents."""
    from loopsy.store import configfile, identity

    layout = arguments.layout_of(args)
    if layout.config.exists() and not args.force:
        raise ConfigError(
            f"{layout.config} is there already",
            hint="to replace it (the old one is kept beside it): loopsy init --force",
        )
    layout.make()
    node_id = identity.node_id(layout)
    backup = _keep_old(layout) if args.force else None
    configfile.create(layout.config, first_config(args), replace=args.force)
    print(f"{render.clean(args.hostname)} is set up.\n")
    pairs = [("config", layout.config), ("node id", node_id), ("listens on", f"{args.host} port {args.port}")]
    print(render.facts([*pairs, *([("old config", backup)] if backup else [])]))
    if not args.no_mcp:
        from loopsy.cli import mcp

        print(mcp.introduce(arguments.directory_of(args)), flush=True)
    print(next_steps(layout, args))
    return 0


def first_config(args: argparse.Namespace) -> dict[str, object]:
    """What the first config file says."""
    from loopsy.store import configfile

    home = os.path.expanduser("~")
    return {
        "server": {"port": args.port, "host": args.host, "hostname": args.hostname},
        "auth": {"apiKey": configfile.new_key()},
        "tls": {"enabled": True},
        "transfer": {
            "allowedPaths": [home],
            "deniedPaths": [os.path.join(home, ".ssh"), os.path.join(home, ".gnupg")],
        },
    }


def _keep_old(layout: Layout) -> Path | None:
    """Copy what is there to ``config.yaml.bak-1``, or the first free number."""
    from loopsy.store import atomic

    try:
        old = layout.config.read_bytes()
    except FileNotFoundError:
        return None
    number = 1
    while True:
        backup = layout.config.with_name(f"{layout.config.name}.bak-{number}")
        try:
            atomic.write(backup, old, replace=False)
        except FileExistsError:
            number += 1
        else:
            return backup


def next_steps(layout: Layout, args: argparse.Namespace) -> str:
    """What a person does now."""
    elsewhere = f" --data-dir {layout.root}" if getattr(args, "data_dir", None) else ""
    steps = (
        (f"loopsy{elsewhere} start", "start the daemon"),
        (f"loopsy{elsewhere} peers add <address> --name <name>", "tell it of another machine"),
        (f"loopsy{elsewhere} doctor", "check that all is well"),
    )
    width = max(len(command) for command, _ in steps)
    return "\nnext:\n" + "\n".join(f"  {command.ljust(width)}   {text}" for command, text in steps)


# -- key --------------------------------------------------------------------------------------------------------------
def show_key(args: argparse.Namespace) -> int:
    """Print the key."""
    _print_key(read_endpoint(arguments.layout_of(args)).key, args)
    return 0


def _print_key(key: str, args: argparse.Namespace) -> None:
    if arguments.wants_json(args):
        render.print_json({"key": key})
    else:
        print(key)


def generate_key(args: argparse.Namespace) -> int:
    """Make a new key and let the daemon take it up."""
    from loopsy.store import configfile

    layout = arguments.layout_of(args)
    daemon = LocalDaemon(layout.root)
    had_one = _has_key(daemon)
    new = configfile.new_key()
    configfile.change(layout.config, ("auth", "apiKey"), new)
    _print_key(new, args)
    if had_one:
        _tell(_take_up(daemon))
    return 0


def _has_key(daemon: LocalDaemon) -> bool:
    """Whether there is an old key, with which the daemon can be asked to reload; reads it before it is replaced."""
    try:
        return bool(daemon.endpoint.key)
    except ConfigError as error:
        if "auth.apiKey is missing" in error.message:
            return False
        raise


def _take_up(daemon: LocalDaemon) -> str:
    """Ask the daemon, with the old key, to read the file; says how that went."""
    try:
        daemon.ask("POST", urls.RELOAD)
    except DaemonNotRunning:
        return "the daemon is not running; it will start with the new key"
    except LoopsyError as error:
        return f"the daemon did not take it up: {error.message}\n  restart it with: loopsy restart"
    return "the daemon uses it from now on"


def _tell(how: str) -> None:
    """On stderr, so that stdout holds the key alone."""
    import sys

    print(how, file=sys.stderr)
    print("  peers that present the old key (installs that share one) must be given the new one", file=sys.stderr)
