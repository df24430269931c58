"""Pairing on a LAN with an attacker between the two machines, or beside them; each in a network namespace of its own.

The real commands on both hosts, the attacker a program in its own namespace, and a capture of all that passed.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from loopsy.store import configfile
from tests.integration.conftest import PATIENCE_S
from tests.integration.eve import BETWEEN
from tests.integration.namespaces import Host, HostNode, Lan, lan, why_not
from tests.integration.test_pairing_attacked import REFUSED

PORT = 19532
SOURCE = Path(__file__).parents[2]


@define
class Net:
    """The hosts with their daemons; ``codes`` are all invite codes that were shown."""

    lan: Lan
    alfa: HostNode
    bravo: HostNode
    root: Path
    codes: list[str] = field(factory=list)

    @property
    def both(self) -> tuple[HostNode, HostNode]:
        """The two daemons."""
        return self.alfa, self.bravo

    @contextmanager
    def eve(self, what: str, listen: str, target: str, more: str = "") -> Iterator[Eve]:
        """The attacker at work."""
        words = (what, listen, str(PORT), target, str(PORT), str(self.root / "eve"), more)
        pipe = subprocess.PIPE
        argv = self.lan.attacker.argv(sys.executable, "-m", "tests.integration.eve", *words)
        process = subprocess.Popen(argv, cwd=SOURCE, stdin=pipe, stdout=pipe, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Eve(process)
        finally:
            process.kill()
            process.__exit__(None, None, None)

    @contextmanager
    def in_between(self, what: str, code: str = "") -> Iterator[Eve]:
        """The attacker where bravo looks for alfa."""
        alfa = self.lan.hosts[0]
        with self.lan.between(alfa) as behind, self.eve(what, alfa.address, behind, code) as eve:
            yield eve

    def invites(self) -> Command:
        """``loopsy pair`` on alfa; its code is ``codes[-1]``."""
        command = Command(self.alfa, "--expect-sas", "-")
        self.codes.append(command.value("inviteCode"))
        return command

    def joins(self) -> Command:
        """``loopsy pair <alfa>`` on bravo, with the code typed in."""
        command = Command(self.bravo, self.lan.hosts[0].address, "--code", "-", "--expect-sas", "-")
        command.says(self.codes[-1])
        return command

    def neither_is_paired(self) -> None:
        """No key anywhere, nobody in the books."""
        for node in self.both:
            config = configfile.load(node.layout.config).config
            assert (config.auth.allowed_keys, config.auth.peer_keys, config.tls.pinned_certs) == ({}, {}, {})
            assert json.loads(node.command("peers", "--json", check=True).stdout)["peers"] == []

    def pairs(self) -> None:
        """From the code to the pair, as two honest people do it."""
        leo, mia = self.invites(), self.joins()
        ours, theirs = leo.value("sas"), mia.value("sas")
        assert ours == theirs
        leo.says(theirs)
        mia.says(ours)
        assert (leo.ends()[0], mia.ends()[0]) == (0, 0)

    def parts(self) -> list[str]:
        """Both revoke and forget the other. The keys that were, for a look at the capture."""
        keys = []
        for node, other in ((self.alfa, "bravo"), (self.bravo, "alfa")):
            auth = configfile.load(node.layout.config).config.auth
            keys += [*auth.allowed_keys.values(), *auth.peer_keys.values()]
            node.command("peers", "revoke", other, check=True)
            node.command("peers", "remove", other, check=True)
        return keys


@define
class Eve:
    """The attacker's program."""

    process: subprocess.Popen[str]

    def tells(self) -> dict[str, Any]:
        """Stop, and tell what was seen."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        return dict(json.loads(self.process.stdout.read()))


class Command:
    """``loopsy pair --json`` on a host."""

    def __init__(self, node: HostNode, *words: str) -> None:
        assert node.host is not None
        pipe = subprocess.PIPE
        argv = node.host.argv(sys.executable, "-m", "loopsy.cli.main", "pair", "--json", *words)
        self.process = subprocess.Popen(argv, env=node.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def value(self, key: str) -> Any:
        """The first value of ``key`` in what it prints."""
        assert self.process.stdout is not None
        while select.select([self.process.stdout], [], [], PATIENCE_S)[0]:
            line = self.process.stdout.readline()
            assert line, self.process.communicate()
            found = json.loads(line).get(key)
            if found:
                return found
        raise AssertionError(f"{key} never came")

    def says(self, text: str) -> None:
        """A line on its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def ends(self) -> tuple[int, str]:
        """Its exit status, and what it said on stderr."""
        _, said = self.process.communicate(timeout=2 * PATIENCE_S)
        return self.process.returncode, said

    def is_called_off(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(2)
        assert self.ends()[0] == 130


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("lan")
    with lan(["alfa", "bravo"], root) as made:
        named: list[tuple[str, Host]] = [*zip(("alfa", "bravo"), made.hosts, strict=True)]
        nodes = [HostNode(root / name, name, PORT, host=host) for name, host in named]
        try:
            for node in nodes:
                node.write_config(server={"host": "0.0.0.0"}, tls={"enabled": True})
                node.start()
            yield Net(made, *nodes, root)
        finally:
            for node in nodes:
                node.stop()
        assert "Traceback" not in "".join(node.log for node in nodes)


# -- in between -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("what", "words"), [(row[0], row[2]) for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_who_alters_what_passes_gets_no_number_out_of_them(net: Net, what: str, words: str) -> None:
    with net.in_between(what) as eve:
        leo, mia = net.invites(), net.joins()
        status, said = mia.ends()
        assert (status, words in said) == (1, True), said
        assert eve.process.poll() is None
        leo.is_called_off()
        told = eve.tells()
    heard = bytes.fromhex(told["heard"]) + b"".join(map(bytes.fromhex, told["passed"]))
    assert net.codes[-1].encode() not in heard
    assert bool(heard) is not what.endswith("on the way")
    if heard and what.startswith("strips"):
        assert b"POST /api/v1/pair/initiate" in net.lan.seen()  # the capture does see what is in clear
    net.neither_is_paired()


def test_who_knows_the_code_is_told_by_the_numbers_and_can_not_use_it_again(net: Net) -> None:
    """Then what was heard is said again, to a new session with a new code."""
    leo = net.invites()
    with net.in_between("knows the code", net.codes[-1]) as eve:
        mia = net.joins()
        ours, theirs = leo.value("sas"), mia.value("sas")
        assert ours != theirs
        leo.says(theirs)
        mia.says(ours)
        ends = leo.ends(), mia.ends()
        assert [status for status, _ in ends] == [1, 1]
        assert any("the numbers are not the same" in said for _, said in ends)
        heard = eve.tells()["passed"]
    net.neither_is_paired()
    assert len(heard) >= 4
    leo = net.invites()
    with net.eve("replays", "-", net.lan.hosts[0].address, ",".join(heard)) as eve:
        answers = eve.tells()["answers"]
    assert len(answers) == len(heard)
    assert set(answers) <= {200, 7001, 7002, 7003, 7005, 9003}
    assert answers.count(200) <= 1  # the greeting may be answered: nothing is proved by it
    leo.is_called_off()
    net.neither_is_paired()


def test_a_number_that_was_ground_is_never_shown(net: Net) -> None:
    leo = net.invites()
    with net.in_between("knows the code and grinds", net.codes[-1]):
        mia = net.joins()
        status, said = mia.ends()
        assert (status, "is not the one it committed to" in said) == (1, True), said
    leo.value("sas")
    leo.is_called_off()
    net.neither_is_paired()


def test_a_mere_relay_sees_no_key_and_no_code(net: Net) -> None:
    """It passes TLS on, so the two do pair; then it wants to be alfa, and is nobody."""
    with net.in_between("relays"):
        net.pairs()
    with net.in_between("offers its certificate") as eve:
        ran = net.bravo.command("exec", "alfa", "true")
        assert (ran.returncode, b"certificate" in ran.stderr) == (255, True), ran
        assert eve.tells()["heard"] == ""
    ran = net.bravo.command("exec", "alfa", "echo", "hello", check=True)
    assert ran.stdout == b"hello\n"
    nothing_secret_passed(net, net.parts())
    net.neither_is_paired()


# -- beside them ------------------------------------------------------------------------------------------------------
def test_guessing_the_code_ends_the_session_at_the_third(net: Net) -> None:
    leo = net.invites()
    guesses = [f"{(int(net.codes[-1]) + n) % 10**6:06d}" for n in range(1, 5)] + [net.codes[-1]]
    with net.eve("brute-forces", "-", net.lan.hosts[0].address, ",".join(guesses)) as eve:
        answers = [answer for answer in eve.tells()["answers"] if answer != 9002]
    assert answers[:6] == [200, 7002] * 3
    assert set(answers[6:]) == {7002}  # the right one comes too late
    status, said = leo.ends()
    assert (status, "wrong three times" in said) == (1, True), said
    net.neither_is_paired()


@pytest.mark.parametrize("what", ["floods", "races"])
def test_the_honest_two_pair_beside(net: Net, what: str) -> None:
    """A flood of greetings; or guesses, and messages to a session that isn't the attacker's."""
    leo = net.invites()
    with net.eve(what, "-", net.lan.hosts[0].address) as eve:
        mia = net.joins()
        ours, theirs = leo.value("sas"), mia.value("sas")
        assert ours == theirs
        leo.says(theirs)
        mia.says(ours)
        assert (leo.ends()[0], mia.ends()[0]) == (0, 0)
        answers = eve.tells()["answers"]
    if what == "floods":
        assert answers.count(9002) > 0
    else:
        assert set(answers) <= {200, 7001, 7002, 7003, 7007, 9002}
    net.bravo.command("exec", "alfa", "true", check=True)
    nothing_secret_passed(net, net.parts())
    net.neither_is_paired()


def nothing_secret_passed(net: Net, keys: list[str]) -> None:
    """Of all that went over the bridge so far."""
    seen = net.lan.seen()
    assert b"\x16\x03\x01" in seen  # the capture does see the two talk
    assert len(set(keys)) == 2
    secrets = [text.encode() for text in (*keys, net.alfa.key, net.bravo.key, *net.codes)]
    assert [text for text in [*secrets, *map(bytes.fromhex, keys)] if text in seen] == []


def test_every_way_of_sitting_between_was_tried(net: Net) -> None:
    tried: set[str] = {row[0] for row in REFUSED} | {"relays", "knows the code", "knows the code and grinds"}
    assert tried == BETWEEN.keys()
    seen = net.lan.seen()
    assert [code for code in net.codes if code.encode() in seen] == []
