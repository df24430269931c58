"""``loopsy enable``, ``disable`` and ``service-status``: the daemon as a service that starts at login."""

from __future__ import annotations

import argparse
import os
from typing import Any

from loopsy.cli import arguments, render
from loopsy.osservice import calls, table, unit
from loopsy.osservice.standing import Standing
from loopsy.store import pidfile
from loopsy.store.layout import Layout

TEXTS = {
    "enable": "Let the daemon start whenever you log in, and start it now: by systemd (Linux), launchd (macOS) or the\n"
    "Task Scheduler (Windows). A daemon that runs already is left alone. Again, after loopsy or PATH moved, it renews.",
    "disable": "Let the daemon no longer start at login. One that runs goes on until it is stopped.",
    "service-status": "Show whether the daemon starts at login. Exit status 3: it does not.",
}
NOT_ENABLED = 3


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of one of them."""
    runs = {"enable": enable, "disable": disable, "service-status": status}
    example = f"loopsy {name}" + ("\nloopsy --session worker-1 enable" if name == "enable" else "")
    arguments.describe(parser, TEXTS[name], example, runs[name])
    if name == "service-status":
        arguments.add_json(parser)


def enable(args: argparse.Namespace) -> int:
    """Register it."""
    from loopsy.cli import launch

    layout = arguments.layout_of(args)
    launch.check_config(layout)
    layout.make()
    pid, kind, service = pidfile.running(layout.pid), table.chosen(), unit.unit_of(layout, os.environ)
    done = kind.install(service, os.environ, calls.call, start=pid is None)
    print(f"loopsy starts at login, by {kind.SYSTEM} ({service.name})" + ("" if done.changed else ", as before"))
    for path in done.files:
        print(f"  {render.clean(path)}")
    found = kind.standing(service, os.environ, calls.call)
    if pid is not None and found.pid != pid:
        print(f"it runs already (pid {pid}), started by hand; that one stays, and the service takes over next time")
    elif done.started:
        print("it was started")
    for text in (done.next, found.note, found.advice):
        if text:
            print(render.clean(text))
    return 0


def disable(args: argparse.Namespace) -> int:
    """Take that back."""
    layout, kind = arguments.layout_of(args), table.chosen()
    done = kind.uninstall(unit.unit_of(layout, os.environ), os.environ, calls.call)
    print("loopsy no longer starts at login" if done.changed else "loopsy does not start at login")
    for path in done.files:
        print(f"  {render.clean(path)} is gone")
    pid = pidfile.running(layout.pid)
    if pid is not None:
        print(f"it still runs (pid {pid}); to stop it: loopsy stop")
    return 0


def status(args: argparse.Namespace) -> int:
    """Say how it stands."""
    layout = arguments.layout_of(args)
    found, pid = look(layout), pidfile.running(layout.pid)
    if arguments.wants_json(args):
        render.print_json(shown(found, pid))
    else:
        print(render.facts(pairs(found, pid)))
    return 0 if found.enabled else NOT_ENABLED


def look(layout: Layout) -> Standing:
    """How the service of a data directory stands."""
    return table.chosen().standing(unit.unit_of(layout, os.environ), os.environ, calls.call)


def shown(found: Standing, pid: int | None) -> dict[str, Any]:
    """As JSON."""
    return {
        "system": found.system,
        "name": found.name,
        "file": str(found.file),
        "enabled": found.enabled,
        "current": found.current,
        "managerRuns": found.manager_runs,
        "servicePid": found.pid,
        "pid": pid,
        "note": found.note,
        "advice": found.advice,
    }


def pairs(found: Standing, pid: int | None) -> list[tuple[str, object]]:
    """For a person."""
    rows: list[tuple[str, object]] = [("service", f"{found.name}, by {found.system}")]
    if not found.enabled:
        return [*rows, ("at login", "no (loopsy enable)"), ("daemon", daemon_words(found, pid))]
    stale = "" if found.current else ", but not as it would be written now: loopsy enable"
    rows += [("at login", f"yes{stale}"), ("file", found.file), ("daemon", daemon_words(found, pid))]
    return [*rows, *[("note", text) for text in (found.note, found.advice) if text]]


def daemon_words(found: Standing, pid: int | None) -> str:
    """Whether it runs, and by whom."""
    if pid is None:
        return "not running"
    return f"runs (pid {pid}), {'started by the service' if found.pid == pid else 'started by hand'}"
