"""Where everything lies under the data directory, and who may read it: its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from loopsy.errors import DataDirError

DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
OURS = ("config.yaml*", ".config.yaml.lock", "sessions", "node-id", "daemon.pid", "loopsy.db*", "context.json*",
        "peers.json*", "logs", "logs/*", "tls", "tls/*", "tasks", "tasks/*")  # fmt: skip
"""With the copies that ``init --force`` and an import keep beside the files."""


class Layout:
    """The paths of one data directory. Plain strings and no imports of weight: every command makes one."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.config = self.root / "config.yaml"
        self.database = self.root / "loopsy.db"
        self.node_id = self.root / "node-id"
        self.pid = self.root / "daemon.pid"
        self.tls = self.root / "tls"
        self.tls_key = self.tls / "key.pem"
        self.tls_next = self.tls / "next.pem"
        self.tls_certificate = self.tls / "cert.pem"
        self.tasks = self.root / "tasks"
        """What finished AI tasks changed, as patches."""
        self.jobs = self.root / "jobs"
        """The output of detached jobs."""
        self.sessions = self.root / "sessions"
        """The data directories of this machine's further daemons, by name."""
        self.logs = self.root / "logs"
        self.audit = self.logs / "audit.jsonl"
        self.daemon_log = self.logs / "daemon.log"
        self.start_output = self.logs / "start.log"
        self.old_context = self.root / "context.json"
        self.old_peers = self.root / "peers.json"

    def make(self) -> None:
        """Make the directories, readable by their owner only; those that exist are tightened.

        :raises DataDirError: that can't be done.
        """
        try:
            for path in (self.root, self.logs):
                path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            self.mend()
        except OSError as error:
            raise DataDirError(f"the data directory {self.root} can't be used: {error.strerror}") from None

    def too_open(self) -> list[Path]:
        """Files and directories of ours that others may read or write."""
        return [path for path in (self.root, *self._mine()) if _is_open(path)]

    def mend(self) -> list[Path]:
        """Close what is too open; returns what that was."""
        mended = self.too_open()
        for path in mended:
            path.chmod(DIRECTORY_MODE if path.is_dir() else FILE_MODE)
        return mended

    def _mine(self) -> list[Path]:
        """What we put there, by name: whoever names a directory with files of his own keeps those as they are."""
        return [path for pattern in OURS for path in sorted(self.root.glob(pattern))]


def _is_open(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return os.name == "posix" and not stat.S_ISLNK(found.st_mode) and bool(found.st_mode & 0o077)


def data_dir(option: str | None = None) -> str:
    """The data directory: the option, or ``LOOPSY_DATA_DIR``, or ``~/.loopsy``."""
    return os.path.expanduser(option or os.environ.get("LOOPSY_DATA_DIR") or "~/.loopsy")
