"""send, pull, ls and transfers between two real daemons, by the real command."""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from ptyprocess import PtyProcess

from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.fleet import Fleet
from tests.integration.gate import Gate

pytestmark = pytest.mark.integration
MIB = 1024 * 1024
LARGE = 40 * MIB
"""For a transfer that has a middle."""
SOME = 15 * MIB
COMMAND = (sys.executable, "-m", "loopsy.cli.main")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    root = tmp_path_factory.mktemp("nodes")
    a, b = Node(root / "alfa", "alfa"), Node(root / "bravo", "bravo")
    keyed_pair(a, b, transfer={"allowedPaths": [str(root.parent), "/mnt", "~"], "deniedPaths": [str(root / "secret")]})
    a.start()
    b.start()
    yield a, b
    assert "Traceback" not in a.log + b.log
    a.stop()
    b.stop()


Gated = tuple[Node, Node, Gate]


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gated]:
    """Two nodes, and the gate through which the first reaches the second."""
    root = tmp_path_factory.mktemp("gated")
    gates: list[Gate] = []

    def through(port: int) -> int:
        gates.append(Gate(port))
        return gates[0].port

    fleet = Fleet(root, ["bravo"], {"bravo": {"transfer": {"allowedPaths": [str(root.parent)]}}}, through)
    with gates[0] as gate:
        fleet.start()
        yield fleet.chief, fleet.peers["bravo"], gate
        assert "Traceback" not in fleet.log
        fleet.stop()


@pytest.fixture
def link(gated: Gated) -> Iterator[Gated]:
    """The same; the gate is open again when the test is over."""
    yield gated
    gated[2].opens(cut=True)


@pytest.fixture(autouse=True)
def _gives_the_disk_back(tmp_path: Path) -> Iterator[None]:
    """pytest keeps what tests leave, and disks are small."""
    yield
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size > MIB // 2:
            path.unlink()


def loopsy(node: Node, *words: str, stdin: bytes = b"") -> dict[str, Any]:
    """A command that must succeed; its --json."""
    done = node.run(*words, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return dict(json.loads(done.stdout))


def refused(node: Node, *words: str) -> str:
    """A command that must fail; what it says."""
    done = node.run(*words)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    return done.stderr.decode()


def popen(node: Node, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *words], env=node.environment, cwd=node.environment["HOME"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def random_file(path: Path, size: int) -> str:
    """Its SHA-256."""
    found = hashlib.sha256()
    generator = random.Random(size)
    with path.open("wb") as file:
        for _ in range(0, size, MIB):
            piece = generator.randbytes(min(MIB, size - file.tell()))
            file.write(piece)
            found.update(piece)
    return found.hexdigest()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parts_in(path: Path) -> list[Path]:
    return [found for found in path.rglob(".loopsy-*") if found.is_file()]


# -- trees ------------------------------------------------------------------------------------------------------------
def strange_tree(root: Path) -> Path:
    """All that a tree may hold."""
    (root / "empty").mkdir(parents=True)
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "sub" / "deep" / "file").write_bytes(b"deep")
    (root / "zero").write_bytes(b"")
    (root / "-dash").write_bytes(b"dash")
    (root / "new\nline").write_bytes(b"line")
    (root / "ünï").write_bytes(b"umlaut")
    (root / "b:colon").write_bytes(b"prefix")
    Path(os.fsdecode(os.fsencode(root) + b"/bad\xff")).write_bytes(b"bad")
    os.symlink(b"bad\xff", os.fsencode(root) + b"/link-to-bad")
    (root / "run").write_bytes(b"#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("sub/deep/file")
    (root / "dangling").symlink_to("/nowhere/at all")
    random_file(root / "sub" / "large", 700_000)
    for number in range(50):
        (root / "sub" / f"f{number}").write_bytes(os.urandom(4096))
    os.utime(root / "zero", ns=(10**18 + 123456789, 10**18 + 123456789))
    os.utime(root / "sub" / "deep", ns=(10**18, 10**18))
    os.utime(root / "empty", ns=(9 * 10**17, 9 * 10**17))
    return root


def picture(root: Path) -> dict[bytes, tuple[Any, ...]]:
    """All that must be equal of two trees."""
    found: dict[bytes, tuple[Any, ...]] = {}
    base = os.fsencode(root)
    for above, directories, files in os.walk(base):
        for name in [b".", *directories, *files]:
            path = os.path.normpath(os.path.join(above, name))
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                found[os.path.relpath(path, base)] = (kind, os.readlink(path))
            else:
                content = Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(status.st_mode) else b""
                found[os.path.relpath(path, base)] = (kind, status.st_mode & 0o777, status.st_mtime_ns, content)
    return found


@pytest.mark.parametrize("verb", ["send", "pull"])
def test_a_tree_with_all_that_a_tree_may_hold(nodes: tuple[Node, Node], tmp_path: Path, verb: str) -> None:
    source = strange_tree(tmp_path / "source")
    did = loopsy(nodes[0], verb, "-r", "bravo", str(source), f"{tmp_path}/there/")
    assert picture(tmp_path / "there" / "source") == picture(source)
    assert (did["files"], did["skipped"]) == (did["total"], 0)
    again = loopsy(nodes[0], verb, "-r", "bravo", str(source), f"{tmp_path}/there/")
    assert (again["files"], again["skipped"], again["bytesSent"]) == (0, did["total"], 0)
    assert not parts_in(tmp_path)


@pytest.mark.parametrize("verb", ["send", "pull"])
def test_changes_deletions_and_what_is_left_alone(nodes: tuple[Node, Node], tmp_path: Path, verb: str) -> None:
    source = strange_tree(tmp_path / "source")
    there = tmp_path / "there"
    words = (verb, "-r", "bravo", f"{source}/.", str(there))
    loopsy(nodes[0], *words)
    (source / "new").write_bytes(b"new")
    (source / "run").chmod(0o700)
    (source / "link").unlink()
    (source / "link").symlink_to("zero")
    os.utime(source / "sub" / "large", ns=(10**18, 10**18))
    (there / "extra" / "below").mkdir(parents=True)
    (there / "extra" / "below" / "f").write_bytes(b"extra")
    (there / "kept.o").write_bytes(b"object")
    before = picture(there)
    dry = loopsy(nodes[0], *words, "--delete", "--dry-run", "--exclude", "*.o")
    assert picture(there) == before
    assert dry["deleted"] == 3
    loopsy(nodes[0], *words, "--exclude", "*.o")
    assert (there / "extra" / "below" / "f").exists()
    did = loopsy(nodes[0], *words, "--delete", "--exclude", "*.o")
    assert did["deleted"] == 3
    (there / "kept.o").unlink()
    os.utime(there, ns=(source.stat().st_mtime_ns,) * 2)
    assert picture(there) == picture(source)


@pytest.mark.parametrize("verb", ["send", "pull"])
def test_checksum_sees_what_size_and_time_hide(nodes: tuple[Node, Node], tmp_path: Path, verb: str) -> None:
    (tmp_path / "s").mkdir()
    for name, size in (("small", 1000), ("large", 600_000)):
        random_file(tmp_path / "s" / name, size)
    words = (verb, "-r", "bravo", f"{tmp_path}/s/.", f"{tmp_path}/d")
    loopsy(nodes[0], *words)
    for name in ("small", "large"):
        status = (tmp_path / "d" / name).stat()
        with (tmp_path / "d" / name).open("r+b") as file:
            file.write(b"changed")
        os.utime(tmp_path / "d" / name, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert loopsy(nodes[0], *words)["files"] == 0
    assert loopsy(nodes[0], *words, "--checksum")["files"] == 2
    assert picture(tmp_path / "s") == picture(tmp_path / "d")


# -- files ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["send", "pull"])
@pytest.mark.parametrize("size", [0, 1, 300_000, MIB + 1, LARGE])
def test_a_file_of_any_size(nodes: tuple[Node, Node], tmp_path: Path, verb: str, size: int) -> None:
    digest = random_file(tmp_path / "f", size)
    (tmp_path / "f").chmod(0o750)
    did = loopsy(nodes[0], verb, "bravo", str(tmp_path / "f"), str(tmp_path / "g"))
    assert did["sha256"] == digest == sha256(tmp_path / "g")
    one, other = (tmp_path / "f").stat(), (tmp_path / "g").stat()
    assert (one.st_mode, one.st_mtime_ns) == (other.st_mode, other.st_mtime_ns)
    assert loopsy(nodes[0], verb, "bravo", str(tmp_path / "f"), str(tmp_path / "g"))["skipped"] == 1
    assert not parts_in(tmp_path)


def test_destinations_are_those_of_cp(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    (tmp_path / "g").write_text("g")
    (tmp_path / "d").mkdir()
    for verb in ("send", "pull"):
        loopsy(nodes[0], verb, "bravo", str(tmp_path / "f"), str(tmp_path / "g"), str(tmp_path / "d"))
        assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["f", "g"]
        loopsy(nodes[0], verb, "bravo", str(tmp_path / "f"), f"{tmp_path}/{verb}-new/")
        assert (tmp_path / f"{verb}-new" / "f").read_text() == "f"
        said = refused(nodes[0], verb, "bravo", str(tmp_path / "f"), str(tmp_path / "g"), str(tmp_path / "nothing"))
        assert "several sources need a directory" in said


def test_relative_paths_begin_here_and_at_the_home_there(nodes: tuple[Node, Node]) -> None:
    a, b = nodes
    Path(a.environment["HOME"], "mine").write_text("mine")
    loopsy(a, "send", "bravo", "mine", "yours")
    assert Path(b.environment["HOME"], "yours").read_text() == "mine"
    loopsy(a, "pull", "bravo", "~/yours", "back")
    assert Path(a.environment["HOME"], "back").read_text() == "mine"
    assert "yours" in a.run("ls", "bravo").stdout.decode().splitlines()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("send", "bravo", "{t}/missing", "x"), "does not exist"),
        (("pull", "bravo", "{t}/missing", "{t}/x"), "does not exist"),
        (("send", "bravo", "{t}", "x"), "with -r"),
        (("pull", "bravo", "{t}", "{t}/x"), "with -r"),
        (("send", "bravo", "{t}/f", "/etc/x"), "may not be touched"),
        (("pull", "bravo", "/etc/passwd", "{t}/x"), "may not be touched"),
        (("send", "charlie", "{t}/f", "x"), "no peer"),
        (("pull", "bravo", "{t}/f", "{root}/alfa/stolen"), "may not be touched"),
        (("send", "bravo", "{root}/alfa/config.yaml", "x"), "may not be touched"),
    ],
)
def test_refusals(nodes: tuple[Node, Node], tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "f").write_text("f")
    filled = [word.format(t=tmp_path, root=nodes[0].root.parent) for word in words]
    assert said in refused(nodes[0], *filled)


def test_a_peer_can_not_ask_for_transfers(nodes: tuple[Node, Node]) -> None:
    key = nodes[1].ask("GET", "/status").body and nodes[0].layout.config.read_text()
    assert key
    assert nodes[1].ask("GET", "/transfers", key=None).status == 401
    assert nodes[1].ask("GET", "/peers/alfa/transfers").status == 403


# -- faults -----------------------------------------------------------------------------------------------------------
def in_the_middle(link: Gated, *words: str) -> subprocess.Popen[bytes]:
    """A command some of whose bytes went, and whose others the gate holds."""
    gate = link[2]
    gate.holds_after(SOME)
    process = popen(link[0], *words)
    until(lambda: gate.is_held and running_bytes(link[0]) > SOME // 2, "some of it went")
    return process


def interrupted(link: Gated, *words: str) -> bytes:
    """Ctrl-C in the middle; what the command says then."""
    process = in_the_middle(link, *words)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    link[2].opens(cut=True)
    return said


def test_kill_9_of_anybody_then_the_same_command_again(link: Gated, tmp_path: Path) -> None:
    """Moments by the bytes that went, not by the clock: most are in the middle, however quick the machine is."""
    a, b, gate = link
    digest = random_file(tmp_path / "f", LARGE)
    chance = random.Random(20)
    saved = 0
    for number in range(20):
        verb = ("send", "pull")[number % 2]
        words = (verb, "bravo", str(tmp_path / "f"), str(tmp_path / f"g{number}"))
        gate.holds_after(chance.randrange(LARGE + MIB))
        process = popen(a, *words)
        until(lambda process=process: gate.is_held or process.poll() is not None, "the moment")
        victim = (a, b, None)[number % 3]
        if victim is None:
            process.kill()
        else:
            victim.kill()
            gate.opens(cut=True)
            victim.start()
        process.communicate(timeout=PATIENCE_S)
        gate.opens(cut=True)
        did = loopsy(a, *words)
        saved += did["bytesSent"] < did["bytes"]
        assert sha256(tmp_path / f"g{number}") == digest
        (tmp_path / f"g{number}").unlink()
    assert saved, "not one of twenty went on where it had stopped"
    until(lambda: not parts_in(tmp_path), "the parts are gone")


@pytest.mark.parametrize("verb", ["send", "pull"])
def test_ctrl_c_leaves_a_resumable_state_and_says_so(link: Gated, tmp_path: Path, verb: str) -> None:
    digest = random_file(tmp_path / "f", LARGE)
    words = (verb, "bravo", str(tmp_path / "f"), str(tmp_path / "g"))
    assert b"run the same command again to continue" in interrupted(link, *words)
    assert not (tmp_path / "g").exists()
    did = loopsy(link[0], *words)
    assert did["bytesSent"] < did["bytes"]
    assert sha256(tmp_path / "g") == digest


@pytest.mark.parametrize("verb", ["send", "pull"])
def test_a_broken_tree_goes_on_under_the_name_it_began_with(link: Gated, tmp_path: Path, verb: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(4):
        random_file(source / f"f{number}", LARGE // 4 + number)
    words = (verb, "-r", "bravo", str(source), str(tmp_path / "new"))
    interrupted(link, *words)
    loopsy(link[0], *words)
    assert picture(tmp_path / "new") == picture(source)
    loopsy(link[0], *words)
    assert picture(tmp_path / "new" / "source") == picture(source)  # now it is there, as with cp


def test_leftovers_of_pulls_are_swept_after_a_day(link: Gated, tmp_path: Path) -> None:
    a = link[0]
    random_file(tmp_path / "f", LARGE)
    interrupted(link, "pull", "bravo", str(tmp_path / "f"), str(tmp_path / "g"))
    (part,) = parts_in(tmp_path)
    a.stop()
    a.start()
    assert part.exists()
    os.utime(part, (time.time() - 90_000,) * 2)
    a.stop()
    a.start()
    until(lambda: not part.exists(), "the part is gone")


def running(node: Node) -> list[dict[str, Any]]:
    return [one for one in node.ask("GET", "/transfers").body["transfers"] if one["state"] == "running"]


def running_bytes(node: Node) -> int:
    return sum(one["bytesSent"] for one in running(node))


@pytest.mark.parametrize("verb", ["send", "pull"])
def test_a_source_that_changed_in_between_starts_over(link: Gated, tmp_path: Path, verb: str) -> None:
    random_file(tmp_path / "f", LARGE)
    words = (verb, "bravo", str(tmp_path / "f"), str(tmp_path / "g"))
    interrupted(link, *words)
    with (tmp_path / "f").open("r+b") as file:
        file.write(b"changed")
    did = loopsy(link[0], *words)
    assert did["bytesSent"] == did["bytes"]
    assert sha256(tmp_path / "g") == sha256(tmp_path / "f")
    assert not parts_in(tmp_path)


def test_a_source_that_shrinks_while_it_is_sent(link: Gated, tmp_path: Path) -> None:
    random_file(tmp_path / "f", 2 * LARGE)  # more than the sockets hold behind what went
    (tmp_path / "g").write_text("old")
    process = in_the_middle(link, "send", "bravo", str(tmp_path / "f"), str(tmp_path / "g"))
    os.truncate(tmp_path / "f", 5 * MIB)
    link[2].opens()
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert b"became shorter while it was sent" in said
    assert (tmp_path / "g").read_text() == "old"


def test_two_sends_of_one_command_are_one_transfer(link: Gated, tmp_path: Path) -> None:
    digest = random_file(tmp_path / "f", LARGE)
    words = ("send", "bravo", str(tmp_path / "f"), str(tmp_path / "g"), "--json")
    before = begun(link[0])
    both = [in_the_middle(link, *words), popen(link[0], *words)]
    until(lambda: begun(link[0]) == before + 2, "both have asked for it")
    link[2].opens()
    said = [process.communicate(timeout=2 * PATIENCE_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len({json.loads(printed)["transferId"] for printed, _ in said}) == 1
    assert sha256(tmp_path / "g") == digest


def begun(node: Node) -> int:
    """How many transfers were asked for, by the audit log."""
    lines = [json.loads(line) for line in node.layout.audit.read_bytes().splitlines()]
    return sum((line["method"], line["path"]) == ("POST", "/api/v1/transfers") for line in lines)


def test_two_sources_to_one_destination_leave_one_of_them_whole(link: Gated, tmp_path: Path) -> None:
    digests = {random_file(tmp_path / name, size) for name, size in (("f", LARGE), ("h", LARGE - 5 * MIB))}
    first, second = (("send", "bravo", str(tmp_path / name), str(tmp_path / "g")) for name in ("f", "h"))
    both = [in_the_middle(link, *first), popen(link[0], *second)]
    until(lambda: len(running(link[0])) == 2, "both are under way")
    link[2].opens()
    said = [process.communicate(timeout=2 * PATIENCE_S) for process in both]
    assert 0 in [process.returncode for process in both], said
    assert sha256(tmp_path / "g") in digests


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
@pytest.mark.parametrize("verb", ["send", "pull"])
def test_a_full_disk_leaves_the_old_file(nodes: tuple[Node, Node], tmp_path: Path, verb: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        (disk / "g").write_text("old")
        random_file(tmp_path / "f", 60 * MIB)
        said = refused(nodes[0], verb, "bravo", str(tmp_path / "f"), str(disk / "g"))
        assert "no space left" in said or "bytes left" in said
        assert (disk / "g").read_text() == "old"
        assert sum(path.stat().st_size for path in parts_in(disk)) < MIB
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# -- what the daemon may not read -------------------------------------------------------------------------------------
@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Node]:
    """A daemon of root's without root's right to read everything; its command has it."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("giving up a capability needs root and setpriv")
    node = Node(tmp_path / "bound", "bound")
    node.write_config(transfer={"allowedPaths": [str(tmp_path)], "deniedPaths": [str(tmp_path / "secret")]})
    daemon = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "loopsy"]
    node.process = subprocess.Popen(
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *daemon],
        env=node.environment, cwd=node.environment["HOME"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    node.wait_until_up()
    yield node
    node.stop()


def kept_from_root(path: Path, content: bytes) -> Path:
    """Somebody else's, which only the capability opens."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(0)
    os.chown(path, 65534, 65534)
    return path


def test_a_file_that_only_the_command_can_read(bound: Node, tmp_path: Path) -> None:
    file = kept_from_root(tmp_path / "my fïle", b"content")
    did = loopsy(bound, "send", ".", str(file), f"{tmp_path}/there/")
    assert did["sha256"] == hashlib.sha256(b"content").hexdigest()
    assert (tmp_path / "there" / "my fïle").read_bytes() == b"content"
    (tmp_path / "there" / "of a link").symlink_to(file)
    loopsy(bound, "send", ".", str(tmp_path / "there" / "of a link"), f"{tmp_path}/copy")
    assert (tmp_path / "copy").read_bytes() == b"content"


def test_what_is_denied_stays_denied_however_it_is_reached(bound: Node, tmp_path: Path) -> None:
    secret = kept_from_root(tmp_path / "secret" / "f", b"secret")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "link").symlink_to(secret)
    hidden.chmod(0)
    os.chown(hidden, 65534, 65534)  # the daemon can't see where this link leads; the command can
    for source in (secret, hidden / "link"):
        assert "denied" in refused(bound, "send", ".", str(source), f"{tmp_path}/copy")
    assert not (tmp_path / "copy").exists()


# -- jobs -------------------------------------------------------------------------------------------------------------
def test_detach_watch_list_and_cancel(link: Gated, tmp_path: Path) -> None:
    a = link[0]
    random_file(tmp_path / "f", LARGE)
    done = a.run("send", "--detach", "bravo", str(tmp_path / "f"), str(tmp_path / "g"), check=True)
    transfer_id = done.stdout.decode().strip()
    assert transfer_id[:8] in a.run("transfers", check=True).stdout.decode()
    assert loopsy(a, "transfers", "watch", transfer_id[:13])["state"] == "completed"
    assert sha256(tmp_path / "g") == sha256(tmp_path / "f")
    link[2].holds_after(SOME)
    random_file(tmp_path / "h", LARGE)
    transfer_id = a.run("pull", "--detach", "bravo", str(tmp_path / "h"), str(tmp_path / "i")).stdout.decode().strip()
    assert a.run("transfers", "cancel", transfer_id).stdout == b"cancelled\n"
    assert a.run("transfers", "watch", transfer_id).returncode == 130
    assert not (tmp_path / "i").exists()


def test_the_bar_in_a_terminal(link: Gated, tmp_path: Path) -> None:
    """It goes drop by drop, at most half of it before there is a bar, until that has shown all that it has."""
    random_file(tmp_path / "f", LARGE)
    gate, drop, drops = link[2], MIB // 4, 1
    gate.holds_after(drop)
    terminal = PtyProcess.spawn(
        [*COMMAND, "send", "bravo", str(tmp_path / "f"), str(tmp_path / "g")],
        env=link[0].environment | {"TERM": "xterm"}, cwd=link[0].environment["HOME"], dimensions=(24, 110),
    )  # fmt: skip
    parts = ("f ", "━", "%", "MB/s", "0:0")
    shown = b""
    with suppress(EOFError):
        while True:
            if select.select([terminal.fd], [], [], 0.05)[0]:
                shown += terminal.read(65536)
            if all(part.encode() in shown for part in parts):
                gate.opens()
            elif gate.is_held and (shown or drops * drop < LARGE // 2):
                gate.holds_after(drop)
                drops += 1
    assert terminal.wait() == 0
    text = shown.decode()
    for part in (*parts, "sent 1 file, 40.0 MiB in"):
        assert part in text, text[-2000:]


def test_nothing_is_printed_when_piped(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    done = nodes[0].run("send", "bravo", str(tmp_path / "f"), str(tmp_path / "g"))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_standard_input_and_output_byte_for_byte(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    done = nodes[0].run("send", "bravo", "-", str(tmp_path / "g"), stdin=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "g").read_bytes() == data
    done = nodes[0].run("pull", "bravo", str(tmp_path / "g"), "-")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data
    assert nodes[0].run("pull", "bravo", str(tmp_path / "missing"), "-").returncode == 1


def test_a_pipe_has_bytes_that_only_the_command_can_read(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = popen(nodes[0], "send", "bravo", str(fifo), str(tmp_path / "g"))
    with fifo.open("wb") as file:
        file.write(b"x" * MIB)
    assert process.wait(PATIENCE_S) == 0, process.communicate()
    process.communicate()
    assert (tmp_path / "g").read_bytes() == b"x" * MIB


@pytest.mark.parametrize("verb", ["send", "pull"])
def test_memory_stays_flat(nodes: tuple[Node, Node], tmp_path: Path, verb: str) -> None:
    """Over a gibibyte, in four files, one after the other: no disk needs room for more than one."""
    with (tmp_path / "f").open("wb") as file:
        file.truncate(256 * MIB)
    daemons = [psutil.Process(node.process.pid) for node in nodes if node.process is not None]
    idle = [process.memory_info().rss for process in daemons]
    peak = [0, 0, 0]
    for _ in range(4):
        process = popen(nodes[0], verb, "bravo", str(tmp_path / "f"), str(tmp_path / "g"))
        command = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                now = [one.memory_info().rss for one in (*daemons, command)]
            except psutil.NoSuchProcess:
                break
            peak = [max(pair) for pair in zip(peak, now, strict=True)]
            time.sleep(0.02)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, said
        (tmp_path / "g").unlink()
    above = [(high - low) / MIB for high, low in zip(peak, idle, strict=False)]
    assert max(above) < 25, above
    assert peak[2] < 40 * MIB


# -- a disk that others fill meanwhile --------------------------------------------------------------------------------
@pytest.fixture
def filling_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 80 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    """To the last block."""
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 65536)


def used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.mark.parametrize("tree", [False, True], ids=["file", "tree"])
@pytest.mark.parametrize("verb", ["send", "pull"])
def test_a_disk_that_fills_in_the_middle(
    link: Gated, tmp_path: Path, filling_disk: Path, verb: str, tree: bool
) -> None:
    (tmp_path / "source").mkdir()
    checksum = random_file(tmp_path / "source" / "f", LARGE)
    (filling_disk / "source").mkdir()
    (filling_disk / "source" / "f").write_text("old")
    there = str(filling_disk / "source") + ("/." if tree else "/f")
    words = ("-r", "bravo", f"{tmp_path}/source/.", there) if tree else ("bravo", f"{tmp_path}/source/f", there)
    command = in_the_middle(link, verb, *words)
    until(lambda: used(filling_disk) > 5 * MIB, "some of it is here")
    fill(filling_disk)
    link[2].opens()
    said = command.communicate(timeout=PATIENCE_S)[1].decode()
    assert command.returncode == 1, said
    assert "no space left" in said or "bytes left" in said
    (filling_disk / "filler").unlink()
    assert (filling_disk / "source" / "f").read_text() == "old"
    held = used(filling_disk)  # an upload is gone on with; a pull gives the disk back
    assert held < MIB or verb == "send"
    info = json.loads(link[0].run("transfers", "--json").stdout)["transfers"][0]
    assert info["errorCode"] == 4005
    again = loopsy(link[0], verb, *words)
    assert again["files"] == 1
    assert again["bytesSent"] <= LARGE - held + MIB
    assert sha256(filling_disk / "source" / "f") == checksum
    assert used(filling_disk) < LARGE + MIB
    assert not parts_in(filling_disk)
