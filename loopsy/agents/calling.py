"""Running an agent's own command line for a moment, and ending it when it takes too long or says too much."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from attrs import frozen

from loopsy.errors import LoopsyError
from loopsy.groups import group_of

CALL_S = 30.0
"""Gemini takes 2 s to list its servers, and several times that on a busy machine."""
SAID_MOST = 1 << 20
"""A list of servers is a few kilobytes."""
ENDING_S = 2.0
"""Between TERM and KILL."""
POLL_S = 0.1
PIECES_MOST = 64
"""Of 64 KiB, that wait to be looked at; a program that floods us is held up."""


class CallFailed(LoopsyError):
    """A command could not be run to its end."""


@frozen(kw_only=True)
class Called:
    """What a command answered."""

    status: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        """All of it: which of the two an agent prints to differs from version to version."""
        return f"{self.stdout}\n{self.stderr}"


def call(argv: Sequence[str], environment: Mapping[str, str], timeout: float = CALL_S) -> Called:
    """Run a command in the home directory.

    :raises CallFailed: it can't be started, did not end within ``timeout`` seconds, or said more than SAID_MOST.
    """
    name = os.path.basename(argv[0])
    with running(argv, environment) as process:
        said = _collect(process, name, timeout)
        status = process.wait()
    stdout, stderr = (part.decode("utf-8", "replace") for part in said)
    return Called(status=status, stdout=stdout, stderr=stderr)


@contextmanager
def running(
    argv: Sequence[str],
    env: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is ended with ``with``.

    :raises CallFailed: it can't be started.
    """
    try:
        process = subprocess.Popen(
            argv,
            env=env,
            cwd=os.path.expanduser("~"),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    except OSError as error:
        raise CallFailed(f"{argv[0]} can't be started: {(error.strerror or str(error)).lower()}") from None
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process with its group, and let go of its pipes. What it left in its group ends too, if itself is gone."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    group = group_of(process.pid)
    group.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDING_S)
    group.kill()
    process.wait()


def _collect(process: subprocess.Popen[bytes], name: str, timeout: float) -> tuple[bytes, bytes]:
    """Both outputs, until they end; or until the process has, if something that it left behind holds them open."""
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + timeout
    said: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    arrivals, still_open = arriving(*said), len(said)
    while still_open or process.poll() is None:
        if time.monotonic() > deadline:
            raise CallFailed(f"{name} did not end within {timeout:g} s")
        try:
            pipe, piece = arrivals.get(timeout=POLL_S)
        except queue.Empty:
            if process.poll() is not None:
                break
            continue
        still_open -= not piece
        said[pipe] += piece
        if sum(map(len, said.values())) > SAID_MOST:
            raise CallFailed(f"{name} said more than {SAID_MOST} bytes")
    return bytes(said[process.stdout]), bytes(said[process.stderr])


Arrivals = queue.Queue[tuple[IO[bytes], bytes]]
WAITING = 16
"""Pieces that wait to be looked at: what says more than is read has to wait itself."""


def arriving(*pipes: IO[bytes]) -> Arrivals:
    """What comes in pipes, as it comes, and an empty piece at the end of each. By a thread each: elsewhere than on
    POSIX nothing else waits for pipes. A thread ends with its pipe's last writer."""
    arrivals: Arrivals = queue.Queue(WAITING)
    for pipe in pipes:
        threading.Thread(target=_read, args=(pipe, arrivals), daemon=True).start()
    return arrivals


def _read(pipe: IO[bytes], arrivals: Arrivals) -> None:
    piece = b"all"
    while piece:
        try:
            piece = os.read(pipe.fileno(), 65536)
        except (OSError, ValueError):
            piece = b""  # we closed it
        if not _handed_on(pipe, piece, arrivals):
            return


def _handed_on(pipe: IO[bytes], piece: bytes, arrivals: Arrivals) -> bool:
    """Wait until there is room; False: nobody takes anything any more."""
    while not pipe.closed:
        try:
            arrivals.put((pipe, piece), timeout=POLL_S)
        except queue.Full:
            continue
        return True
    return False
