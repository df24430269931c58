"""``make demo``: two nodes on this machine, keyed to each other, and the main job between them, by the real command.

Everything happens in a temporary directory, on loopback, on ports that are free; it ends by itself and leaves nothing.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loopsy.testing.nodes import Node, keyed_pair

BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def say(text: str) -> None:
    """A heading."""
    print(f"\n{BOLD}{text}{PLAIN}", flush=True)


def show(node: Node, line: str, expect: int = 0) -> None:
    """Run ``loopsy …`` on a node as a person would, and show it."""
    print(f"{DIM}{node.name}${PLAIN} loopsy {line}", flush=True)
    command = Path(sys.executable).with_name("loopsy")
    argv = [str(command)] if command.exists() else [sys.executable, "-m", "loopsy.cli.main"]
    status = subprocess.run([*argv, *shlex.split(line)], env=node.environment, check=False).returncode
    if status != expect:
        raise SystemExit(f"that ended with status {status}, not {expect}")
    if status:
        print(f"{DIM}(exit status {status}){PLAIN}")


def until_online(node: Node) -> None:
    """Wait until a node sees its peer."""
    for _ in range(200):
        if all(peer["status"] == "online" for peer in node.ask("GET", "/peers").body["peers"]):
            return
        time.sleep(0.05)
    raise SystemExit("the two did not find each other")


def main() -> None:
    """The whole demonstration."""
    os.environ.pop("LOOPSY_DATA_DIR", None)
    with tempfile.TemporaryDirectory(prefix="loopsy-demo-") as directory:
        leo, kai = Node(Path(directory) / "leo", "leo"), Node(Path(directory) / "kai", "kai")
        keyed_pair(leo, kai)
        try:
            leo.start()
            kai.start()
            until_online(leo)
            demonstrate(leo, kai)
        finally:
            leo.stop()
            kai.stop()
    say("Done: both daemons are stopped, nothing is left.")


def demonstrate(leo: Node, kai: Node) -> None:
    """The main job."""
    say("Two machines, leo and kai, each with a daemon and a key for the other:")
    show(leo, "peers")
    say("A command on kai, from leo: output as it comes, and its exit status:")
    show(leo, "exec kai -- sh -c 'echo this is kai: pid $$; echo to stderr >&2; exit 3'", expect=3)
    show(leo, "exec kai rm -rf precious", expect=255)
    say("A value set on kai from leo, read on kai:")
    show(leo, "context set --peer kai greeting 'hello from leo'")
    show(kai, "context get greeting")
    print()
    say("What each machine wrote down about it (hash-chained):")
    show(leo, "logs -n 4")
    show(kai, "logs -n 6")
    show(kai, "logs --verify")


if __name__ == "__main__":
    main()
