"""One machine as its user has it: an empty HOME, and nothing but the real ``loopsy`` command."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define

from loopsy.store import configfile, pidfile
from loopsy.store.audit import files
from loopsy.testing.nodes import Node

COMMAND = (sys.executable, "-m", "loopsy.cli.main")


@define
class Machine(Node):
    """A Node whose daemon is started in the background, by ``loopsy start``; its data directory is ``~/.loopsy``."""

    @classmethod
    def at(cls, home: Path, name: str = "alfa") -> Machine:
        """A machine whose home directory is ``home``, made here and empty."""
        home.mkdir(mode=0o700)
        return cls(home / ".loopsy", name)

    @property
    def environment(self) -> dict[str, str]:
        """HOME alone says where the data lies."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LOOPSY_", "XDG_"))}
        return {**kept, "HOME": str(self.root.parent)}

    def set_up(self, **sections: Any) -> Machine:
        """``loopsy init``, on a port of its own on loopback."""
        self.ok("init", "--no-mcp", "--hostname", self.name, "--host", "127.0.0.1", "--port", str(self.port))
        self.key = self.ok("key", "show").strip()
        for section, keys in {"discovery": {"enabled": False}, **sections}.items():
            for key, value in keys.items():
                configfile.change(self.layout.config, (section, key), value)
        return self

    def ok(self, *words: str) -> str:
        """What a command that must succeed printed."""
        done = self.run(*words)
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout.decode()

    def fails(self, *words: str, status: int = 1) -> str:
        """What a command that must fail said."""
        done = self.run(*words)
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        assert b"Traceback" not in done.stderr
        return done.stderr.decode()

    def json(self, *words: str) -> Any:
        """What a command said as JSON, whether it succeeded or not."""
        return json.loads(self.run(*words, "--json").stdout)

    @property
    def pid(self) -> int | None:
        """Of the daemon that runs now."""
        return pidfile.running(self.layout.pid)

    @property
    def audited(self) -> list[dict[str, Any]]:
        """Every record of the audit log."""
        return [json.loads(line) for file in files(self.layout.audit) for line in file.read_bytes().splitlines()]

    def reported_pid(self, said: str) -> int:
        """The pid in what ``start`` said."""
        found = re.search(r"pid (\d+)", said)
        assert found is not None, said
        return int(found[1])

    def end(self) -> None:
        """Whatever a test did: nothing of it runs on."""
        pid = self.pid
        if pid is not None:
            with suppress(subprocess.TimeoutExpired):
                self.run("stop")
        if self.pid is not None and pid is not None:
            os.kill(pid, signal.SIGKILL)


def too_open(root: Path) -> list[Path]:
    """Whatever below ``root`` (and itself) others may read or write."""
    return [p for p in (root, *root.rglob("*")) if not p.is_symlink() and stat.S_IMODE(p.stat().st_mode) & 0o077]
