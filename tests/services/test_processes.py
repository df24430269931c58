"""Processes: real ones, in the real reactor."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from loopsy.errors import CommandFailedToStart
from loopsy.services import processes
from loopsy.services.processes import Command, ProcessGroup, Receiver, spawn
from tests.waiting import until

ensure_deferred = pytest_twisted.ensureDeferred


class Seen(Receiver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.ends: list[int] = []

    def out(self, data: bytes) -> None:
        assert not self.ends
        self.stdout += data

    def err(self, data: bytes) -> None:
        assert not self.ends
        self.stderr += data

    def ended(self, status: int) -> None:
        self.ends.append(status)


Start = Callable[..., Coroutine[Any, Any, tuple[ProcessGroup, Seen]]]


@pytest_twisted.async_yield_fixture
async def start() -> AsyncIterator[Start]:
    pool = ThreadPool(0, 20, "test-processes")
    pool.start()
    started: list[tuple[ProcessGroup, Seen]] = []

    async def start(
        *argv: str, cwd: str | None = None, env: dict[str, str] | None = None, **more: bool
    ) -> tuple[ProcessGroup, Seen]:
        seen = Seen()
        group = await spawn(reactor, pool, Command(argv=argv, cwd=cwd, env=env or dict(os.environ), **more), seen)
        started.append((group, seen))
        return group, seen

    yield start
    try:
        for group, seen in started:
            group.kill()
            await until(lambda seen=seen: seen.ends)
            assert len(seen.ends) == 1, "ended must be told exactly once"
    finally:
        pool.stop()


def sh(script: str) -> tuple[str, str, str]:
    return "/bin/sh", "-c", textwrap.dedent(script)


def python(script: str) -> tuple[str, str, str]:
    return sys.executable, "-c", textwrap.dedent(script)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grace between TERM and KILL is five seconds; here nobody has the time."""
    monkeypatch.setattr(processes, "KILL_GRACE_S", 0.2)
    monkeypatch.setattr(processes, "AFTER_KILL_S", 0.2)
    monkeypatch.setattr(processes, "AFTER_LEADER_S", 0.2)


# -- input ------------------------------------------------------------------------------------------------------------
@ensure_deferred
async def test_what_is_written_arrives_whole_and_then_the_end(start: Start) -> None:
    group, seen = await start(*sh("sleep 0.1; cat; echo end"), has_input=True)
    data = random.Random(3).randbytes(1_000_000)
    group.write(data[:10])
    group.write(data[10:])
    assert group.unread == len(data)
    group.close_input()
    await until(lambda: seen.ends)
    assert (seen.ends, seen.stdout) == ([0], data + b"end\n")
    assert group.unread == 0


@ensure_deferred
async def test_writing_to_one_that_is_gone_or_takes_nothing_does_no_harm(start: Start) -> None:
    group, seen = await start(*sh("exec <&-; echo closed; sleep 0.3"), has_input=True)
    await until(lambda: seen.stdout)
    group.write(b"x" * 200_000)
    await until(lambda: seen.ends)
    group.write(b"y")
    group.close_input()
    assert seen.ends == [0]


@ensure_deferred
async def test_no_other_child_holds_an_input_open(start: Start) -> None:
    group, seen = await start("cat", has_input=True)
    await start("sleep", "60")
    group.close_input()
    await until(lambda: seen.ends)
    assert seen.ends == [0]


@ensure_deferred
async def test_a_terminal_hands_on_just_what_is_written_to_it(start: Start) -> None:
    group, seen = await start(*sh("test -t 0 && test -t 1 && read line && echo got $line; echo e >&2"), pty=True)
    group.write(b"hello\n")
    await until(lambda: seen.ends)
    assert (seen.ends, bytes(seen.stdout), bytes(seen.stderr)) == ([0], b"got hello\ne\n", b"")


@ensure_deferred
async def test_whose_leader_is_gone_the_rest_goes_too(start: Start, quick: None) -> None:
    _, seen = await start(*sh("sleep 1000 & echo $!"), is_leader=True)
    await until(lambda: seen.ends)
    assert seen.ends == [0]
    await until(lambda: gone(int(seen.stdout)))


# -- output -----------------------------------------------------------------------------------------------------------
@ensure_deferred
async def test_five_megabytes_come_byte_for_byte_and_the_two_outputs_apart(start: Start) -> None:
    _, seen = await start(
        *python("""
        import random, sys
        sys.stderr.write('e' * 70000)
        sys.stdout.buffer.write(random.Random(7).randbytes(5_000_000))""")
    )
    await until(lambda: seen.ends)
    assert seen.ends == [0]
    assert hashlib.sha256(seen.stdout).digest() == hashlib.sha256(random.Random(7).randbytes(5_000_000)).digest()
    assert seen.stderr == b"e" * 70000


@ensure_deferred
async def test_a_paused_child_is_blocked_and_a_resumed_one_goes_on(start: Start, tmp_path: Path) -> None:
    flag = tmp_path / "paused"
    wait = f"while not os.path.exists({str(flag)!r}): time.sleep(0.01)"
    lines = "import os, time", "os.write(1, b'x' * 65536)", wait, "for n in range(79): os.write(1, b'x' * 65536)"
    group, seen = await start(*python("\n".join(lines)))
    await until(lambda: len(seen.stdout) == 65536)
    group.pause()
    flag.touch()
    before = len(seen.stdout)
    for _ in range(3):  # many turns of the reactor
        _, other = await start("true")
        await until(lambda other=other: other.ends)
    assert len(seen.stdout) == before
    assert not gone(group.pid)
    group.resume()
    await until(lambda: seen.ends)
    assert len(seen.stdout) == 80 * 65536


@ensure_deferred
async def test_a_child_that_is_paused_for_ever_can_still_be_ended(start: Start, quick: None) -> None:
    group, seen = await start("yes")
    await until(lambda: seen.stdout)
    group.pause()
    group.end()
    await until(lambda: seen.ends)
    assert seen.ends == [-signal.SIGTERM]


@ensure_deferred
async def test_stdin_is_closed_and_the_environment_is_what_was_given(start: Start, tmp_path: Path) -> None:
    _, seen = await start(*sh("cat; echo $A; pwd"), cwd=str(tmp_path), env={"A": "b c", "PATH": os.environ["PATH"]})
    await until(lambda: seen.ends)
    assert seen.stdout.decode() == f"b c\n{tmp_path}\n"


# -- ends -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 77", 77), ("kill -9 $$", -9), ("kill -15 $$", -15)]
)
@ensure_deferred
async def test_the_status_is_the_exit_code_or_minus_the_signal(start: Start, script: str, status: int) -> None:
    _, seen = await start(*sh(script))
    await until(lambda: seen.ends)
    assert seen.ends == [status]


@ensure_deferred
async def test_a_stubborn_tree_that_holds_our_pipes_is_wholly_gone_after_end(start: Start, quick: None) -> None:
    script = """
        trap '' TERM
        (trap '' TERM; echo $(sh -c 'echo $PPID'); while :; do sleep 60; done) &
        echo $$; wait; while :; do sleep 60; done"""
    group, seen = await start(*sh(script))
    await until(lambda: seen.stdout.count(b"\n") == 2)
    leader = psutil.Process(group.pid)
    await until(lambda: len(leader.children(recursive=True)) >= 2)
    tree = [group.pid, *(child.pid for child in leader.children(recursive=True))]
    group.end()
    group.end()
    await until(lambda: seen.ends)
    assert seen.ends == [-signal.SIGKILL]
    await until(lambda: all(map(gone, tree)))


@ensure_deferred
async def test_a_grandchild_that_holds_no_pipe_and_ignores_term_is_gone_too(start: Start, quick: None) -> None:
    group, seen = await start(*sh("(trap '' TERM; echo x; exec sleep 60) & echo $!; exec sleep 60"))
    await until(lambda: seen.stdout.count(b"\n") == 2)
    detached = [c.pid for c in psutil.Process(group.pid).children()]
    group.end()
    await until(lambda: seen.ends)
    await until(lambda: all(map(gone, detached)))


@ensure_deferred
async def test_what_outlives_its_leader_is_ended_with_it_after_its_grace(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "KILL_GRACE_S", 1000.0)
    script = f"""
        (trap '' TERM; touch {tmp_path}/ready; exec sleep 60) >/dev/null 2>&1 & echo $!
        while [ ! -e {tmp_path}/ready ]; do :; done; echo ready; exec sleep 60"""
    group, seen = await start(*sh(script))
    await until(lambda: b"ready" in seen.stdout)
    survivor = int(seen.stdout.split()[0])
    group.end()
    await until(lambda: gone(group.pid))
    assert not gone(survivor)
    assert not seen.ends
    assert group._next_step is not None
    group._next_step.reset(0)  # its grace is over
    await until(lambda: seen.ends)
    assert seen.ends == [-signal.SIGTERM]
    await until(lambda: gone(survivor))


@ensure_deferred
async def test_a_leader_that_ends_well_leaves_what_it_put_in_the_background(start: Start) -> None:
    _, seen = await start(*sh("sleep 60 >/dev/null 2>&1 & echo $!"))
    await until(lambda: seen.ends)
    background = psutil.Process(int(seen.stdout))
    assert seen.ends == [0]
    background.kill()
    await until(lambda: gone(background.pid))


@ensure_deferred
async def test_whoever_escaped_the_group_with_our_pipes_does_not_hold_up_the_end(start: Start, quick: None) -> None:
    group, seen = await start(
        *python("""
        import os, time
        if os.fork() == 0:
            os.setsid()
            print(os.getpid(), flush=True)
        time.sleep(60)""")
    )
    await until(lambda: seen.stdout.endswith(b"\n"))
    group.end()
    await until(lambda: seen.ends)
    escaped = int(seen.stdout)
    os.kill(escaped, signal.SIGKILL)
    await until(lambda: gone(escaped))


@ensure_deferred
async def test_ending_what_is_over_does_nothing(start: Start) -> None:
    group, seen = await start("true")
    await until(lambda: seen.ends)
    for again in (group.end, group.kill, group.pause, group.resume):
        again()
    assert seen.ends == [0]


@ensure_deferred
async def test_many_at_once_each_end_once(start: Start) -> None:
    all_seen = [(await start(*sh(f"echo {n}; exit {n}")))[1] for n in range(20)]
    for n, seen in enumerate(all_seen):
        await until(lambda seen=seen: seen.ends)
        assert (seen.ends, seen.stdout) == ([n], f"{n}\n".encode())


@ensure_deferred
async def test_no_descriptor_is_left_open(start: Start) -> None:
    def open_now() -> int:
        return psutil.Process().num_fds()

    _, seen = await start("true")
    await until(lambda: seen.ends)
    before = open_now()
    for _ in range(5):
        _, seen = await start("true")
        await until(lambda seen=seen: seen.ends)
        with pytest.raises(CommandFailedToStart):
            await start("/no/such/program")
    await until(lambda: open_now() == before)


@ensure_deferred
async def test_a_start_that_nobody_waits_for_any_more_is_ended() -> None:
    pool, seen = ThreadPool(0, 1, "one"), Seen()
    pool.start()
    try:
        starting = spawn(reactor, pool, Command(argv=["sleep", "60"], cwd=None, env=dict(os.environ)), seen)
        starting.addErrback(lambda _: None)
        starting.cancel()
        await deferToThreadPool(reactor, pool, lambda: None)  # the one thread is free again: the process is gone
        await until(lambda: not reactor.getDelayedCalls())  # type: ignore[attr-defined]
    finally:
        pool.stop()
    assert seen.ends == []


# -- what can't start -------------------------------------------------------------------------------------------------
@ensure_deferred
async def test_what_cannot_be_started_says_why(start: Start, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    (tmp_path / "noshebang").write_text("x")
    (tmp_path / "noshebang").chmod(0o755)
    cases: list[tuple[tuple[str, ...], str | None, str]] = [
        (("no-such-program",), None, "'no-such-program' was not found on that machine"),
        (("/no/such",), None, "'/no/such' was not found on that machine"),
        ((str(tmp_path),), None, f"{str(tmp_path)!r} could not be started: it is a directory"),
        ((str(tmp_path / "plain"),), None, f"{str(tmp_path / 'plain')!r} could not be started: permission denied"),
        ((str(tmp_path / "noshebang"),), None, "could not be started: exec format error"),
        (("true",), "/no/such", "cwd '/no/such': no such file or directory"),
        (("true",), str(tmp_path / "plain"), f"cwd {str(tmp_path / 'plain')!r}: not a directory"),
        (("true", "x" * 3_000_000), None, "'true' could not be started: argument list too long"),
    ]
    for argv, cwd, words in cases:
        with pytest.raises(CommandFailedToStart) as caught:
            await start(*argv, cwd=cwd)
        assert caught.value.message.endswith(words)


@ensure_deferred
async def test_no_descriptors_left_says_so_and_breaks_nothing(start: Start) -> None:
    _, seen = await start("true")
    await until(lambda: seen.ends)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = psutil.Process().num_fds()
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    try:
        for room in range(6):
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + room, hard))
            try:
                _, seen = await start("true")
                await until(lambda seen=seen: seen.ends)
            except CommandFailedToStart as error:
                assert error.message == f"'true' could not be started: {os.strerror(errno.EMFILE).lower()}"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await until(lambda: psutil.Process().num_fds() == before)
    _, seen = await start("true")
    await until(lambda: seen.ends)
