"""The real command against real daemons: in pipes, in a terminal, and in the shells that complete it."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ptyprocess import PtyProcess

from loopsy.cli.main import COMMANDS
from loopsy.testing.nodes import Node
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.machine import COMMAND
from tests.integration.streams import Stream
from tests.integration.test_execution import STUBBORN, alive, both_started

Pair = tuple[Node, Node]
FAMILY = 'echo $$ > "$0"; sh -c \'echo $$ >> "$0"; exec sleep 600\' "$0" & wait'
"""A shell with a child; both end at TERM."""
ACTIONS = {
    "peers": ("list", "add", "remove"),
    "context": ("set", "get", "list", "delete", "export", "import"),
    "key": ("show", "generate"),
}


def run(node: Node, *words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """A command and its pipes; nothing of it is a traceback."""
    done = node.run(*words, **more)
    assert b"Traceback" not in done.stderr
    return done


@contextmanager
def terminal(node: Node, *argv: str, columns: int = 200, env: dict[str, str] | None = None) -> Iterator[PtyProcess]:
    """A program in a terminal of its own."""
    environment = {**node.environment, "TERM": "xterm", **(env or {})}
    process = PtyProcess.spawn(list(argv), env=environment, cwd=environment["HOME"], dimensions=(50, columns))
    try:
        yield process
    finally:
        process.close(force=True)


def shown(process: PtyProcess) -> str:
    """All that a program writes until it ends."""
    data = b""
    with suppress(EOFError):
        while True:
            data += process.read(65536)
    process.wait()
    return data.decode()


# -- help, JSON, errors -----------------------------------------------------------------------------------------------
def test_every_command_helps_with_an_example(pair: Pair) -> None:
    commands = [[name] for name in COMMANDS]
    for words in commands + [[name, action] for name, actions in ACTIONS.items() for action in actions]:
        done = run(pair[0], *words, "--help")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"usage: loopsy " + " ".join(words).encode())
        assert b"\nexample:\n  " in done.stdout


def test_all_that_read_speak_json(pair: Pair) -> None:
    a, b = pair
    run(a, "context", "set", "k", "v")
    asked = {
        "status": "nodeId", "reload": "applied", "doctor": "checks", "key show": "key", "peers": "peers",
        "peers list": "peers", "jobs": "jobs", "jobs bravo": "jobs", "context list": "entries", "context get k": "key",
        "context set k w --peer bravo": "fromNodeId", "context list --peer bravo": "entries",
        "context delete k --peer bravo": "success", "logs --verify": "lines",
        "peers add 127.0.0.1:9 --name x": "nodeId", "peers remove x": "success",
    }  # fmt: skip
    for words, member in asked.items():
        done = run(a, *words.split(), "--json")
        assert member in json.loads(done.stdout), words
        assert done.returncode == (0 if words != "doctor" else done.returncode)
    result = run(a, "exec", "--json", "bravo", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert result.returncode == 3
    answer = json.loads(result.stdout)
    assert (answer["exitCode"], answer["stdout"], answer["stderr"]) == (3, "out\n", "err\n")
    assert all(json.loads(line)["seq"] for line in run(a, "logs", "--json").stdout.splitlines())
    job = json.loads(run(a, "exec", "--json", "--detach", "bravo", "sleep", "600").stdout)["jobId"]
    assert json.loads(run(a, "jobs", "cancel", job, "--peer", "bravo", "--json").stdout)["success"] is True
    until(lambda: b.ask("GET", "/execute/jobs").body == {"jobs": []})


@pytest.mark.parametrize(
    ("words", "status", "message", "hint"),
    [
        ("staus", 2, "there is no command 'staus'", "did you mean status"),
        ("contxt list", 2, "there is no command 'contxt'", "did you mean context"),
        ("status --loud", 2, "unrecognized arguments: --loud", "see: loopsy status --help"),
        ("peers add", 2, "the following arguments are required: address", "see: loopsy peers add --help"),
        ("context set k v --ttl soon", 2, "'soon' is not a duration", "see: loopsy context set --help"),
        ("exec bravo", 2, "what should run on bravo?", "loopsy exec bravo <command>"),
        ("exec --timeout x bravo ls", 2, "'x' is not a duration", "see: loopsy exec --help"),
        ("context get nothing", 1, "nothing", None),
        ("context get k --peer brvo", 1, "no peer is called 'brvo'", "did you mean bravo?"),
        ("peers remove brvo", 1, "no peer is called 'brvo'", "did you mean bravo?"),
        ("jobs cancel none", 1, "none", None),
        ("init", 1, "is there already", "loopsy init --force"),
        ("context import /nonexistent", 1, "/nonexistent can't be read", None),
        ("exec brvo ls", 255, "no peer is called 'brvo'", "did you mean bravo?"),
        ("exec bravo no-such-program", 255, "no-such-program", None),
        ("exec bravo rm x", 255, "denylist", None),
        ("exec --cwd /nonexistent bravo ls", 255, "cwd", None),
    ],
)
def test_an_error_is_one_line_a_hint_and_a_status(
    pair: Pair, words: str, status: int, message: str, hint: str | None
) -> None:
    done = run(pair[0], *words.split())
    assert (done.returncode, done.stdout) == (status, b"")
    first, *rest = done.stderr.decode().splitlines()
    assert first.startswith("loopsy: ")
    assert message in first
    assert all(line.startswith("  ") for line in rest)
    assert hint is None or hint in rest[0]


# -- exec -------------------------------------------------------------------------------------------------------------
def test_bytes_pass_exactly_through_pipes(pair: Pair, tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    (tmp_path / "random").write_bytes(data)
    script = f"cat {tmp_path}/random; head -c 1000000 {tmp_path}/random >&2"
    done = pair[0].run("exec", "bravo", "sh", "-c", script)
    assert (done.returncode, done.stdout == data, done.stderr == data[:1_000_000]) == (0, True, True)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -TERM $$"), 128 + signal.SIGTERM),
        (("sh", "-c", "kill -9 $$"), 128 + signal.SIGKILL),
        (("--timeout", "300ms", "sleep", "600"), 124),
    ],
)
def test_the_status_is_the_commands(pair: Pair, words: tuple[str, ...], status: int) -> None:
    done = run(pair[0], "exec", "bravo", *words)
    assert done.returncode == status
    assert done.stderr == (b"loopsy: timed out after 300ms\n" if status == 124 else b"")


def test_a_daemon_that_is_not_there_is_255(pair: Pair, tmp_path: Path) -> None:
    lonely = Node(tmp_path / "lonely", "lonely")
    lonely.write_config()
    done = run(lonely, "exec", "bravo", "ls")
    assert done.returncode == 255
    assert done.stderr.splitlines()[1] == b"  start it with: loopsy start"


def test_options_of_the_command_need_no_dashes_before_them(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "--json").touch()
    with_dashes = run(pair[0], "exec", "bravo", "--", "ls", "-la", str(tmp_path))
    assert run(pair[0], "exec", "bravo", "ls", "-la", str(tmp_path)).stdout == with_dashes.stdout
    assert b" --json\n" in with_dashes.stdout
    assert run(pair[0], "exec", "bravo", "echo", "--json", "--", "-x").stdout == b"--json -- -x\n"


def test_a_reader_that_leaves_ends_it_there(pair: Pair) -> None:
    a, b = pair
    process = subprocess.Popen([*COMMAND, "exec", "bravo", "yes"], env=a.environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()
    assert process.wait(60) == 141
    until(lambda: b.ask("GET", "/execute/jobs").body == {"jobs": []})


def test_ctrl_c_cancels_it_there(pair: Pair, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with terminal(pair[0], *COMMAND, "exec", "bravo", "sh", "-c", FAMILY, str(pids)) as process:
        until(lambda: both_started(pids))
        process.sendintr()
        assert "Traceback" not in shown(process)
        assert (process.exitstatus, process.signalstatus) == (130, None)
    until(lambda: not alive(pids), "the end of what it started")


def test_a_second_ctrl_c_does_not_wait_for_one_that_ignores_term(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    assert b.process is not None
    pids = tmp_path / "pids"
    before = b.layout.audit.read_text().count('"DELETE"')
    with terminal(a, *COMMAND, "exec", "bravo", "sh", "-c", f"echo up\n{STUBBORN}", str(pids)) as process:
        assert read_until(process, "up")  # before that, the command does not know what it is to cancel
        until(lambda: both_started(pids))
        process.sendintr()
        until(lambda: b.layout.audit.read_text().count('"DELETE"') > before, "the cancel to arrive")
        b.process.send_signal(signal.SIGSTOP)  # KILL does not come before all below has been looked at
        try:
            assert process.isalive()
            process.sendintr()
            shown(process)
            assert process.exitstatus == 130
            assert alive(pids)  # TERM did nothing
        finally:
            b.process.send_signal(signal.SIGCONT)
    until(lambda: not alive(pids))


# -- a terminal obeys nobody else -------------------------------------------------------------------------------------
EVIL = "x\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\r\x08y"


def test_no_text_of_others_moves_the_cursor(make_node: Any) -> None:
    key = "ca" * 32
    node = make_node(auth={"allowedKeys": {"kai": key}}).start()
    identity = {"nodeId": EVIL, "hostname": EVIL, "platform": EVIL, "version": EVIL, "port": 9}
    assert node.ask("POST", "/peers/handshake", identity, key=node.key).status == 200
    assert node.ask("PUT", "/context/k", {"value": EVIL}, key=key).status == 200
    node.ask("GET", "/context/%1b%5b2J%c2%9b31m", key=key, headers={"x-loopsy-node-id": "\x9b31m"})
    node.ask("POST", "/execute", {"command": EVIL}, key=key)
    stream = Stream(node, "/execute/stream", {"command": "sh", "args": ["-c", "exec sleep 600", EVIL]})
    told = ["peers", "status", "doctor", "context list", "context get k", "jobs", "logs", "logs --json"]
    told += ["peers --json", "status --json", "context get k --json", "jobs --json"]
    told += [f"exec {EVIL}! ls", "context get \x1b[2J"]
    for words in told:
        with terminal(node, *COMMAND, *words.split(" ")) as process:
            text = shown(process)
        assert text.strip()
        wrong = {c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c not in "\r\n\t"}
        assert not wrong, (words, text)
        assert text.count("\r") == text.count("\r\n"), words
    stream.close()
    assert EVIL.encode() == node.run("context", "get", "k").stdout  # into a pipe it is the value itself


# -- completion -------------------------------------------------------------------------------------------------------
@pytest.fixture
def on_path(pair: Pair, tmp_path: Path) -> dict[str, str]:
    """``loopsy`` as a command of that name, and a shell without anybody's start-up files."""
    script = tmp_path / "bin" / "loopsy"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m loopsy.cli.main "$@"\n')
    script.chmod(0o755)
    home = tmp_path / "empty"
    home.mkdir()
    return {"PATH": f"{script.parent}:{os.environ['PATH']}", "HOME": str(home), "ZDOTDIR": str(home)}


SHELLS = {
    "bash": (("bash", "--norc", "--noprofile", "-i"), ""),
    "zsh": (("zsh", "-f", "-i"), "autoload -U compinit; compinit -D; "),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_commands_and_peers(pair: Pair, on_path: dict[str, str], shell: str) -> None:
    argv, before = SHELLS[shell]
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    with terminal(pair[0], *argv, env=on_path) as process:
        process.write(f'PS1="> "; {before}eval "$(loopsy completion {shell})"; echo rea"dy"\n'.encode())
        assert read_until(process, "ready")
        for typed, completed in (("stat", "status"), ("exec brav", "exec bravo"), ("context ex", "context export")):
            tab(process, f"loopsy {typed}", f"loopsy {completed}")


def tab(process: PtyProcess, typed: str, completed: str) -> None:
    """Type, and press Tab: again, where a busy daemon did not tell its names in the half second that is waited."""
    end = time.monotonic() + PATIENCE_S
    while True:
        process.write(f"\x15{typed}\t".encode())
        if read_until(process, completed, 10):
            return
        assert time.monotonic() < end, f"{completed} is not shown"


def read_until(process: PtyProcess, text: str, quiet_s: float = PATIENCE_S) -> bool:
    """Until the terminal has shown it, or nothing more for so long; what moves the cursor is not text."""
    seen = ""
    while text not in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\x07|.\x08", "", seen):
        if not select.select([process.fd], [], [], quiet_s)[0]:
            return False
        seen += process.read(1024).decode("utf-8", "replace")
    return True


def test_fish_completes_commands_and_peers(pair: Pair, on_path: dict[str, str]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish here")

    def completed(line: str) -> list[str]:
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"loopsy completion fish | source; complete -C '{line}'"],
            env={**pair[0].environment, **on_path},
            capture_output=True,
            timeout=2 * PATIENCE_S,
            check=True,
        )
        return [row.split("\t")[0].strip() for row in done.stdout.decode().splitlines()]

    assert completed("loopsy stat") == ["status"]
    until(lambda: completed("loopsy exec brav") == ["bravo"])  # a busy daemon may take longer than the command waits
    assert completed("loopsy context ex") == ["export"]
