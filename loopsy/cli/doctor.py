"""``loopsy doctor``: everything that can be wrong on this machine, each with its remedy."""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from loopsy.cli import arguments, launch, logs, render
from loopsy.client.local import LocalDaemon
from loopsy.config import Config
from loopsy.errors import LoopsyError
from loopsy.store import configfile, pidfile
from loopsy.store.layout import Layout
from loopsy.wire import urls

if TYPE_CHECKING:
    from loopsy.agents.registration import Standing

PASS, WARN, FAIL = "pass", "warn", "fail"
MARKS = {PASS: "✓", WARN: "!", FAIL: "✗"}
ASK_S = 5.0
LAST_DAYS = 7
LOW_DISK = 100 * 1024 * 1024
"""Below this the database and the logs may soon not be written."""


class Check(NamedTuple):
    """What looking at one thing found."""

    name: str
    level: str
    text: str
    remedy: str | None = None


class Patient(NamedTuple):
    """What the checks look at."""

    layout: Layout
    config: Config | None
    """None: it can't be used."""
    pid: int | None
    fix: bool


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``doctor``."""
    arguments.describe(
        parser,
        "Check the configuration, permissions, daemon, port, database, audit log, peers, AI agents and disk.\n"
        "Exit status 1 if anything failed.",
        "loopsy doctor\nloopsy doctor --fix        # closes files that others may read",
        run,
    )
    parser.add_argument("--fix", action="store_true", help="mend file permissions")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Look at everything."""
    found = list(examine(arguments.layout_of(args), args.fix))
    if arguments.wants_json(args):
        render.print_json({"checks": [check._asdict() for check in found]})
    else:
        print(report(found))
    return 1 if any(check.level == FAIL for check in found) else 0


def report(found: list[Check]) -> str:
    """For a person."""
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        lines.append(f"{MARKS[check.level]} {check.name.ljust(width)}  {render.clean(check.text)}")
        if check.remedy:
            lines.append(f"  {' ' * width}  {render.clean(check.remedy)}")
    counts = {level: sum(check.level == level for check in found) for level in (FAIL, WARN)}
    if any(counts.values()):
        told = [render.count(n, word) for n, word in ((counts[FAIL], "failure"), (counts[WARN], "warning")) if n]
        return "\n".join([*lines, "", ", ".join(told)])
    return "\n".join([*lines, "", "all is well"])


def examine(layout: Layout, fix: bool) -> Iterator[Check]:
    """Each check in turn. One that breaks is itself a failure, and does not keep the others from being made."""
    if not layout.root.is_dir():
        yield Check("data directory", FAIL, f"there is no {layout.root}", "make one with: loopsy init")
        return
    config, check = _config(layout)
    yield check
    patient = Patient(layout, config, pidfile.running(layout.pid), fix)
    for look in CHECKS:
        try:
            yield from look(patient)
        except LoopsyError as error:
            yield Check(_title(look), FAIL, error.message, error.hint)
        except OSError as error:
            yield Check(_title(look), FAIL, str(error).lower())


def _title(look: Callable[[Patient], Iterator[Check]]) -> str:
    return look.__name__.strip("_").replace("_", " ")


# -- the checks -------------------------------------------------------------------------------------------------------
def _config(layout: Layout) -> tuple[Config | None, Check]:
    try:
        parsed = configfile.load(layout.config)
    except LoopsyError as error:
        return None, Check("config", FAIL, error.message, error.hint or "mend that line")
    if parsed.warnings:
        return parsed.config, Check("config", WARN, "; ".join(parsed.warnings), "nobody reads these keys")
    return parsed.config, Check("config", PASS, str(layout.config))


def _permissions(patient: Patient) -> Iterator[Check]:
    layout = patient.layout
    if patient.fix and (mended := layout.mend()):
        yield Check("permissions", PASS, f"mended: {', '.join(map(str, mended))}")
    elif too_open := layout.too_open():
        names = ", ".join(map(str, too_open))
        yield Check("permissions", FAIL, f"others may read or write {names}", "mend them with: loopsy doctor --fix")
    else:
        yield Check("permissions", PASS, "only you may read what is under the data directory")


def _daemon(patient: Patient) -> Iterator[Check]:
    if patient.pid is None:
        yield Check("daemon", FAIL, "not running", "start it with: loopsy start")
        return
    if patient.config is None:
        yield Check("daemon", WARN, f"runs (pid {patient.pid}), with an older config than the file holds")
        return
    try:
        answer = LocalDaemon(patient.layout.root).ask("GET", urls.STATUS, timeout=ASK_S)
    except LoopsyError as error:
        remedy = error.hint or f"see {patient.layout.daemon_log}, then: loopsy restart"
        yield Check("daemon", FAIL, f"runs (pid {patient.pid}), but does not serve us: {error.message}", remedy)
        return
    yield Check("daemon", PASS, f"runs (pid {patient.pid}), up for {render.span(answer['uptime'])}")


def _port(patient: Patient) -> Iterator[Check]:
    if patient.config is None:
        return
    port = patient.config.server.port
    if patient.pid is None:
        launch.check_port(patient.config)
        yield Check("port", PASS, f"{port} is free")
    elif launch.answers(LocalDaemon(patient.layout.root), patient.layout):
        yield Check("port", PASS, f"{port} is this daemon's")
    else:
        holder = launch.holder_of(port)
        yield Check("port", FAIL, f"{port} is not answered by this daemon, but by {holder}", "loopsy restart says more")


def _tls(patient: Patient) -> Iterator[Check]:
    if patient.config is None:
        return
    if not patient.config.tls.enabled:
        remedy = "set tls.enabled: true in config.yaml, and: loopsy restart"
        yield Check("tls", WARN, "off: keys and data cross the network in clear", remedy)
        return
    if not patient.layout.tls_certificate.exists():
        yield Check("tls", PASS, "on; the certificate is made when the daemon starts")
        return
    from loopsy.store import certificate

    own = certificate.ensure(patient.layout, patient.config.server.hostname or "loopsy")
    days = (own.expires - datetime.now(UTC)).days
    if days < LAST_DAYS:
        remedy = "let the daemon run, which renews it, then: loopsy restart"
        yield Check("tls", WARN, f"the certificate ends in {days} days", remedy)
    else:
        yield Check("tls", PASS, f"on, the certificate is good for {days} days")


def _database(patient: Patient) -> Iterator[Check]:
    path = patient.layout.database
    if not path.exists():
        yield Check("database", PASS, "none yet")
        return
    try:
        with logs.open_read_only(patient.layout) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        answer = str(error)
    if answer == "ok":
        yield Check("database", PASS, f"sound, {render.size(path.stat().st_size)}")
    else:
        remedy = "stop the daemon, and restore the file from a backup or move it away"
        yield Check("database", FAIL, f"{path} is damaged: {answer}", remedy)


def _audit_log(patient: Patient) -> Iterator[Check]:
    result = logs.check(patient.layout)
    fault = result["fault"]
    if fault is None:
        yield Check("audit log", PASS, f"{render.count(result['lines'], 'line')}, unbroken")
    else:
        remedy = "someone or something changed the log; keep a copy before you go on"
        yield Check("audit log", FAIL, f"{fault['file']}:{fault['line']}: {fault['text']}", remedy)


def _peers(patient: Patient) -> Iterator[Check]:
    if patient.pid is None or patient.config is None:
        return
    peers = LocalDaemon(patient.layout.root).ask("GET", urls.PEERS, timeout=ASK_S)["peers"]
    if not peers:
        yield Check("peers", WARN, "none are known", "add one with: loopsy peers add <address> --name <name>")
    for peer in peers:
        yield _peer(peer)


def _peer(peer: dict[str, Any]) -> Check:
    from loopsy.cli.peers import endpoint, label

    name, where = f"peer {render.clean(label(peer))}", endpoint(peer)
    if not peer.get("trusted"):
        remedy = "pair with it: loopsy pair"
        return Check(name, WARN, f"{peer.get('status')} at {where}, but there is no key for it", remedy)
    if peer.get("status") != "online":
        remedy = (
            f"is its daemon running there (loopsy status), and does a firewall let port {peer.get('port')} through?"
        )
        return Check(name, WARN, f"{peer.get('status')} at {where}", remedy)
    if not peer.get("pin"):
        text = f"online at {where}, in plain HTTP: what passes can be read"
        return Check(name, WARN, text, "pair with it: loopsy pair")
    return Check(name, PASS, f"online at {where}, its certificate pinned")


def _mcp(patient: Patient) -> Iterator[Check]:
    from loopsy.agents import registrars, registration

    command = registrars.server_command(str(patient.layout.root))
    found = registration.installed(registration.chosen())
    for standing in registration.each(lambda registrar: registration.standing(registrar, command), found):
        yield _agent(standing)


def _agent(standing: Standing) -> Check:
    name, renew = f"mcp {standing.agent}", "loopsy mcp add"
    if standing.state == "not registered":
        return Check(name, WARN, "it is here, but does not know of loopsy", f"tell it with: {renew}")
    if standing.state == "unknown":
        return Check(
            name, WARN, f"it does not say whether it knows of loopsy: {standing.error}", "try: loopsy mcp status"
        )
    if not standing.connects:
        return Check(name, FAIL, f"registered, but does not connect: {standing.error}", f"renew it with: {renew}")
    if not standing.current:
        return Check(name, WARN, f"it starts another one than this: {standing.command}", f"renew it with: {renew}")
    return Check(name, PASS, f"connects, {render.count(standing.tools or 0, 'tool')}")


def _disk(patient: Patient) -> Iterator[Check]:
    free = shutil.disk_usage(os.fspath(patient.layout.root)).free
    if free < LOW_DISK:
        yield Check("disk", FAIL, f"only {render.size(free)} are left", "make room: what can't be written is refused")
    else:
        yield Check("disk", PASS, f"{render.size(free)} are free")


CHECKS: tuple[Callable[[Patient], Iterator[Check]], ...] = (
    _permissions, _daemon, _port, _tls, _database, _audit_log, _peers, _mcp, _disk,
)  # fmt: skip
