"""Starting the daemon in the background and stopping it, with the reason where that fails."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from loopsy.client import http1
from loopsy.client.local import LocalDaemon
from loopsy.config import Config
from loopsy.errors import LoopsyError
from loopsy.osservice import command
from loopsy.store import configfile, pidfile
from loopsy.store.layout import Layout
from loopsy.wire import urls

START_S = 30.0
"""A daemon answers within a second; importing from a cold disk can take several."""
STOP_S = 20.0
"""Jobs get 5 s to end after TERM, then are killed; the rest is flushing."""
POLL_S = 0.02
TAIL_LINES = 15


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
    try:
        _try_port(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise port_taken(port) from None
        why = (error.strerror or str(error)).lower()
        raise StartFailed(f"can't listen on {host} port {port}: {why}", hint="see server in config.yaml") from None


def is_free(host: str, port: int) -> bool:
    """Whether it could be listened on."""
    try:
        _try_port(host, port)
    except OSError:
        return False
    return True


def _try_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        if os.name == "posix":  # elsewhere it would let two listen; here it only passes over dying connections
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((host, port))
        trial.listen(1)


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
class Child:
    """A daemon that was started and may not answer yet."""

    def __init__(self, layout: Layout, port: int, pid: int, process: subprocess.Popen[bytes] | None) -> None:
        self.layout, self.port, self.pid = layout, port, pid
        self._process = process
        self._daemon = LocalDaemon(layout.root)

    @property
    def is_gone(self) -> bool:
        """Whether it ended."""
        if self._process is not None:
            return self._process.poll() is not None
        import psutil

        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    @property
    def answers(self) -> bool:
        """Whether it serves."""
        return answers(self._daemon, self.layout)

    def end(self) -> None:
        """It took too long."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


def start(layout: Layout) -> str:
    """Start the daemon; returns the line that says so, once it answers.

    :raises StartFailed: says why. :raises ConfigError: :raises DataDirError:
    """
    (found,) = start_all([layout])
    if isinstance(found, LoopsyError):
        raise found
    return f"loopsy runs (pid {found.pid}, port {found.port})"


def start_all(layouts: Sequence[Layout]) -> list[Child | LoopsyError]:
    """Start several at once; in their order each, once it answers, or why it doesn't."""
    ports: dict[Layout, int] = {}
    found: dict[Layout, Child | LoopsyError] = {}
    for layout in layouts:
        try:
            ports[layout] = _prepare(layout)
        except LoopsyError as error:
            found[layout] = error
    children = _spawn_all(ports)
    for layout, child in zip(ports, children, strict=True):
        found[layout] = child
    _await([child for child in children if isinstance(child, Child)], found)
    return [found[layout] for layout in layouts]


def _prepare(layout: Layout) -> int:
    """Find what would keep it from starting; returns its port."""
    config = configfile.load(layout.config).config
    layout.make()
    check_port(config)
    return config.server.port


def _await(children: Sequence[Child], found: dict[Layout, Child | LoopsyError]) -> None:
    """Until each answers or is gone; ``found`` learns of those that don't answer."""
    deadline = time.monotonic() + START_S
    waiting = list(children)
    while waiting:
        for child in list(waiting):
            if child.is_gone:
                text = "the daemon ended at its start; its last words:"
            elif child.answers:
                waiting.remove(child)
                continue
            elif time.monotonic() > deadline:
                child.end()
                text = f"the daemon did not answer within {START_S:g} s; its last words:"
            else:
                continue
            waiting.remove(child)
            found[child.layout] = StartFailed(text, hint=last_words(child.layout))
        time.sleep(POLL_S)


def _spawn_all(ports: Mapping[Layout, int]) -> list[Child | LoopsyError]:
    if len(ports) > 1 and sys.platform == "linux":
        return [*_fork(ports)]
    children: list[Child | LoopsyError] = []
    for layout, port in ports.items():
        try:
            process = _spawn(layout)
            children.append(Child(layout, port, process.pid, process))
        except StartFailed as error:
            children.append(error)
    return children


def _fork(ports: Mapping[Layout, int]) -> Iterator[Child | LoopsyError]:
    """By ``loopsy.fleet``, which imports for all of them."""
    roots = [str(layout.root) for layout in ports]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "loopsy.fleet", *roots],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=os.path.expanduser("~"),
        check=False,
    )
    pids = done.stdout.split()
    for at, (layout, port) in enumerate(ports.items()):
        if at < len(pids):
            yield Child(layout, port, int(pids[at]), None)
        else:
            words = "\n".join(done.stderr.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])
            yield StartFailed("the daemon can't be started:", hint=words)


def _spawn(layout: Layout) -> subprocess.Popen[bytes]:
    """In a session of its own, so that closing the terminal does not end it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    output = os.open(layout.start_output, flags, 0o600)
    try:
        return subprocess.Popen(
            command.argv(layout.root),
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
