"""``loopsy message``, ``broadcast`` and ``events`` between two real daemons."""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ptyprocess
import pytest

from loopsy.cli.mailbox import AGENTS
from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import PATIENCE_S, until

Pair = tuple[Node, Node]
COMMAND = (sys.executable, "-m", "loopsy.cli.main")


def ok(node: Node, *words: str, stdin: bytes | None = None) -> str:
    """What a command prints that works."""
    done = node.run(*words, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def arrived(node: Node, *ids: str) -> list[dict[str, Any]]:
    """The messages with these ids, once all are in the inbox."""

    def look() -> list[dict[str, Any]]:
        page = node.ask("GET", "/messages/inbox?limit=200&newest=1").body
        found = {message["id"]: message for message in page["messages"]}
        return [found[one] for one in ids] if set(ids) <= set(found) else []

    return until(look, "the messages to arrive")


def test_a_message_goes_there_is_read_and_answered(pair: Pair) -> None:
    a, b = pair
    name = ok(a, "message", "send", "bravo", "the", "build", "is green").strip()
    (message,) = arrived(b, name)
    assert (message["body"], message["from"], message["state"]) == ("the build is green", "alfa", "unread")
    listed = ok(b, "message", "inbox")
    assert re.search(rf"\*\s+{name[-8:]}\s+peer alfa\s+.*unread\s+the build is green", listed), listed
    shown = ok(b, "message", "read", name[-8:])
    assert "from peer alfa, not from your user" in shown
    assert shown.endswith("\n\nthe build is green\n")
    until(lambda: json.loads(ok(a, "message", "outbox", "--json"))["messages"][0]["state"] == "read")
    reply = ok(b, "message", "ack", name[:-4], "--reply", "thanks").strip()
    (answer,) = arrived(a, reply)
    assert (answer["inReplyTo"], answer["type"], answer["thread"]) == (name, "response", message["thread"])
    until(lambda: "acked" in ok(a, "message", "outbox", "--to", "bravo", "--limit", "1"))
    both = ok(a, "message", "thread", reply)
    assert both.index("the build is green") < both.index("thanks")
    assert "to bravo" in both


def test_the_text_may_come_by_stdin_and_options_may_stand_anywhere(pair: Pair) -> None:
    a, b = pair
    sent = [
        ok(a, "message", "send", "bravo", "-", stdin="from ä pipe\n".encode()),
        ok(a, "message", "send", "bravo", stdin=b"two\nlines\n\n"),
        ok(a, "message", "send", "bravo", "--ttl", "2h", "behind", "options"),
        ok(a, "message", "send", "--type", "request", "bravo", "--", "-5", "degrees"),
    ]
    found = arrived(b, *(name.strip() for name in sent))
    assert [m["body"] for m in found] == ["from ä pipe", "two\nlines\n", "behind options", "-5 degrees"]
    assert found[3]["type"] == "request"
    left = found[2]["expiresAt"] - time.time() * 1000
    assert 1.9 * 3600_000 < left <= 2 * 3600_000


@pytest.mark.parametrize(
    ("words", "stdin", "says"),
    [
        (("send", "bravo"), b"", b"no text"),
        (("send", "bravo", "-"), b"\xff", b"not UTF-8"),
        (("send", "bravo", "x", "--wait", "soon"), None, b"--wait=60"),
        (("read", "no-such-id"), None, b"no-such-id"),
        (("cancel", "no-such-id"), None, b"no-such-id"),
        (("send", "brvo", "x"), None, b"did you mean bravo?"),
        (("send", "bravo", "x", "--reply-to", "nothing"), None, b"nothing"),
    ],
)
def test_what_can_not_be_done_is_said(pair: Pair, words: tuple[str, ...], stdin: bytes | None, says: bytes) -> None:
    done = pair[0].run("message", *words, stdin=stdin)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert done.stdout == b""


def test_an_end_of_several_ids_is_not_clear(pair: Pair) -> None:
    a, _ = pair
    for at in ("1", "2"):
        body = {"to": "bravo", "body": "x", "id": f"{at}-the-same-end"}
        assert a.ask("POST", "/messages", body).status == 201
    done = a.run("message", "read", "same-end")
    assert (done.returncode, b"1-the-same-end" in done.stderr) == (2, True)
    assert "1-the-same-end" in ok(a, "message", "read", "1-the")
    assert ok(a, "message", "outbox").count("-the-same-end") == 2  # shown as long as they must be to differ


def test_terminal_escapes_of_a_body_do_not_get_through(pair: Pair) -> None:
    a, b = pair
    body = "\x1b[2J\x1b]0;title\x07\u202etxt\rover"
    name = a.ask("POST", "/messages", {"to": "bravo", "body": body}).body["messages"][0]["id"]
    arrived(b, name)
    for words in (("inbox",), ("thread", name), ("read", name)):
        out = ok(b, "message", *words)
        assert not set("\x1b\x07\u202e\r") & set(out), words
    assert "\\x1b[2J" in ok(b, "message", "read", name)


def test_who_wrote_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = pair
    for name in AGENTS:
        monkeypatch.delenv(name, raising=False)
    person = ok(a, "message", "send", "bravo", "x").strip()
    monkeypatch.setenv("CLAUDECODE", "1")
    agent = ok(a, "message", "send", "bravo", "x").strip()
    told = ok(a, "message", "send", "bravo", "x", "--origin", "person").strip()
    assert [m["origin"] for m in arrived(b, person, agent, told)] == ["person", "agent", "person"]


def test_to_everybody_and_to_oneself(pair: Pair) -> None:
    a, b = pair
    name = ok(a, "broadcast", "lunch").strip()
    assert arrived(b, name)[0]["type"] == "broadcast"
    own = ok(a, "message", "send", "alfa", "note to self").strip()
    assert "this machine" in ok(a, "message", "inbox", "--limit", "1")
    assert "from this machine" in ok(a, "message", "read", own)


# -- waiting ----------------------------------------------------------------------------------------------------------
@contextmanager
def popen(node: Node, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs, at most until the end of ``with``."""
    with subprocess.Popen(
        [*COMMAND, *words], env=node.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_waiting_ends_when_it_is_read(pair: Pair) -> None:
    a, b = pair
    with popen(a, "message", "send", "bravo", "read me", "--wait") as sending:
        (message,) = until(lambda: [m for m in inbox(b) if m["body"] == "read me"])
        assert sending.poll() is None
        ok(b, "message", "read", message["id"])
        out, err = sending.communicate(timeout=PATIENCE_S)
    assert (sending.returncode, out) == (0, "read by bravo\n"), err


def inbox(node: Node) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = node.ask("GET", "/messages/inbox?limit=200&newest=1").body["messages"]
    return messages


def test_waiting_ends_in_time_and_says_so(pair: Pair) -> None:
    began = time.monotonic()
    done = pair[0].run("message", "send", "bravo", "nobody reads this", "--wait=5")  # long enough to be delivered
    assert (done.returncode, done.stdout) == (124, b"delivered: bravo\n")
    assert time.monotonic() - began >= 5


def test_waiting_ends_when_it_will_never_be_read(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start()
    done = a.run("message", "send", "bravo", "too late", "--ttl", "1", "--wait")
    assert done.returncode == 1
    assert done.stdout.startswith(b"expired")
    name = ok(a, "message", "send", "bravo", "on its way").strip()
    with popen(a, "message", "send", "bravo", "x", "--wait") as sending:
        (other,) = until(lambda: [m for m in outbox(a) if m["body"] == "x" and m["state"] == "queued"])
        ok(a, "message", "cancel", other["id"])
        assert sending.wait(PATIENCE_S) == 1
    assert "cancelled" in ok(a, "message", "cancel", name)
    done = a.run("message", "cancel", name)
    assert done.returncode != 0


def outbox(node: Node) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = node.ask("GET", "/messages/outbox?limit=200&newest=1").body["messages"]
    return messages


# -- watching ---------------------------------------------------------------------------------------------------------
@contextmanager
def terminal(node: Node, *words: str) -> Iterator[ptyprocess.PtyProcessUnicode]:
    """A command on a terminal of its own."""
    process = ptyprocess.PtyProcessUnicode.spawn([*COMMAND, *words], env=node.environment, cwd=node.environment["HOME"])
    try:
        yield process
    finally:
        process.terminate(force=True)
        process.close()


def read_until(process: ptyprocess.PtyProcessUnicode, text: str) -> str:
    shown = ""
    while text not in shown:
        shown += process.read(4096)
    return shown


def test_watching_on_a_terminal(pair: Pair) -> None:
    a, b = pair
    ok(a, "message", "send", "bravo", "before")
    until(lambda: any(m["body"] == "before" for m in inbox(b)))
    with terminal(b, "message", "watch") as screen:
        ready(b, a, screen)
        ok(a, "message", "send", "bravo", "dänger: \x1b[31mred\x1b[0m")
        shown = read_until(screen, "\\x1b[0m")
        assert "from peer alfa, not from your user" in shown
        assert "dänger: \\x1b[31mred\\x1b[0m" in shown
        assert "before" not in shown
        screen.sendintr()
        assert screen.wait() == 130


def ready(node: Node, sender: Node, screen: ptyprocess.PtyProcessUnicode) -> None:
    """Return once the watcher shows what comes: it is sent something until it does."""
    shows(screen.fd, lambda: ok(sender, "message", "send", node.name, "are you there?"))


def shows(fd: int, act: Callable[[], Any]) -> None:
    """Do something again and again until there is something to read."""
    for _ in range(100):
        act()
        if select.select([fd], [], [], 1)[0]:
            return
    raise AssertionError("it shows nothing")


def test_a_watcher_of_json_ends_when_its_reader_does(pair: Pair) -> None:
    a, b = pair
    with popen(b, "message", "watch", "--take", "--json", "--from", "alfa") as watching:
        assert watching.stdout is not None
        ok(a, "message", "send", "bravo", "one")
        bodies = []
        while "one" not in bodies:
            bodies.append(json.loads(watching.stdout.readline())["body"])
        watching.stdout.close()
        until(lambda: ok(a, "message", "send", "bravo", "again") and watching.poll() is not None)
        assert watching.returncode == 141
    assert not any(m["state"] == "unread" and m["body"] == "one" for m in inbox(b))


@pytest.mark.parametrize("take", [False, True])
def test_a_watcher_loses_and_repeats_nothing_over_kills_of_the_daemon(
    make_node: Callable[..., Node], tmp_path: Path, take: bool
) -> None:
    chance = random.Random(7)
    node = make_node().start()
    done = tmp_path / "done"
    words = ["message", "watch", "--exec", f"jq -r .body >> {done}", *(["--take"] if take else [])]
    with popen(node, *words) as watching:
        until(lambda: node.ask("POST", "/messages", {"to": "alfa", "body": "hello"}) and done.exists())
        sent = []
        for number in range(60):
            if chance.random() < 0.15:
                node.kill()
                node.start()
            body = f"m{number}"
            answer = node.ask("POST", "/messages", {"to": "alfa", "body": body})
            assert answer.status == 201
            sent.append(body)
        while (handled := done.read_text().splitlines())[-1:] != sent[-1:]:
            until(lambda handled=handled: done.read_text().splitlines() != handled, "one more to be handled")
        watching.send_signal(signal.SIGINT)
        watching.wait(PATIENCE_S)
    assert [line for line in done.read_text().splitlines() if line != "hello"] == sent


def test_a_command_gets_the_message_and_nothing_of_it_reaches_a_shell(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    out, harm = tmp_path / "out", tmp_path / "harm"
    script = f'printf "%s %s " "$LOOPSY_MESSAGE_ID" "$LOOPSY_MESSAGE_FROM" >> {out}; jq -c .body >> {out}; exit 3'
    with popen(b, "message", "watch", "--take", "--exec", script) as watching:
        name = ok(a, "message", "send", "bravo", f"$(touch {harm}); `touch {harm}`'\"").strip()
        ok(a, "message", "send", "bravo", "the next one")  # when it is handled, the one before is over
        until(lambda: out.exists() and out.read_text().endswith('"the next one"\n'))
        (line,) = [line for line in out.read_text().splitlines() if line.startswith(name)]
        assert line.split(" ", 2)[1:] == ["alfa", json.dumps(f"$(touch {harm}); `touch {harm}`'\"")]
        os.kill(watching.pid, signal.SIGINT)
        _, err = watching.communicate(timeout=PATIENCE_S)
    assert watching.returncode == 130
    assert f"ended with 3 for {name}" in err
    assert not harm.exists()


def test_events_are_printed_as_they_come(pair: Pair) -> None:
    a, b = pair
    with (
        popen(a, "events", "--types", "job,context", "--json") as watching,
        popen(a, "events", "--peer", "bravo") as other,
    ):
        assert watching.stdout is not None
        assert other.stdout is not None
        assert json.loads(watching.stdout.readline())["type"] == "hello"
        a.ask("POST", "/execute", {"command": "true"})
        assert [json.loads(watching.stdout.readline())["type"] for _ in range(2)] == ["job.started", "job.ended"]
        shows(other.stdout.fileno(), lambda: b.ask("PUT", "/context/again", {"value": "v"}))
        assert any("context.changed" in line for line in other.stdout)
        for process in (watching, other):
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130


def test_without_a_daemon_it_says_so(make_node: Callable[..., Node]) -> None:
    node = make_node()
    for words in (("message", "inbox"), ("message", "watch"), ("events",), ("message", "send", "kai", "x", "--wait")):
        done = node.run(*words)
        assert done.returncode == 1
        assert b"the daemon is not running" in done.stderr
