"""The daemon and the command where there is no POSIX, as far as Linux can show it (loopsy/testing/elsewhere.py)."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define

import loopsy
from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import until
from tests.integration.streams import Stream
from tests.integration.test_rest import refused

ELSEWHERE = (sys.executable, "-m", "loopsy.testing.elsewhere")
POSIX = {
    "loopsy.cli.screen": "draws a terminal",
    "loopsy.services.ptys": "starts a program on a terminal",
}
"""What only POSIX has; all else is portable."""
IMPORT_ALL = """
import importlib, sys
from loopsy.testing import elsewhere
elsewhere.hide()
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        print(name, repr(error))
"""


@define
class Elsewhere(Node):
    """A node without POSIX."""

    def start(self) -> Elsewhere:
        """As a Node, over there."""
        with open(self.root / "twistd.log", "ab") as log:
            self.process = subprocess.Popen(
                [*ELSEWHERE, "twistd", "-n", "--pidfile=", "loopsy"],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.environment["HOME"],
            )
        self.wait_until_up()
        return self

    def there(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """The command, over there too."""
        return subprocess.run(
            [*ELSEWHERE, "loopsy.cli.main", *words],
            env=self.environment,
            cwd=self.environment["HOME"],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
        )

    def said(self, *words: str, stdin: bytes = b"") -> str:
        """What a command that must succeed printed."""
        done = self.there(*words, stdin=stdin)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.decode()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Elsewhere, Node]]:
    """One elsewhere, paired with one here."""
    root = tmp_path_factory.mktemp("elsewhere")
    there, here = Elsewhere(root / "alfa", "alfa"), Node(root / "bravo", "bravo")
    keyed_pair(there, here)
    there.start()
    here.start()
    yield there, here
    there.stop()
    here.stop()
    assert "Traceback" not in there.log + here.log


@pytest.fixture
def there(two: tuple[Elsewhere, Node]) -> Elsewhere:
    return two[0]


def test_all_but_what_needs_a_terminal_is_imported(tmp_path: Path) -> None:
    names = [
        module.name
        for module in pkgutil.walk_packages(loopsy.__path__, "loopsy.")
        if not module.name.startswith("loopsy.testing") and not module.name.endswith("__main__")
    ]
    command = [sys.executable, "-c", IMPORT_ALL, *sorted(set(names) - {"loopsy.tap"})]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    failed = dict(line.split(" ", 1) for line in done.stdout.decode().splitlines())
    assert set(failed) == set(POSIX), failed
    assert all("halted" in why for why in failed.values())


def test_the_command_helps_and_shows_the_status(there: Elsewhere) -> None:
    assert there.said("--help").startswith("usage: loopsy")
    assert "runs on alfa" in there.said("status")
    assert "bravo" in there.said("peers")
    assert there.there("doctor").returncode in (0, 1)


def test_a_command_runs_with_both_outputs_input_and_status(there: Elsewhere) -> None:
    done = there.there("exec", ".", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)
    many = there.said("exec", ".", "--", "sh", "-c", "yes x | head -c 3000000")
    assert len(many) == 3_000_000
    there.there("exec", ".", "--", "no-such-program")
    refused(there.ask("POST", "/execute", {"command": "no-such-program"}), 400, 3004)


def test_a_cancelled_command_ends_with_what_it_started(there: Elsewhere, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = 'echo $$ > "$0"; sleep 600 & echo $! >> "$0"; wait'
    stream = Stream(there, "/execute/stream", {"command": "sh", "args": ["-c", script, str(pids)]})
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    (job,) = there.ask("GET", "/execute/jobs").body["jobs"]
    assert there.ask("DELETE", f"/execute/{job['jobId']}").status == 200
    until(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in pids.read_text().split()))
    until(lambda: there.ask("GET", "/execute/jobs").body == {"jobs": []})
    stream.close()


def test_files_and_trees_go_both_ways(two: tuple[Elsewhere, Node]) -> None:
    there, here = two
    home, far = Path(there.environment["HOME"]), Path(here.environment["HOME"])
    (home / "tree").mkdir()
    content = os.urandom(3_000_000)
    (home / "tree" / "large").write_bytes(content)
    (home / "tree" / "small").write_text("small")
    there.said("send", "-r", "bravo", str(home / "tree"), str(far / "got"))
    assert (far / "got" / "large").read_bytes() == content
    there.said("pull", "-r", "bravo", str(far / "got"), str(home / "back"))
    assert (home / "back" / "small").read_text() == "small"
    assert (home / "back" / "large").read_bytes() == content
    assert here.run("pull", "alfa", str(home / "tree" / "large"), str(far / "pulled")).returncode == 0
    assert here.run("send", "alfa", str(far / "pulled"), str(home / "sent")).returncode == 0
    assert (home / "sent").read_bytes() == content


def test_context_and_messages(two: tuple[Elsewhere, Node]) -> None:
    there, here = two
    there.said("context", "set", "k", "v")
    assert there.said("context", "get", "k") == "v"
    there.said("message", "send", "bravo", "hello")
    until(lambda: b"hello" in here.run("message", "inbox").stdout)


def test_a_terminal_is_refused_with_words(there: Elsewhere) -> None:
    answer = there.ask("POST", "/terminals", {"command": "sh", "cols": 80, "rows": 24})
    assert 400 <= answer.status < 502, answer
    assert "terminal" in answer.body["error"]["message"]
    assert "Traceback" not in there.log


def test_two_daemons_cannot_share_its_data_and_a_stop_stops_it(tmp_path: Path) -> None:
    node = Elsewhere(tmp_path / "alfa", "alfa")
    node.write_config()
    node.start()
    assert "is running already" in node.said("start")
    assert "is stopped" in node.said("stop")
    assert node.stop() == 0
