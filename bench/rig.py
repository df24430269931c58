"""What the rows run against: daemons, bare web servers and a private sshd, all on loopback, all ended at the end.

Everything lives in one temporary directory; every process is a child of ours, ended by its id.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from attrs import field, frozen

from bench.raw import ask
from bench.table import BenchError
from loopsy.testing.nodes import free_port

REPOSITORY = Path(__file__).resolve().parent.parent
UNLIMITED = 10**9
READY_S = 20.0
STOP_S = 10.0
SSHD = "/usr/sbin/sshd"
SSHD_RUN = Path("/run/sshd")
"""sshd separates its privileges into this empty directory when it runs as root."""
PAIR_KEY = secrets.token_hex(32)
"""What the first of a pair presents to the second."""
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
SCRIPT = "#!{python}\nimport sys\nfrom loopsy.cli.main import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
"""What pip makes of our entry point."""


@frozen
class Served:
    """A process that listens."""

    process: subprocess.Popen[bytes]
    port: int
    start_s: float = 0.0
    """From spawn to its first answer."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


@frozen
class Daemon(Served):
    """A loopsy daemon."""

    name: str = ""
    data_dir: Path = field(factory=Path)
    key: str = field(default="", repr=False)

    def head(self, method: str, path: str, length: int = 0, accept: str = "*/*") -> bytes:
        """The head of an HTTP/1.0 request: its answer is not chunked and ends with the connection."""
        lines = [
            f"{method} /api/v1{path} HTTP/1.0",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {self.key}",
        ]
        lines += ["Content-Type: application/json", f"Content-Length: {length}", f"Accept: {accept}", "", ""]
        return "\r\n".join(lines).encode()

    @property
    def fingerprint(self) -> str:
        """Of its certificate."""
        return str(self.ask("GET", "/status")["tls"]["fingerprint"])

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """One question, its JSON answer.

        :raises BenchError: refused.
        """
        data = b"" if body is None else json.dumps(body).encode()
        status, answer = ask(self.port, self.head(method, path, len(data)) + data)
        if status >= 400:
            raise BenchError(f"{method} {path}: {status} {answer[:200].decode('utf-8', 'replace')}")
        return json.loads(answer)


@frozen
class Ssh:
    """The rival: a private sshd, and how to reach it."""

    config: Path

    def command(self, *words: str) -> list[str]:
        """ssh on a connection of its own."""
        return ["ssh", "-q", "-F", str(self.config), "bench", *words]

    def master_command(self, *words: str) -> list[str]:
        """ssh through the connection that a master keeps open."""
        return ["ssh", "-q", "-F", str(self.config), "bench-master", *words]


class Rig:
    """Starts what rows need; ends it at the end of a ``with``."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.root = Path(tempfile.mkdtemp(prefix="loopsy-bench-"))
        self._stack.callback(shutil.rmtree, self.root, ignore_errors=True)
        (self.root / "home").mkdir()
        self.env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.root / "home"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(REPOSITORY),
        }

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def spawn(self, argv: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        """A child whose output goes to a file of the rig, ended with it."""
        with (self.root / f"{log}.log").open("ab") as output:
            process = subprocess.Popen(
                argv, cwd=self.root, env=self.env, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._stack.callback(end, process)
        return process

    def serve(self, argv: Sequence[str], log: str, port: int, path: str) -> Served:
        """A child that listens on ``port``; returns when ``path`` is answered."""
        begin = time.perf_counter()
        process = self.spawn(argv, log)
        wait_for(lambda: answers(port, path), process, self.root / f"{log}.log")
        return Served(process, port, time.perf_counter() - begin)

    # -- daemons ----------------------------------------------------------------------------------------------------
    def daemon(
        self,
        name: str,
        *,
        peers: Sequence[Daemon] = (),
        known: Sequence[tuple[str, str]] = (),
        tls: bool = False,
        discovery: bool = False,
        entries: int = 2000,
    ) -> Daemon:
        """A daemon that knows ``peers`` and lets in the holders of the ``known`` keys (name, key); its context holds so
        many ``entries``."""
        key, port, data_dir = secrets.token_hex(32), free_port(), self.root / name
        data_dir.mkdir(mode=0o700)
        sections = {
            "server": {"port": port, "host": "127.0.0.1", "hostname": name},
            "auth": {
                "apiKey": key,
                "allowedKeys": dict(known),
                "peerKeys": {peer.name: PAIR_KEY for peer in peers},
            },
            "tls": {"enabled": tls, "pinnedCerts": {peer.name: peer.fingerprint for peer in peers if tls}},
            "execution": {"maxConcurrent": 64},
            "context": {"maxEntries": entries},
            "messages": {"maxUnread": 50_000},
            "transfer": {"allowedPaths": [str(self.root)], "maxFileSize": 1 << 40},
            "rateLimits": {"execute": UNLIMITED, "transfer": UNLIMITED, "context": UNLIMITED},
            "discovery": {
                "enabled": discovery,
                "manualPeers": [{"address": "127.0.0.1", "port": peer.port, "hostname": peer.name} for peer in peers],
            },
        }
        (data_dir / "config.yaml").write_text(yaml.safe_dump(sections, sort_keys=False))
        argv = [*TWISTD, "loopsy", "--data-dir", str(data_dir)]
        served = self.serve(argv, name, port, "/api/v1/health")
        return Daemon(served.process, port, served.start_s, name, data_dir, key)

    def pair(self, *, tls: bool = False) -> tuple[Daemon, Daemon]:
        """Two daemons keyed to each other; the first knows the second as a peer, and its connection is warm."""
        number = sum(1 for _ in self.root.glob("leo*"))
        leo, kai = f"leo{number}", f"kai{number}"
        there = self.daemon(kai, known=[(leo, PAIR_KEY)], tls=tls)
        here = self.daemon(leo, peers=[there], known=[(kai, PAIR_KEY)], tls=tls)
        here.ask("POST", f"/peers/{kai}/execute", {"command": "true"})
        return here, there

    def loopsy(self, daemon: Daemon, *words: str) -> list[str]:
        """The command line of ``loopsy`` on that daemon's machine."""
        script = self.root / "loopsy"
        if not script.exists():
            script.write_text(SCRIPT.format(python=sys.executable))
            script.chmod(0o755)
        return [str(script), "--data-dir", str(daemon.data_dir), *words]

    # -- yardsticks -------------------------------------------------------------------------------------------------
    def bare(self, length: int) -> Served:
        """A twisted.web server with one bare Resource that answers ``length`` bytes."""
        port = free_port()
        return self.serve([sys.executable, "-m", "bench.bare", str(port), str(length)], f"bare{port}", port, "/")

    def twistd_web(self) -> Served:
        """``twistd web`` over an empty directory."""
        port, directory = free_port(), self.root / "www"
        directory.mkdir(exist_ok=True)
        argv = [*TWISTD, "web", "--listen", f"tcp:{port}:interface=127.0.0.1", "--path", str(directory)]
        return self.serve(argv, f"web{port}", port, "/")

    def sshd(self) -> Ssh:
        """A private sshd with its own host key, one authorized key, and a master connection.

        :raises BenchError: there is no sshd or ssh here.
        """
        if not Path(SSHD).exists() or shutil.which("ssh") is None:
            raise BenchError("sshd is missing here (Debian: openssh-server, openssh-client)")
        if os.geteuid() == 0 and not SSHD_RUN.exists():
            SSHD_RUN.mkdir(mode=0o755)
            self._stack.callback(SSHD_RUN.rmdir)
        home, port = self.root / "ssh", free_port()
        home.mkdir(mode=0o700)
        write_ssh_files(home, port)
        log = self.root / "sshd.log"
        process = self.spawn([SSHD, "-D", "-e", "-f", str(home / "sshd_config")], "sshd")
        wait_for(lambda: listens(port), process, log)
        ssh = Ssh(home / "config")
        master = self.spawn(["ssh", "-F", str(ssh.config), "-M", "-N", "bench-master"], "master")
        wait_for(lambda: (home / "master").exists(), master, self.root / "master.log")
        return ssh


def write_ssh_files(home: Path, port: int) -> None:
    """Keys and both configs. No PAM, no files of the user or the machine take part; SHLVL keeps Debian's bash from
    reading .bashrc, which it does when it believes itself the first shell of an ssh login."""
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
    shutil.copy(home / "user_key.pub", home / "authorized_keys")
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {(home / 'host_key.pub').read_text()}")
    (home / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {home}/host_key\nAuthorizedKeysFile {home}/authorized_keys\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\nPermitUserRC no\nUseDNS no\nPrintMotd no\nSetEnv SHLVL=2\n"
        "MaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    user = pwd.getpwuid(os.getuid()).pw_name
    common = (
        f"  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {home}/user_key\n  IdentitiesOnly yes\n"
        f"  IdentityAgent none\n  UserKnownHostsFile {home}/known_hosts\n  GlobalKnownHostsFile {os.devnull}\n"
        "  StrictHostKeyChecking yes\n  BatchMode yes\n"
    )
    (home / "config").write_text(f"Host bench\n{common}Host bench-master\n{common}  ControlPath {home}/master\n")


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def answers(port: int, path: str) -> bool:
    """Whether a web server answers there."""
    try:
        return ask(port, f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())[0] == 200
    except (OSError, BenchError):
        return False


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Ask every 5 ms until it is so.

    :raises BenchError: the process ended, or took longer than READY_S.
    """
    deadline = time.monotonic() + READY_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise BenchError(f"{log.stem} did not come up: {last[0][:200]}")
        time.sleep(0.005)


def end(process: subprocess.Popen[bytes]) -> None:
    """TERM, then KILL, by its id."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
