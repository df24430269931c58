"""The daemon, its port, and what it writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from loopsy.cli import launch, logs, render
from loopsy.cli.checks.finding import ASK_S, FAIL, PASS, WARN, Check, Patient
from loopsy.errors import LoopsyError
from loopsy.wire import urls


def daemon(patient: Patient) -> Iterator[Check]:
    if patient.pid is None:
        yield Check("daemon", FAIL, "not running", "start it with: loopsy start")
        return
    if patient.config is None:
        text = f"runs (pid {patient.pid}), with an older config than the file holds"
        yield Check("daemon", WARN, text, "mend the config, and: loopsy reload")
        return
    try:
        answer = patient.daemon.ask("GET", urls.STATUS, timeout=ASK_S)
    except LoopsyError as error:
        remedy = error.hint or f"see {patient.layout.daemon_log}, then: loopsy restart"
        yield Check("daemon", FAIL, f"runs (pid {patient.pid}), but does not serve us: {error.message}", remedy)
        return
    yield Check("daemon", PASS, f"runs (pid {patient.pid}), up for {render.span(answer['uptime'])}")


def port(patient: Patient) -> Iterator[Check]:
    if patient.config is None:
        return
    port = patient.config.server.port
    if patient.pid is None:
        launch.check_port(patient.config)
        yield Check("port", PASS, f"{port} is free")
    elif launch.answers(patient.daemon, patient.layout):
        yield Check("port", PASS, f"{port} is this daemon's")
    else:
        holder = launch.holder_of(port)
        yield Check("port", FAIL, f"{port} is not answered by this daemon, but by {holder}", "loopsy restart says more")


def database(patient: Patient) -> Iterator[Check]:
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


def audit_log(patient: Patient) -> Iterator[Check]:
    result = logs.check(patient.layout)
    fault = result["fault"]
    if fault is None:
        yield Check("audit log", PASS, f"{render.count(result['lines'], 'line')}, unbroken")
    else:
        remedy = "someone or something changed the log; keep a copy before you go on"
        yield Check("audit log", FAIL, f"{fault['file']}:{fault['line']}: {fault['text']}", remedy)
