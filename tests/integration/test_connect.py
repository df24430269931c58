"""Setting up a peer by hand in a real terminal, with TLS and without, and an existing node's shared key."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable

import ptyprocess

from loopsy.store import configfile
from loopsy.testing.nodes import Node
from tests.integration.conftest import until
from tests.integration.test_rest import refused


class Terminal:
    """A command in a terminal, and the person before it."""

    def __init__(self, node: Node, *words: str) -> None:
        argv = [sys.executable, "-m", "loopsy.cli.main", *words]
        self.child = ptyprocess.PtyProcessUnicode.spawn(argv, env=node.environment, dimensions=(40, 200))
        self.seen = ""

    def expect(self, words: str) -> str:
        """Wait until these words were shown; what came before them is taken away."""

        def shown() -> bool:
            if words not in self.seen:
                self.seen += self.child.read()
            return words in self.seen

        until(shown, f"{words!r} after {self.seen!r}")
        before, _, self.seen = self.seen.partition(words)
        return before

    def answer(self, text: str) -> None:
        """Type a line."""
        self.child.write(text + "\n")

    def end(self) -> int:
        """Read to the end; the exit status."""
        try:
            while True:
                self.seen += self.child.read()
        except EOFError:
            return int(self.child.wait())


def allow(node: Node, name: str, key: str) -> None:
    configfile.change(node.layout.config, ("auth", "allowedKeys", name), key)
    node.ask("POST", "/reload")


def test_a_new_key_and_a_certificate_that_was_compared(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa", tls={"enabled": True}).start(), make_node("bravo", tls={"enabled": True}).start()
    terminal = Terminal(a, "connect", f"127.0.0.1:{b.port}", "--name", "bravo")
    terminal.expect("TLS")
    terminal.expect("fingerprint")
    shown = terminal.expect("is that what").strip()
    assert b.ask("GET", "/status").body["tls"]["fingerprint"] in shown
    terminal.answer("yes")
    terminal.expect("key that it gave you")
    terminal.answer("")
    terminal.expect('"alfa": ')
    key = terminal.expect("done?").split()[0]
    allow(b, "alfa", key)
    terminal.answer("")
    terminal.expect("is connected")
    assert terminal.end() == 0
    assert a.run("exec", "bravo", "echo", "hi").stdout == b"hi\n"
    (peer,) = a.ask("GET", "/peers").body["peers"]
    assert (peer["name"], peer["trusted"]) == ("bravo", True)
    assert peer["pin"] == b.ask("GET", "/status").body["tls"]["fingerprint"]


def test_a_certificate_that_is_another_stops_it(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa").start(), make_node("bravo", tls={"enabled": True}).start()
    terminal = Terminal(a, "connect", f"127.0.0.1:{b.port}", "--name", "bravo")
    terminal.expect("is that what")
    terminal.answer("no")
    terminal.expect("nothing was changed")
    assert terminal.end() == 2
    assert a.ask("GET", "/peers").body["peers"] == []


def test_an_existing_node_with_a_shared_key_talks_both_ways(make_node: Callable[..., Node]) -> None:
    """As Loopsy 1.x is set up: plain HTTP, and one key that each presents to the other."""
    key = secrets.token_hex(32)
    a = make_node("alfa").start()
    b = make_node("bravo", auth={"allowedKeys": {"alfa": key}}).start()
    ran = a.run("connect", f"127.0.0.1:{b.port}", "--name", "bravo", "--key", "-", "--json", stdin=key.encode())
    assert ran.returncode == 0, ran
    assert json.loads(ran.stdout)["takesKey"] is True
    assert a.run("exec", "bravo", "echo", "there").stdout == b"there\n"
    assert a.ask("GET", "/identity", key=key).status == 200
    until(lambda: b.ask("GET", "/peers").body["peers"], "the other's introduction")
    assert b.run("exec", "alfa", "echo", "back").stdout == b"back\n"


def test_what_is_missing_is_said(make_node: Callable[..., Node]) -> None:
    a, b = make_node("alfa").start(), make_node("bravo").start()
    ran = a.run("connect", f"127.0.0.1:{b.port}", "--name", "bravo", "--key", "f" * 64)
    assert ran.returncode == 1
    assert b"does not take the key" in ran.stderr
    assert b"auth.allowedKeys" in ran.stderr
    b.stop()
    ran = a.run("connect", f"127.0.0.1:{b.port}", "--name", "bravo", "--key", "f" * 64)
    assert ran.returncode == 1
    assert b"refused" in ran.stderr
    assert a.run("connect").returncode == 2
    refused(a.ask("POST", "/trust", {"name": "x"}), 400, 9003, "address")
