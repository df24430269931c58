"""``exec -i``: a command's standard input through two daemons, byte for byte and at anybody's pace."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from loopsy.testing.nodes import Node
from tests.integration.conftest import until
from tests.integration.old_node import OldNode
from tests.integration.terminal_actors import rss_mb

Pair = tuple[Node, Node]
BIG = 100_000_000
TIME_S = 300.0
"""Far more than any run takes, on a busy machine too: only one that hangs meets it."""


def start(node: Node, *argv: str, **pipes: Any) -> subprocess.Popen[bytes]:
    """The real command, running."""
    command = [sys.executable, "-m", "loopsy.cli.main", "exec", *argv]
    return subprocess.Popen(command, env=node.environment, cwd=node.environment["HOME"], **pipes)


def jobs(node: Node) -> list[Any]:
    """What runs there."""
    found: list[Any] = node.ask("GET", "/execute/jobs").body["jobs"]
    return found


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A large file of random bytes."""
    path = tmp_path_factory.mktemp("big") / "file"
    piece = secrets.token_bytes(1_000_000)
    with path.open("wb") as file:
        for number in range(BIG // len(piece)):
            file.write(number.to_bytes(4, "big") + piece[4:])
    yield path
    path.unlink()


@pytest.fixture
def yes() -> Iterator[IO[bytes]]:
    """Input without end."""
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout
        process.kill()


def digest(file: IO[bytes]) -> str:
    """Of all that comes."""
    found = hashlib.sha256()
    while data := file.read(1 << 20):
        found.update(data)
    return found.hexdigest()


@pytest.mark.parametrize("where", [".", "bravo"])
def test_both_ways_byte_for_byte_and_flat(pair: Pair, big: Path, where: str) -> None:
    before = [rss_mb(node) for node in pair]
    with big.open("rb") as source:
        process = start(pair[0], "-i", where, "--", "cat", stdin=source, stdout=subprocess.PIPE)
        assert process.stdout is not None
        found = digest(process.stdout)
    assert process.wait(TIME_S) == 0
    with big.open("rb") as source:
        assert found == digest(source)
    assert all(rss_mb(node) - then < 15 for node, then in zip(pair, before, strict=True))


def test_a_tree_through_tar(pair: Pair, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    target.mkdir()
    for number in range(50):
        (source / "sub" / f"file {number}").write_bytes(secrets.token_bytes(number * 1000))
    line = f"tar c . | {sys.executable} -m loopsy.cli.main exec -i bravo -- tar x -C {target}"
    environment = {**pair[0].environment, "PYTHONPATH": os.getcwd()}
    subprocess.run(["sh", "-c", line], cwd=source, env=environment, check=True)
    subprocess.run(["diff", "-r", source, target], check=True)


def test_a_command_that_reads_late_or_slowly_gets_all_of_it(pair: Pair, big: Path) -> None:
    """Longer than any of our own time limits for connecting; the pipes between are full meanwhile."""
    with big.open("rb") as source:
        process = start(
            pair[0], "-i", "bravo", "--", "sh", "-c", "sleep 7; sha256sum", stdin=source, stdout=subprocess.PIPE
        )
        said = process.communicate(timeout=TIME_S)[0]
    with big.open("rb") as source:
        assert said.split()[0].decode() == digest(source)


def test_a_reader_here_that_is_slow_gets_all_of_it(pair: Pair) -> None:
    """Also when the command is long over: longer than our goodbye waits."""
    argv = ("-i", "bravo", "--", "head", "-c", "20000000", "/dev/zero")
    process = start(pair[0], *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    time.sleep(8)
    assert len(process.stdout.read()) == 20_000_000
    assert process.wait(TIME_S) == 0


def test_a_command_that_closes_its_input_early(pair: Pair, yes: IO[bytes]) -> None:
    process = start(pair[0], "-i", "bravo", "--", "head", "-1", stdin=yes, stdout=subprocess.PIPE)
    assert process.communicate(timeout=TIME_S)[0] == b"y\n"
    assert process.returncode == 0


def test_one_that_goes_on_after_it_closed_its_input(pair: Pair, big: Path) -> None:
    with big.open("rb") as source:
        argv = ("-i", "bravo", "--", "sh", "-c", "exec 0<&-; sleep 1; echo still here; exit 6")
        process = start(pair[0], *argv, stdin=source, stdout=subprocess.PIPE)
        assert process.communicate(timeout=TIME_S)[0] == b"still here\n"
    assert process.returncode == 6


@pytest.mark.parametrize(
    ("argv", "status", "out"),
    [
        (["bravo", "--", "cat"], 0, b"in"),
        ([".", "sh", "-c", "cat; kill -15 $$"], 143, b"in"),
        (["--env", "A=b", "--cwd", "/", "bravo", "--", "sh", "-c", "echo $A; pwd; cat"], 0, b"b\n/\nin"),
        (["bravo", "--", "sh", "-c", "exit 41"], 41, b""),
        (["--timeout", "1s", "bravo", "--", "sleep", "1000"], 124, b""),
        (["bravo", "--", "no-such-program"], 255, b""),
    ],
)
def test_how_it_ends(pair: Pair, argv: list[str], status: int, out: bytes) -> None:
    answer = pair[0].run("exec", "-i", *argv, stdin=b"in")
    assert (answer.returncode, answer.stdout) == (status, out), answer.stderr
    assert b"Traceback" not in answer.stderr


def test_nothing_as_input(pair: Pair) -> None:
    process = start(pair[0], "-i", "bravo", "wc", "-c", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.communicate(timeout=TIME_S)[0].strip() == b"0"
    closed = f"{sys.executable} -m loopsy.cli.main exec -i bravo wc -c <&-"
    answer = subprocess.run(["sh", "-c", closed], env=pair[0].environment, capture_output=True, check=False)
    assert answer.stdout.strip() == b"0", answer.stderr


@pytest.mark.parametrize("option", [["--json"], ["--detach"], ["--key", "-"]])
def test_what_does_not_go_with_it(pair: Pair, option: list[str]) -> None:
    answer = pair[0].run("exec", "-i", *option, "bravo", "cat")
    assert answer.returncode == 2
    assert b"loopsy:" in answer.stderr
    assert b"Traceback" not in answer.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("reads", ["cat > /dev/null", "sleep 1000"])
def test_a_signal_here_ends_the_job_there(pair: Pair, yes: IO[bytes], number: signal.Signals, reads: str) -> None:
    """Also of a command that doesn't read, so that nothing else would tell its daemon."""
    argv = ("-i", "bravo", "--", "sh", "-c", f"echo begun; {reads}")
    process = start(pair[0], *argv, stdin=yes, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    assert jobs(pair[1])
    process.send_signal(number)
    assert process.wait(TIME_S) == 128 + number
    until(lambda: not jobs(pair[1]))


def test_its_reader_gone_the_job_ends(pair: Pair) -> None:
    argv = ("-i", "bravo", "--", "sh", "-c", "while :; do echo y; done")
    process = start(pair[0], *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(TIME_S) == 141
    until(lambda: not jobs(pair[1]))


def test_an_older_node_says_so(make_node: Callable[..., Node]) -> None:
    with OldNode() as old:
        node = make_node("leo")
        manual = {"address": "127.0.0.1", "port": old.port, "hostname": "kai"}
        auth = {"apiKey": node.key, "allowedKeys": {"kai": "31" * 32}, "peerKeys": {"kai": old.key}}
        node.write_config(auth=auth, discovery={"enabled": False, "manualPeers": [manual]})
        node.start()
        for argv, words in (
            (("exec", "-i", "kai", "cat"), b"standard input"),
            (("shell", "kai", "--list"), b"terminals"),
        ):
            answer = node.run(*argv)
            assert answer.returncode != 0
            assert b"kai runs a version of loopsy without " + words in answer.stderr
