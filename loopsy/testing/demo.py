"""``make demo``: two nodes on this machine are paired, and do the main job for each other, by the real command.

Everything happens in a temporary directory, on loopback, on ports that are free; it ends by itself and leaves nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from loopsy.testing.nodes import Node

BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")

PATIENCE_S = 30.0


def say(text: str) -> None:
    """A heading."""
    print(f"\n{BOLD}{text}{PLAIN}", flush=True)


def command() -> list[str]:
    """The installed ``loopsy``, or this checkout's."""
    script = Path(sys.executable).with_name("loopsy")
    return [str(script)] if script.exists() else [sys.executable, "-m", "loopsy.cli.main"]


def prompt(node: Node, line: str) -> None:
    """What a person types."""
    print(f"{DIM}{node.name}${PLAIN} loopsy {line}", flush=True)


def show(node: Node, line: str, expect: int = 0) -> None:
    """Run ``loopsy …`` on a node as a person would, and show it."""
    prompt(node, line)
    status = subprocess.run([*command(), *shlex.split(line)], env=node.environment, check=False).returncode
    if status != expect:
        raise SystemExit(f"that ended with status {status}, not {expect}")
    if status:
        print(f"{DIM}(exit status {status}){PLAIN}")


class Step:
    """One side of the pairing: ``loopsy pair`` with a line of JSON for each step."""

    def __init__(self, node: Node, *words: str) -> None:
        self.node = node
        self._process = subprocess.Popen(
            [*command(), "pair", *words, "--expect-sas", "-", "--json"],
            env=node.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def until(self, key: str) -> Any:
        """The first value of ``key`` in what comes."""
        out: IO[str] | None = self._process.stdout
        for line in out or ():
            found = json.loads(line).get(key)
            if found:
                return found
        raise SystemExit(f"{self.node.name} stopped pairing")

    def say(self, sas: str) -> None:
        """The number that the other side shows."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{sas}\n")
        self._process.stdin.close()

    def end(self) -> None:
        """Wait for the end."""
        for _ in self._process.stdout or ():
            pass
        if self._process.wait(60) != 0:
            raise SystemExit(f"{self.node.name} did not pair")


def pair(leo: Node, kai: Node) -> None:
    """A code from one to the other, and a number that both show."""
    prompt(leo, "pair")
    inviter = Step(leo)
    code = inviter.until("inviteCode")
    print(f"the code:  {code[:3]} {code[3:]}")
    prompt(kai, f"pair 127.0.0.1:{leo.port}")
    print(f"the code that is shown there: {code}")
    joiner = Step(kai, f"127.0.0.1:{leo.port}", "--code", code)
    here, there = inviter.until("sas"), joiner.until("sas")
    print(f"the number on leo:  {here[:3]} {here[3:]}\nthe number on kai:  {there[:3]} {there[3:]}   (both say yes)")
    inviter.say(there)
    joiner.say(here)
    inviter.end()
    joiner.end()


def main() -> None:
    """The whole demonstration."""
    os.environ.pop("LOOPSY_DATA_DIR", None)
    with tempfile.TemporaryDirectory(prefix="loopsy-demo-") as directory:
        leo, kai = Node(Path(directory) / "leo", "leo"), Node(Path(directory) / "kai", "kai")
        for node in (leo, kai):
            node.write_config(tls={"enabled": True})
        try:
            leo.start()
            kai.start()
            demonstrate(leo, kai)
        finally:
            leo.stop()
            kai.stop()
    say("Done: both daemons are stopped, nothing is left.")


def demonstrate(leo: Node, kai: Node) -> None:
    """The main job."""
    say("Two machines, leo and kai, each with a daemon. They get to know each other:")
    pair(leo, kai)
    show(leo, "peers")
    say("A command on kai, from leo: output as it comes, and its exit status:")
    show(leo, "exec kai -- sh -c 'echo this is kai: pid $$; echo to stderr >&2; exit 3'", expect=3)
    show(leo, "exec kai rm -rf precious", expect=255)
    say("A file to kai, checked on the way, and read back there:")
    send_file(leo, kai)
    say("A value set on kai from leo, read on kai:")
    show(leo, "context set --peer kai greeting 'hello from leo'")
    show(kai, "context get greeting")
    print()
    message(leo, kai)
    say("What each machine wrote down about it (hash-chained):")
    show(leo, "logs -n 4")
    show(kai, "logs -n 6")
    show(kai, "logs --verify")


def message(leo: Node, kai: Node) -> None:
    """One that waits while kai is away, its ack, and an answer."""
    say("A message to kai, whose daemon is stopped just now; it waits on leo's disk:")
    kai.stop()
    show(leo, "message send kai 'the new build is there: please test it'")
    show(leo, "message outbox")
    say("kai is back. The message is there; it is read, acknowledged and answered, and leo learns that:")
    kai.start()
    (came,) = arrived(kai)
    show(kai, "message inbox")
    show(kai, f"message read {came['id'][-8:]}")
    show(kai, f"message ack {came['id'][-8:]} --reply 'all 812 tests pass'")
    arrived(leo)
    until(lambda: leo.ask("GET", f"/messages/{came['id']}?box=out").body["state"] == "acked")
    show(leo, "message outbox")
    show(leo, f"message thread {came['id'][-8:]}")


def arrived(node: Node) -> list[Any]:
    """What is unread there, once there is something."""
    found: list[Any] = node.ask("GET", "/messages/inbox?state=unread&wait=30").body["messages"]
    if not found:
        raise SystemExit(f"no message came to {node.name}")
    return found


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that takes some ms."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("it did not come about")
        time.sleep(0.02)


def send_file(leo: Node, kai: Node) -> None:
    """20 MB that nobody can guess."""
    source = Path(leo.environment["HOME"]) / "holiday.bin"
    source.write_bytes(os.urandom(20_000_000))
    show(leo, f"send kai {shlex.quote(str(source))} pictures/")
    show(leo, "ls kai pictures")
    arrived = Path(kai.environment["HOME"]) / "pictures" / source.name
    same = hashlib.sha256(arrived.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    print(f"{DIM}sha256 on both sides: {'the same' if same else 'NOT the same'}{PLAIN}")
    if not same:
        raise SystemExit("the file did not arrive whole")


if __name__ == "__main__":
    main()
