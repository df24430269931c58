"""Real nodes for tests: a data directory, a real ``twistd loopsy`` over it, and its REST interface."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field

from loopsy.store import configfile
from loopsy.store.layout import Layout

PATIENCE_S = 120.0
"""Far more than a start or an end takes, on a busy machine too: only a hanging one meets it."""
WORKERS = 8
"""At most so many run tests at once."""
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
PORTS = range(20_000, 32_000)[WORKER * 1500 : (WORKER + 1) * 1500]
"""Below those that systems give to outgoing connections (Linux: from 32768 on). One of those could be given to
anybody's while a node is down, and stays taken for a minute after it: the node could not start again. Other workers
have others, for the same reason."""
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody uses now, nor was given to anybody here (while there are others)."""
    while True:
        if len(_given) > len(PORTS) // 2:
            _given.clear()
        port = secrets.choice(PORTS)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


@define
class Answer:
    """A status, headers in lower case, and the body as JSON where it is JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any


@define
class Node:
    """One node: made in ``root``, started and stopped by hand."""

    root: Path
    name: str
    port: int = field(factory=free_port)
    key: str = field(factory=lambda: secrets.token_hex(32))
    process: subprocess.Popen[bytes] | None = None

    def write_config(self, **sections: Mapping[str, Any]) -> None:
        """Make the data directory and its config; ``sections`` as in the file, over what a test needs."""
        layout = self.layout
        layout.make()
        values: dict[str, dict[str, Any]] = {
            "server": {"port": self.port, "host": "127.0.0.1", "hostname": self.name},
            "auth": {"apiKey": self.key},
            "rateLimits": {"execute": 10**6, "transfer": 10**6, "context": 10**6},
            "discovery": {"enabled": False},
        }
        for name, keys in sections.items():
            values[name] = {**values.get(name, {}), **keys}
        configfile.create(layout.config, values, replace=True)

    @property
    def layout(self) -> Layout:
        """Where its files lie."""
        return Layout(self.root)

    @property
    def environment(self) -> dict[str, str]:
        """For commands on this node: a HOME of its own, and its data directory."""
        home = self.root.parent / f"home-{self.name}"
        home.mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LOOPSY_")}
        return {**kept, "HOME": str(home), "LOOPSY_DATA_DIR": str(self.root)}

    def start(self) -> Node:
        """Run its daemon in the foreground of a child process and wait until it answers."""
        if not self.layout.config.exists():
            self.write_config()
        with open(self.root / "twistd.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "loopsy"],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.environment["HOME"],
            )
        self.wait_until_up()
        return self

    def wait_until_up(self) -> None:
        """Return once health answers.

        :raises RuntimeError: the process ended, or PATIENCE_S went by.
        """
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/health", key=None).status == 200:
                    return
            if self.process is not None and self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not start:\n{(self.root / 'twistd.log').read_text()[-4000:]}")

    def stop(self) -> int | None:
        """TERM, and wait."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE_S)
        self.process = None
        return status

    def kill(self) -> None:
        """KILL, and wait."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process = None

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "own",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request to its REST interface. ``body``: bytes as they are, anything else as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {**({"authorization": f"Bearer {self.key if key == 'own' else key}"} if key else {}), **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("content-type", "application/json")
        try:
            connection.request(method, f"/api/v1{path}", body, sent)
            response = connection.getresponse()
            data = response.read()
            names = {name.lower(): value for name, value in response.getheaders()}
        finally:
            connection.close()
        is_json = names.get("content-type", "").startswith("application/json")
        return Answer(response.status, names, json.loads(data) if is_json and data else data)

    def run(self, *argv: str, stdin: bytes | None = None, check: bool = False) -> subprocess.CompletedProcess[bytes]:
        """The real ``loopsy`` command on this node."""
        return subprocess.run(
            [sys.executable, "-m", "loopsy.cli.main", *argv],
            env=self.environment,
            cwd=self.environment["HOME"],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            check=check,
            timeout=120,
        )

    @property
    def log(self) -> str:
        """Its daemon log."""
        return self.layout.daemon_log.read_text() if self.layout.daemon_log.exists() else ""


def keyed_pair(a: Node, b: Node, **sections: Mapping[str, Any]) -> None:
    """Write configs in which each has a key of its own for the other, and its address."""
    a_to_b, b_to_a = secrets.token_hex(32), secrets.token_hex(32)
    for one, other, presented, accepted in ((a, b, a_to_b, b_to_a), (b, a, b_to_a, a_to_b)):
        auth = {"apiKey": one.key, "allowedKeys": {other.name: accepted}, "peerKeys": {other.name: presented}}
        manual = {"address": "127.0.0.1", "port": other.port, "hostname": other.name}
        more = {name: keys for name, keys in sections.items() if name not in ("auth", "discovery")}
        one.write_config(auth=auth, discovery={"enabled": False, "manualPeers": [manual]}, **more)
