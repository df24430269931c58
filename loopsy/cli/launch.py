"""Starting the daemon in the background and stopping it, with the reason where that fails."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time

from loopsy.client import http1
from loopsy.client.local import LocalDaemon
from loopsy.config import Config
from loopsy.errors import LoopsyError
from loopsy.store import configfile, pidfile
from loopsy.store.layout import Layout
from loopsy.wire import urls

START_S = 30.0
"""A daemon answers within a second; importing from a cold disk can take several."""
STOP_S = 20.0
"""Jobs get 5 s to end after TERM, then are killed; the rest is flushing."""
POLL_S = 0.02
TAIL_LINES = 15
TWISTD = "from twisted.scripts.twistd import run; run()"


class StartFailed(LoopsyError):
    """The daemon did not start."""


class StopFailed(LoopsyError):
    """The daemon did not stop."""


# -- before -----------------------------------------------------------------------------------------------------------
def check_config(layout: Layout) -> Config:
    """Read the config as the daemon will, and show its warnings.

    :raises ConfigError: it can't be used.
    """
    from loopsy.cli.render import clean

    parsed = configfile.load(layout.config)
    for warning in parsed.warnings:
        print(f"warning: {clean(warning)}", file=sys.stderr)
    return parsed.config


def check_port(config: Config) -> None:
    """See whether the port is free, by taking it for a moment.

    :raises StartFailed: it isn't (says who has it), or can't be listened on.
    """
    host, port = config.server.host, config.server.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        if os.name == "posix":  # elsewhere it would let two listen; here it only passes over dying connections
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
            trial.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise port_taken(port) from None
            why = (error.strerror or str(error)).lower()
            raise StartFailed(f"can't listen on {host} port {port}: {why}", hint="see server in config.yaml") from None


def port_taken(port: int) -> StartFailed:
    """Says by whom."""
    return StartFailed(
        f"port {port} is taken by {holder_of(port)}",
        hint="stop that, or set another server.port in config.yaml",
    )


def holder_of(port: int) -> str:
    """The process that listens on a port, as far as we may know."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:] == (port,) and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass  # macOS tells it to root only
    return "another process"


# -- start ------------------------------------------------------------------------------------------------------------
def start(layout: Layout) -> str:
    """Start the daemon; returns the line that says so, once it answers.

    :raises StartFailed: says why. :raises ConfigError: :raises DataDirError:
    """
    config = configfile.load(layout.config).config
    layout.make()
    check_port(config)
    process = _spawn(layout)
    deadline = time.monotonic() + START_S
    daemon = LocalDaemon(layout.root)
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartFailed("the daemon ended at its start; its last words:", hint=last_words(layout))
        if answers(daemon, layout):
            return f"loopsy runs (pid {process.pid}, port {config.server.port})"
        time.sleep(POLL_S)
    process.terminate()
    raise StartFailed(f"the daemon did not answer within {START_S:g} s; its last words:", hint=last_words(layout))


def _spawn(layout: Layout) -> subprocess.Popen[bytes]:
    """In a session of its own, so that closing the terminal does not end it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    output = os.open(layout.start_output, flags, 0o600)
    options = ["--nodaemon", "--pidfile=", "--logger=loopsy.services.logs.silent"]
    try:
        return subprocess.Popen(
            # -P: the home directory, where it runs, is no place to import modules from.
            [sys.executable, "-P", "-c", TWISTD, *options, "loopsy", "--data-dir", str(layout.root)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=os.path.expanduser("~"),
            start_new_session=True,
        )
    except OSError as error:
        raise StartFailed(f"the daemon can't be started: {(error.strerror or str(error)).lower()}") from None
    finally:
        os.close(output)


def answers(daemon: LocalDaemon, layout: Layout) -> bool:
    """Whether the node of this data directory answers on its port."""
    host, port, _ = daemon.endpoint
    try:
        connection = http1.connect(host, port, timeout=1.0)
        headers = {"Host": daemon.endpoint.authority}
        with http1.request(connection, "GET", urls.HEALTH, headers, timeout=5.0) as response:
            return layout.node_id.read_text().strip().encode() in response.read()
    except (LoopsyError, OSError):
        return False


def last_words(layout: Layout) -> str:
    """The end of what it printed; or of its log, if it printed nothing."""
    for path in (layout.start_output, layout.daemon_log):
        try:
            lines = path.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        if lines:
            return "\n".join(lines[-TAIL_LINES:])
    return f"(none; see {layout.daemon_log})"


# -- stop -------------------------------------------------------------------------------------------------------------
def stop(layout: Layout, pid: int) -> None:
    """TERM to the process that holds the pid file; returns when it let go.

    :raises StopFailed: it may not be signalled, or did not end in time.
    """
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        raise StopFailed(f"the daemon (pid {pid}) belongs to another user") from None
    deadline = time.monotonic() + STOP_S
    while pidfile.running(layout.pid) == pid:
        if time.monotonic() > deadline:
            raise StopFailed(
                f"the daemon (pid {pid}) did not stop within {STOP_S:g} s",
                hint=f"see {layout.daemon_log}; to end it at once: kill -9 {pid}",
            )
        time.sleep(POLL_S)
