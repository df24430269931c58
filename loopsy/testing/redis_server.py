"""A Redis (or Valkey) of a test's own: on a socket file, in memory, gone with the test."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("valkey-server", "redis-server")
PATIENCE_S = 120.0


def program() -> str | None:
    """What this machine has of it."""
    return next((found for found in map(shutil.which, PROGRAMS) if found is not None), None)


@contextmanager
def running(folder: Path, *options: str) -> Iterator[str]:
    """Run one; its address for ``context.backend``."""
    server = program()
    assert server is not None, "there is neither valkey-server nor redis-server"
    socket = folder / "redis.sock"
    command = [server, "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", *options]
    process = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not socket.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert socket.exists(), f"{server} did not start"
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait()
