"""``loopsy start``, ``stop``, ``restart``, ``reload`` and ``status``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from loopsy.cli import arguments, render
from loopsy.errors import DaemonNotRunning
from loopsy.store.layout import Layout
from loopsy.wire import urls

NOT_RUNNING = 3
"""As ``systemctl status``."""

TEXTS = {
    "start": "Start the daemon in the background. Returns when it answers, or says why it doesn't.",
    "stop": "Stop the daemon: it ends its jobs, writes what is left, and is gone when this returns.",
    "restart": "Stop the daemon and start it again. A broken configuration is found before anything is stopped.",
    "reload": "Let the daemon take up a changed config.yaml: keys, peers, limits and policies. (SIGHUP does the same.)",
    "status": "Show the daemon, its peers, jobs and context. Exit status 3: it is not running.",
}


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of one of them."""
    runs = {"start": start, "stop": stop, "restart": restart, "reload": reload, "status": status}
    example = f"loopsy {name}" + ("\nloopsy status --json" if name == "status" else "")
    arguments.describe(parser, TEXTS[name], example, runs[name])
    if name in ("reload", "status"):
        arguments.add_json(parser)


# -- life -------------------------------------------------------------------------------------------------------------
def start(args: argparse.Namespace) -> int:
    """Start it, unless it runs."""
    from loopsy.cli import launch

    layout = arguments.layout_of(args)
    launch.check_config(layout)
    pid = _pid(layout)
    if pid is not None:
        print(f"loopsy is running already (pid {pid})")
        return 0
    print(launch.start(layout))
    return 0


def stop(args: argparse.Namespace) -> int:
    """Stop it, if it runs."""
    from loopsy.cli import launch

    layout = arguments.layout_of(args)
    pid = _pid(layout)
    if pid is None:
        print("loopsy is not running")
        return 0
    launch.stop(layout, pid)
    print(f"loopsy is stopped (it was pid {pid})")
    return 0


def restart(args: argparse.Namespace) -> int:
    """Stop and start."""
    from loopsy.cli import launch

    layout = arguments.layout_of(args)
    launch.check_config(layout)
    stop(args)
    print(launch.start(layout))
    return 0


def _pid(layout: Layout) -> int | None:
    from loopsy.store import pidfile

    return pidfile.running(layout.pid)


def reload(args: argparse.Namespace) -> int:
    """Let it read its config again."""
    answer = arguments.daemon_of(args).ask("POST", urls.RELOAD)
    if arguments.wants_json(args):
        render.print_json(answer)
        return 0
    applied, waiting = answer["applied"], answer["needsRestart"]
    print(f"taken up: {render.clean(', '.join(applied))}" if applied else "nothing to take up")
    if waiting:
        print(f"waits for a restart: {render.clean(', '.join(waiting))}\n  loopsy restart")
    for warning in answer["warnings"]:
        print(f"warning: {render.clean(warning)}", file=sys.stderr)
    return 0


# -- status -----------------------------------------------------------------------------------------------------------
def status(args: argparse.Namespace) -> int:
    """Show how it is."""
    from loopsy.cli.main import complain

    daemon = arguments.daemon_of(args)
    try:
        answer = daemon.ask("GET", urls.STATUS)
        if arguments.wants_json(args):
            render.print_json(answer)
            return 0
        peers = daemon.ask("GET", urls.PEERS)["peers"]
    except DaemonNotRunning as error:
        complain(error)
        return NOT_RUNNING
    print(summary(answer, peers, daemon.endpoint.port))
    return 0


def summary(answer: dict[str, Any], peers: list[dict[str, Any]], port: int) -> str:
    """The status as a person reads it."""
    counts, jobs = answer["peers"], answer["jobs"]
    version = answer.get("packageVersion", answer["version"])
    pairs = [
        ("node", answer["nodeId"]),
        ("up for", f"{render.span(answer['uptime'])} (pid {answer.get('pid', '?')}, port {port})"),
        ("peers", f"{counts['online']} of {counts['total']} online{_named(peers)}"),
        ("jobs", f"{jobs['active']} running, {jobs['total']} since the start"),
        ("context", render.count(answer["context"]["entries"], "entry", "entries")),
        ("tls", _tls(answer.get("tls", {}))),
    ]
    return f"loopsy {render.clean(version)} runs on {render.clean(answer['hostname'])}\n{render.facts(pairs)}"


def _tls(state: dict[str, Any]) -> str:
    """On, with the certificate that peers pin, or off."""
    return f"on, certificate {state.get('fingerprint')}" if state.get("enabled") else "off"


def _named(peers: list[dict[str, Any]]) -> str:
    """The first few, with how they are."""
    from loopsy.cli.peers import label

    shown = [f"{label(peer)} {peer.get('status')}" for peer in peers[:8]]
    more = [f"{len(peers) - 8} more"] if len(peers) > 8 else []
    return f": {', '.join([*shown, *more])}" if shown else ""
