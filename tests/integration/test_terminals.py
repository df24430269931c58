"""Terminals of real daemons, by the real command and by WebSockets: here, and on a peer through the gateway."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from loopsy.services.live_terminals import PATIENCE_S
from loopsy.store import certificate
from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import until
from tests.integration.event_streams import EventStream
from tests.integration.terminal_actors import Person, Seat, is_alive, lines_of_audit, opened, refusal, rss_mb
from tests.integration.test_tls import pinned_pair, serve_tls

Pair = tuple[Node, Node]


def shell_of(pair: Pair, where: str, *more: str) -> Person:
    """The plainest shell on a machine."""
    return Person(pair[0], "shell", where, *more, "--", "env", "PS1=$ ", "/bin/sh", "-i")


def id_of(node: Node, peer: str | None = None) -> str:
    """Of the newest terminal."""
    return str(node.ask("GET", f"{f'/peers/{peer}' if peer else ''}/terminals").body["terminals"][-1]["terminalId"])


# -- one person -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", [".", "bravo"])
def test_a_shell(pair: Pair, where: str) -> None:
    with shell_of(pair, where) as person:
        person.sees("$").types("echo on $((6*7)); tty; stty size\r").sees("on 42").sees("/dev/pts/").sees("24 80")
        person.resizes(100, 30).types('until [ "$(stty size)" = "30 100" ]; do sleep 0.1; done; echo sized-$((1+1))\r')
        person.sees("sized-2")
        person.types("exit 7\r")
        assert person.status() == 7


def test_keys_that_mean_signals_and_job_control(pair: Pair) -> None:
    with Person(pair[0], "shell", "bravo", "--", "env", "PS1=$ ", "/bin/bash", "--norc", "-i") as person:
        person.sees("$").types("sh -c 'trap \"echo got-\\$((1+1)); exit\" INT; ")
        person.types("echo up-$((1+1)); while :; do sleep 1; done'\r").sees("up-2").types(b"\x03").sees("got-2")
        person.types("sh -c 'echo up-$((2+2)); exec sleep 1000'\r").sees("up-4").types(b"\x1a").sees("Stopped")
        person.types('jobs; kill %1; while [ -n "$(jobs -s)" ]; do sleep 0.1; done; echo done-$((1+1))\r')
        person.sees("done-2").types("exit 0\r")
        assert person.status() == 0


def test_the_exit_status_of_a_signal(pair: Pair) -> None:
    with Person(pair[0], "shell", "bravo", "--", "/bin/sh", "-c", "kill -9 $$") as person:
        assert person.status() == 137


def test_the_escape(pair: Pair) -> None:
    with shell_of(pair, "bravo") as person:
        person.sees("$").types("~?").sees("this help").types("echo a~.b\r").sees("a~.b")
        person.types("~~\x15echo left-$((1+2))\r").sees("left-3")
        person.types("\r~.").sees("--attach")
        assert person.status() == 0
    terminal = id_of(pair[0], "bravo")
    with Person(pair[0], "shell", "bravo", "--attach", terminal[:6]) as person:
        person.sees("left-3").types("echo again-$((2+2)); exit 3\r").sees("again-4")
        assert person.status() == 3


def test_a_list_and_a_kill(pair: Pair) -> None:
    mine = opened(pair[0], "sleep", "1000", peer="bravo", title="\x1b]0;evil\x07nap")
    listed = pair[0].run("shell", "bravo", "--list").stdout.decode()
    assert mine["terminalId"][:8] in listed
    assert "\x1b" not in listed
    assert "alfa" in listed
    as_json = json.loads(pair[0].run("shell", "bravo", "--list", "--json").stdout)
    assert mine["terminalId"] in {terminal["terminalId"] for terminal in as_json["terminals"]}
    assert pair[0].run("shell", "bravo", "--kill", mine["terminalId"][:8]).returncode == 0
    until(lambda: not is_alive(mine["pid"]))
    gone = pair[0].run("shell", "bravo", "--kill", "zz")
    assert gone.returncode != 0
    assert b"begins with" in gone.stderr


def test_exec_with_a_terminal(pair: Pair) -> None:
    with Person(
        pair[0], "exec", "-t", "bravo", "--", "sh", "-c", "test -t 0 && test -t 1 && echo yes; exit 4"
    ) as person:
        assert person.status() == 4
        assert b"yes" in person.output
    if shutil.which("top"):
        with Person(pair[0], "exec", "-t", "bravo", "--", "top") as person:
            person.sees("PID").types("q")
            assert person.status() == 0


def test_what_is_left_puts_the_window_back(pair: Pair) -> None:
    with Person(
        pair[0], "exec", "-t", "bravo", "sh", "-c", "printf '\\033[?1049h\\033[?1000h\\033[?25lin'; cat"
    ) as person:
        person.sees("in").types("\r~.")
        assert person.status() == 255
        assert all(
            code in person.output.rpartition(b"in")[2] for code in (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?25h")
        )
    until(lambda: pair[0].ask("GET", "/peers/bravo/terminals").body["terminals"][-1]["status"] == "ended")


def test_a_killed_command_leaves_the_window_usable(pair: Pair) -> None:
    with shell_of(pair, ".") as person:
        person.sees("$")
        before = person.process.getecho()
        person.process.kill(15)
        assert person.status() == 128 + 15
        assert not before


@pytest.mark.parametrize(
    ("argv", "words"),
    [(("shell", "bravo"), b"a terminal needs a terminal"), (("exec", "-t", "bravo", "top"), b"needs a terminal"),
     (("shell", "bravo", "--attach", "x"), b"a terminal needs"), (("shell", "bravo", "--watch"), b"--attach")],
)  # fmt: skip
def test_without_a_terminal_here(pair: Pair, argv: tuple[str, ...], words: bytes) -> None:
    answer = pair[0].run(*argv)
    assert answer.returncode != 0
    assert words in answer.stderr
    assert b"Traceback" not in answer.stderr


def test_htop_on_another_machine(pair: Pair) -> None:
    """It paints with all that a terminal has, and again at another size; what it turned on is turned off."""
    if shutil.which("htop") is None:
        pytest.skip("htop is not installed")
    with Person(pair[0], "exec", "-t", "bravo", "--", "htop", "-d", "50", columns=100) as person:
        person.sees("Load average").sees("F10").types("\x1b[15~")  # F5: as a tree
        person.sees("├─")
        person.resizes(110, 40)
        person.until(lambda: person.display[39].startswith("F1"), "the keys' line, where the last one is now")
        person.types("q")
        assert person.status() == 0
        assert b"\x1b[?1049l" in person.output


# -- several ----------------------------------------------------------------------------------------------------------
VIEWED = {
    "vi": (["vi", "-u", "NONE", "text"], "100 %", ":set number\rG", ":q!\r"),
    "less": (["less", "text"], "line 5", "/line 77\r", "q"),
    "top": (["top", "-b", "-n1"], "PID", "", ""),
}


@pytest.mark.parametrize("program", ["vi", "less"])
@pytest.mark.parametrize("where", [".", "bravo"])
def test_a_late_viewer_sees_the_same(pair: Pair, program: str, where: str) -> None:
    argv, first, keys, leave = VIEWED[program]
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    peer = None if where == "." else where
    home = Path(pair[0 if peer is None else 1].environment["HOME"])
    text = home / "text"
    text.write_text("".join(f"line {n} of 100 % é漢字\n" for n in range(100)))
    terminal = opened(pair[0], *argv, peer=peer, env={"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}, cwd=str(home))
    attach = ("shell", where, "--attach", terminal["terminalId"])
    with Person(pair[0], *attach) as early:
        early.sees(first).types(keys)
        early.sees("line 99" if program == "vi" else "line 77")
        with Person(pair[0], *attach) as late:
            late.sees("line 99" if program == "vi" else "line 77")
            late.until(lambda: (early.read(0), late.display == early.display)[1], "the same display")
            late.until(lambda: (early.read(0), late.cursor == early.cursor)[1], "the same cursor")
            with Person(pair[0], *attach, "--watch") as watcher:
                watcher.until(lambda: (early.read(0), watcher.display == early.display)[1], "the same display")
                watcher.types("dd:q!\r")  # it can't
                late.types(leave)
                assert watcher.status() == 0
            assert early.status() == late.status() == 0


def test_several_viewers(pair: Pair) -> None:
    terminal = opened(pair[0], "cat", peer="bravo")["terminalId"]
    with Seat(pair[0], terminal, "bravo") as one, Seat(pair[0], terminal, "bravo", "mode=watch") as watcher:
        assert one.told == [] or one.told[0]["type"] == "hello"
        one.until(lambda: one.told and one.told[-1] == {"type": "viewers", "count": 2}, "two viewers")
        assert watcher.is_told("hello")["mode"] == "watch"
        assert watcher.told[0]["type"] == "hello"
        assert watcher.told[0]["terminal"]["viewers"] == 2
        one.types(b"hello\r").sees(b"hello\r\nhello")
        watcher.sees(b"hello\r\nhello")
        one.socket.say({"type": "resize", "cols": 33, "rows": 11})
        assert watcher.is_told("resize") == {"type": "resize", "cols": 33, "rows": 11}
        watcher.socket.say({"type": "resize", "cols": 99, "rows": 99})
        watcher.types(b"not me")
        assert watcher.ends() is None
        assert pair[0].ask("GET", f"/peers/bravo/terminals/{terminal}").body["cols"] == 33
        one.until(lambda: one.told[-1] == {"type": "viewers", "count": 1}, "one viewer")
        one.types(b"\x04")
        assert one.ends() == {"type": "exit", "exitCode": 0, "signal": None}
    with Seat(pair[0], terminal, "bravo") as late:
        assert late.ends()["exitCode"] == 0
        assert b"hello" in late.output


def test_it_survives_its_viewers(pair: Pair) -> None:
    terminal = opened(pair[0], "sh", "-c", "read a; echo got-$a; read b; exit $b", peer="bravo")["terminalId"]
    first = Seat(pair[0], terminal, "bravo")
    first.socket._socket.close()  # without a word
    with Seat(pair[0], terminal, "bravo") as second:
        second.types(b"one\r").sees(b"got-one")
    with Seat(pair[0], terminal, "bravo") as third:
        third.sees(b"got-one").types(b"9\r")
        assert third.ends()["exitCode"] == 9


def test_questions_are_not_asked_again_of_who_comes_later(node: Node) -> None:
    """Their answers would be typed into the program."""
    terminal = opened(node, "sh", "-c", "printf 'a\\033[6nb'; cat")["terminalId"]
    with Seat(node, terminal) as first:
        first.sees(b"a\x1b[6nb")
        with Seat(node, terminal) as second:
            second.sees(b"ab")
            assert b"\x1b[6n" not in second.output
    node.ask("DELETE", f"/terminals/{terminal}")


# -- pace and memory --------------------------------------------------------------------------------------------------
def settled_mb(node: Node) -> float:
    """What its daemon takes, once that grows no more."""
    found = [rss_mb(node)]

    def still() -> bool:
        time.sleep(1)
        found.append(rss_mb(node))
        return found[-1] - found[-2] < 0.5

    until(still, "memory that grows no more")
    return found[-1]


def test_a_viewer_that_does_not_read_costs_no_memory(pair: Pair) -> None:
    a, b = pair
    terminal = opened(a, "yes", "x" * 200, peer="bravo")["terminalId"]
    with Seat(a, terminal, "bravo") as stuck, Seat(a, terminal, "bravo", "mode=watch") as watcher:
        stuck.sees(b"xxx")
        before = settled_mb(a), settled_mb(b)
        watcher.until(
            lambda: [words for words in watcher.told if words["type"] == "skipped"] or len(watcher.output) > 5e7
        )
        time.sleep(3)  # nobody reads now: whatever is going to pile up piles up
        after = rss_mb(a), rss_mb(b)
        assert all(now - then < 12 for now, then in zip(after, before, strict=True)), (before, after)
        assert a.ask("GET", "/peers/bravo/health").status == 200
    b.ask("DELETE", f"/terminals/{terminal}")


PRINTING = """
import os, time
longest = 0.0
while True:
    began = time.monotonic()
    os.write(1, b"x" * 4000)
    took = time.monotonic() - began
    if took > longest:
        longest = took
        open("longest.new", "w").write(str(longest))
        os.rename("longest.new", "longest")
"""
"""It writes down how long, in seconds, it was held back at most: once it goes on."""


def test_a_slow_writer_holds_the_program_back_but_not_for_ever(node: Node) -> None:
    """The program's own clock tells: a busy machine makes the wait longer, never shorter."""
    terminal = opened(node, sys.executable, "-c", PRINTING)
    longest = Path(node.environment["HOME"]) / "longest"
    with Seat(node, terminal["terminalId"]) as stuck:
        stuck.sees(b"xxx")
        until(lambda: longest.exists() and float(longest.read_text()) > PATIENCE_S / 2, "held back, and going on")
        stuck.is_told("skipped")
    node.ask("DELETE", f"/terminals/{terminal['terminalId']}")


def test_typing_that_nobody_takes_is_bounded(node: Node) -> None:
    terminal = opened(node, "sh", "-c", "stty raw -echo; echo ready; sleep 1000")["terminalId"]
    with Seat(node, terminal) as seat:
        seat.sees(b"ready")
        before = rss_mb(node)

        def held() -> bool:
            """Whether nothing of what is to be sent was taken for a second."""
            while len(seat.socket.waiting) < 2_000_000:
                seat.socket.send(b"k" * 500_000)
            left = len(seat.socket.waiting)
            end = time.monotonic() + 1
            while time.monotonic() < end:
                seat.socket.flush()
                time.sleep(0.01)
            return len(seat.socket.waiting) == left

        until(held, "that no more is taken")
        assert rss_mb(node) - before < 12
    node.ask("DELETE", f"/terminals/{terminal}")


# -- bounds and policy ------------------------------------------------------------------------------------------------
def test_limits(make_node: Callable[..., Node]) -> None:
    node = make_node(terminals={"max": 2}, execution={"denylist": ["rm"]}).start()
    denied = node.ask("POST", "/terminals", {"command": "sh", "args": ["-c", "rm -rf x"]})
    assert (denied.status, denied.body["error"]["code"]) == (403, 3001)
    made = [opened(node, "sleep", "1000") for _ in range(2)]
    third = node.ask("POST", "/terminals", {"command": "true"})
    assert (third.status, third.body["error"]["code"]) == (429, 3003)
    assert node.ask("DELETE", f"/terminals/{made[0]['terminalId']}").status == 200
    until(lambda: node.ask("POST", "/terminals", {"command": "true"}).status == 201)
    running = {"status": "running"}.items()
    until(lambda: sum(running <= t.items() for t in node.ask("GET", "/terminals").body["terminals"]) == 1, "its end")
    for body in (
        {"cols": 0},
        {"cols": 1001},
        {"cols": 1000, "rows": 1000},
        {"keepIdle": 1},
        {"command": ""},
        {"nope": 1, "cols": "x"},
    ):
        assert node.ask("POST", "/terminals", body).status == 400, body
    for body, words in (({"command": "no-such-program"}, "not found"), ({"cwd": "/no/such"}, "no such directory")):
        answer = node.ask("POST", "/terminals", body)
        assert (answer.status, answer.body["error"]["code"]) == (400, 3004)
        assert words in answer.body["error"]["message"]
    assert node.ask("GET", "/terminals/none").status == 404
    for query in ("mode=both", "cols=0&rows=5", "cols=x&rows=1", "cols=1000&rows=999"):
        assert refusal(lambda query=query: Seat(node, made[1]["terminalId"], None, query)).status == 400
    assert node.ask("GET", f"/terminals/{made[1]['terminalId']}/attach").status == 400


def test_an_idle_one_is_ended_and_a_watched_one_is_not(make_node: Callable[..., Node]) -> None:
    node = make_node().start()
    idle, watched = (opened(node, "sleep", "1000", keepIdle=1000) for _ in range(2))
    with Seat(node, watched["terminalId"]) as seat:
        until(lambda: not is_alive(idle["pid"]), "the idle one's end")
        assert is_alive(watched["pid"])
        seat.read()


def test_scopes_and_owners(make_node: Callable[..., Node], tmp_path: Path) -> None:
    a, b = Node(tmp_path / "alfa", "alfa"), make_node("bravo")
    keyed_pair(a, b)
    a.start()
    b.start()
    try:
        theirs, ours = opened(a, "cat", peer="bravo"), opened(b, "cat")
        listed = a.ask("GET", "/peers/bravo/terminals").body["terminals"]
        assert [terminal["terminalId"] for terminal in listed] == [theirs["terminalId"]]
        assert len(b.ask("GET", "/terminals").body["terminals"]) == 2
        for method in ("GET", "DELETE"):
            assert a.ask(method, f"/peers/bravo/terminals/{ours['terminalId']}").status == 404
        assert refusal(lambda: Seat(a, ours["terminalId"], "bravo")).code == 3006
        with Seat(a, theirs["terminalId"], "bravo") as seat:
            seat.is_told("hello")
            answer = b.ask("PUT", "/trust/alfa/scopes", {"scopes": ["execute", "context"]})
            assert answer.status == 200, answer.body
            seat.ends()
        assert refusal(lambda: Seat(a, theirs["terminalId"], "bravo")).status == 403
        assert a.ask("POST", "/peers/bravo/terminals", {"command": "true"}).status == 403
        assert a.ask("GET", "/peers/bravo/terminals").status == 403
    finally:
        a.stop()


def test_a_recording_and_the_audit(pair: Pair) -> None:
    a, b = pair
    terminal = opened(a, "sh", "-c", "printf 'h\\303\\251llo\\n'; read x", peer="bravo", record=True)
    path = Path(terminal["recording"])
    with Seat(a, terminal["terminalId"], "bravo") as seat:
        seat.sees("héllo".encode())
        seat.socket.say({"type": "resize", "cols": 50, "rows": 20})
        seat.is_told("resize")
        seat.types(b"\r")
        seat.ends()
    head, *events = [json.loads(line) for line in path.read_text().splitlines()]
    assert (head["version"], head["width"], head["height"]) == (2, 80, 24)
    assert "".join(text for _, kind, text in events if kind == "o").startswith("héllo\r\n")
    assert [text for _, kind, text in events if kind == "r"] == ["50x20"]
    times = [at for at, _, _ in events]
    assert times == sorted(times)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    until(lambda: lines_of_audit(b, f"{terminal['terminalId']}/attach"))
    (line,) = lines_of_audit(b, f"{terminal['terminalId']}/attach")
    assert (line["who"], line["status"], line["what"]["mode"]) == ("alfa", 101, "write")
    assert line["out"] > 0
    made = [
        line
        for line in lines_of_audit(b, "/terminals")
        if line.get("what", {}).get("terminal") == terminal["terminalId"]
    ]
    assert made[0]["what"]["command"].startswith("sh -c")
    until(lambda: lines_of_audit(a, f"bravo/terminals/{terminal['terminalId']}/attach"))


# -- ends -------------------------------------------------------------------------------------------------------------
STUBBORN = (
    "trap '' HUP TERM; setsid sh -c 'trap \"\" HUP TERM; echo $$ > session; sleep 1000' & "
    "nohup sh -c 'echo $$ > nohup; sleep 1000' > /dev/null & while :; do sleep 1000; done"
)


def stubborn(node: Node) -> list[int]:
    """A terminal of programs that don't want to end; their ids."""
    home = Path(node.environment["HOME"])
    terminal = opened(node, "sh", "-c", STUBBORN)
    until(lambda: all((home / name).exists() and (home / name).read_text().strip() for name in ("session", "nohup")))
    pids = [terminal["pid"], *(int((home / name).read_text()) for name in ("session", "nohup"))]
    return pids + [child.pid for pid in pids for child in psutil.Process(pid).children()]


@pytest.mark.parametrize("how", ["delete", "stop"])
def test_an_end_leaves_nothing_of_it(make_node: Callable[..., Node], how: str) -> None:
    node = make_node().start()
    pids = stubborn(node)
    began = time.monotonic()
    if how == "delete":
        node.ask("DELETE", f"/terminals/{id_of(node)}")
        until(lambda: not any(map(is_alive, pids)), "the end of all")
        until(lambda: node.ask("GET", f"/terminals/{id_of(node)}").body.get("signal") == "SIGKILL")
    else:
        node.stop()
        until(lambda: not any(map(is_alive, pids)), "the end of all")  # what was killed takes a moment to go
    assert time.monotonic() - began > 3, "it was asked before it was killed"


def test_a_program_that_obeys_ends_at_once(make_node: Callable[..., Node]) -> None:
    """The daemon doesn't wait till it would be killed, as another one is five seconds later."""
    node = make_node().start()
    stays, goes, last = (opened(node, "/bin/bash", "--norc", "-i") for _ in range(3))
    with Seat(node, stays["terminalId"]) as seat:
        seat.types(b"trap '' HUP; echo deaf-$((1+1))\r").sees(b"deaf-2")
    for terminal in (goes, last):
        with Seat(node, terminal["terminalId"]) as seat:
            seat.types(b"sleep 1000 & sleep 1000 &\r").sees(b"[2]")
    with EventStream(node, "/events?types=terminal.ended") as events:
        for terminal in (stays, goes):
            assert node.ask("DELETE", f"/terminals/{terminal['terminalId']}").status == 200
        ended = [events.until("terminal.ended")["data"] for _ in range(2)]
    assert [one["terminalId"] for one in ended] == [goes["terminalId"], stays["terminalId"]]
    assert [one["signal"] for one in ended] == ["SIGHUP", "SIGKILL"]
    with Seat(node, last["terminalId"]) as seat:
        node.stop()
        assert seat.ends()["signal"] == "SIGHUP"
    assert not is_alive(last["pid"])


def test_the_daemon_killed_takes_the_shell_with_it(make_node: Callable[..., Node]) -> None:
    node = make_node().start()
    terminal = opened(node, "/bin/bash", "--norc", "-i")
    with Seat(node, terminal["terminalId"]) as seat:
        seat.types(b"echo ready\r").sees(b"ready")
    node.kill()
    until(lambda: not is_alive(terminal["pid"]), "the shell's end")


def test_what_a_shell_leaves_behind_on_purpose_stays(node: Node) -> None:
    """As with ssh: only who ends a terminal ends all of it."""
    home = Path(node.environment["HOME"])
    leave = "nohup sh -c 'echo $$ > left; exec sleep 1000' >/dev/null 2>&1 & until test -s left; do sleep 0.1; done"
    terminal = opened(node, "sh", "-c", f"{leave}; exit 5")
    with Seat(node, terminal["terminalId"]) as seat:
        assert seat.ends()["exitCode"] == 5
    pid = int((home / "left").read_text())
    time.sleep(1.5)  # long enough for one that ends with its shell to be gone
    try:
        assert is_alive(pid)
    finally:
        os.kill(pid, 9)


def test_last_words_of_a_program_are_not_lost(node: Node) -> None:
    for _ in range(5):
        terminal = opened(node, "sh", "-c", "seq 1 50000; echo the-end; exit 3")
        with Seat(node, terminal["terminalId"]) as seat:
            assert seat.ends()["exitCode"] == 3
            assert b"the-end" in seat.output


# -- the way there ----------------------------------------------------------------------------------------------------
def test_a_page_of_another_site_gets_nowhere(node: Node) -> None:
    terminal = opened(node, "cat")["terminalId"]
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    headers["sec-websocket-key"] = "bm5ubm5ubm5ubm5ubm5ubg=="
    for path in (f"/terminals/{terminal}/attach", "/execute/socket", f"/peers/x/terminals/{terminal}/attach"):
        for more in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            assert node.ask("GET", path, headers={**headers, **more}).status == 403
        assert node.ask("GET", path, headers=headers, key=None).status == 401
        assert node.ask("GET", path, headers={**headers, "host": "evil.example"}).status == 421
    node.ask("DELETE", f"/terminals/{terminal}")


def test_tmux_shows_both_the_same(pair: Pair) -> None:
    """Another emulator than our own and pyte: what the first viewer's window shows, and the late one's."""
    if shutil.which("tmux") is None or shutil.which("vi") is None:
        pytest.skip("tmux or vi is not installed")
    a = pair[0]
    home = Path(pair[1].environment["HOME"])
    (home / "tmuxed").write_text("".join(f"{n} \tcolumns é 漢字 {'#' * (n % 50)}\n" for n in range(60)))
    terminal = opened(a, "vi", "-u", "NONE", "tmuxed", peer="bravo", env={"LANG": "C.UTF-8"}, cwd=str(home))
    server = ["tmux", "-u", "-L", f"loopsy-{os.getpid()}", "-f", os.devnull]

    def tmux(*words: str) -> str:
        environment = {**a.environment, "LANG": "C.UTF-8"}
        return subprocess.run([*server, *words], env=environment, capture_output=True, text=True, check=True).stdout

    attach = f"{sys.executable} -m loopsy.cli.main shell bravo --attach {terminal['terminalId']}"
    try:
        tmux("new-session", "-d", "-s", "early", "-x", "80", "-y", "25", f"cd {os.getcwd()}; {attach}")
        until(lambda: "columns" in tmux("capture-pane", "-p", "-t", "early"))
        tmux("send-keys", "-t", "early", ":set number hlsearch", "Enter", "/columns", "Enter", "20j")
        until(lambda: tmux("display-message", "-p", "-t", "early", "#{cursor_y}") == "20\n", "the cursor's last move")
        tmux("new-session", "-d", "-s", "late", "-x", "80", "-y", "25", f"cd {os.getcwd()}; {attach}")
        seen = ("capture-pane", "-p", "-e", "-t")
        until(lambda: "columns" in tmux(*seen, "late"))
        until(lambda: tmux(*seen, "late") == tmux(*seen, "early"), "the same in both windows")
    finally:
        subprocess.run([*server, "kill-server"], capture_output=True, check=False)
        a.ask("DELETE", f"/peers/bravo/terminals/{terminal['terminalId']}")


def test_over_tls_and_not_with_another_certificate(make_node: Callable[..., Node], tmp_path: Path) -> None:
    a, b = make_node("alfa"), make_node("bravo")
    pinned_pair(a, b)
    a.start()
    b.start()
    name = a.ask("GET", "/peers").body["peers"][0]["name"]
    terminal = opened(a, "cat", peer=name)["terminalId"]
    with Seat(a, terminal, name) as seat:
        seat.types(b"sealed\r").sees(b"sealed\r\nsealed")
    data = os.urandom(3_000_000)
    answer = a.run("exec", "-i", name, "--", "cat", stdin=data)
    assert (answer.returncode, answer.stdout == data) == (0, True)
    b.stop()
    impostor = Node(tmp_path / "impostor", "impostor")
    impostor.write_config(tls={"enabled": True})
    certificate.ensure(impostor.layout, "impostor")
    heard = serve_tls(b.port, impostor)
    error = refusal(lambda: Seat(a, terminal, name))
    assert error.code == 2006
    assert not b"".join(heard)
