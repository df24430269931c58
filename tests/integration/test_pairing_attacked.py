"""Pairing between two real daemons with TLS on, and somebody in between who strips it, or shows another certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loopsy.testing.nodes import Node
from tests.integration.between import Between
from tests.integration.eve import BETWEEN, Place
from tests.integration.test_pairing import both_work, join, neither_is_paired, reaches, start, state, yes


@pytest.fixture
def two(make_node: Callable[..., Node]) -> tuple[Node, Node]:
    """With TLS, knowing nothing of each other."""
    a, b = (make_node(name, tls={"enabled": True}).start() for name in ("alfa", "bravo"))
    return a, b


@pytest.fixture
def sit(two: tuple[Node, Node], tmp_path: Path) -> Iterator[Callable[..., Between]]:
    """Puts somebody between bravo, who joins, and alfa."""
    made: list[Between] = []

    def put(what: str, code: str = "") -> Between:
        place = Place(target=("127.0.0.1", two[0].port), root=tmp_path / "eve", code=code)
        made.append(BETWEEN[what](place).__enter__())
        return made[-1]

    yield put
    for between in made:
        between.__exit__(None, None, None)


REFUSED = (
    ("offers its certificate", 7005, "the certificate on the connection is not the other machine's", 3),
    ("offers its certificate and names it", 7002, "the code is wrong", 2),
    ("strips TLS", 7005, "the certificate on the connection is not the other machine's", 3),
    ("strips TLS by silence", 7005, "the certificate on the connection is not the other machine's", 3),
    ("strips TLS and says there is none", 7002, "the code is wrong", 2),
    ("changes certificates on the way", 2006, "certificate", 3),
    ("strips TLS on the way", 2003, "does not speak TLS as expected", 3),
)
"""What is done; how it ends for the joiner; the tries that the inviter has left: only who proved the code wrongly has
cost one."""


@pytest.mark.parametrize(("what", "code", "words", "left"), REFUSED, ids=[row[0] for row in REFUSED])
def test_it_ends_before_there_is_a_number(
    two: tuple[Node, Node], sit: Callable[..., Between], what: str, code: int, words: str, left: int
) -> None:
    a, b = two
    invite = start(a)
    between = sit(what)
    join(b, between.port, invite)
    ended = reaches(b, "ended")
    assert (ended["fault"]["code"], words in ended["fault"]["message"]) == (code, True), ended
    assert "sas" not in ended
    there = a.ask("GET", "/pair/status").body
    assert (there["state"], there.get("triesLeft")) == ("inviting", left)
    if what.endswith("on the way"):
        assert bytes(between.heard) == b""  # not one byte of a request was said to the other
    assert invite.encode() not in b"".join(between.passed) + between.heard
    neither_is_paired(a, b)
    join(b, a.port, invite)  # the code is as good as before for the two alone
    ours, theirs = reaches(a, "comparing")["sas"], reaches(b, "comparing")["sas"]
    assert ours == theirs
    yes(a, ours)
    yes(b, ours)
    reaches(a, "paired")
    reaches(b, "paired")
    both_work(a, b)
    assert "Traceback" not in a.log + b.log


def test_with_the_code_and_a_certificate_the_numbers_tell(two: tuple[Node, Node], sit: Callable[..., Between]) -> None:
    """The strongest place: TLS ends at the attacker, who knows the code and names its own certificate."""
    a, b = two
    invite = start(a)
    between = sit("knows the code", invite)
    join(b, between.port, invite)
    ours, theirs = reaches(a, "comparing"), reaches(b, "comparing")
    assert ours["sas"] != theirs["sas"]
    assert theirs["peer"]["hostname"] == "alfa"
    answer: Any = b.ask("POST", "/pair/confirm", {"accept": True, "sas": ours["sas"]})  # as a person who compares
    assert (answer.status, answer.body["error"]["code"]) == (409, 7004)
    assert state(b) == "ended"
    a.ask("POST", "/pair/confirm", {"accept": False})
    neither_is_paired(a, b)


def test_a_key_ground_to_the_same_number_is_not_the_one_committed_to(
    two: tuple[Node, Node], sit: Callable[..., Between]
) -> None:
    a, b = two
    invite = start(a)
    between = sit("knows the code and grinds", invite)
    join(b, between.port, invite)
    ended = reaches(b, "ended")
    assert (ended["fault"]["code"], "committed" in ended["fault"]["message"]) == (7005, True), ended
    assert state(a) == "comparing"  # with nobody who could say the same number
    a.ask("DELETE", "/pair")
    neither_is_paired(a, b)


def test_who_only_passes_tls_on_is_no_more_than_a_wire(two: tuple[Node, Node], sit: Callable[..., Between]) -> None:
    """And is shut out as soon as it wants to be more."""
    a, b = two
    invite = start(a)
    between = sit("relays")
    join(b, between.port, invite)
    ours, theirs = reaches(a, "comparing")["sas"], reaches(b, "comparing")["sas"]
    assert ours == theirs
    yes(a, ours)
    yes(b, theirs)
    reaches(a, "paired")
    reaches(b, "paired")
    both_work(a, b)
    between._fronts = ("tls",)
    between._certificate = Place(target=("127.0.0.1", a.port), root=a.root.parent / "eve").context
    b.ask("POST", "/peers", {"address": "127.0.0.1", "port": between.port, "hostname": "alfa"})
    answer = b.ask("GET", "/peers/alfa/status")
    assert (answer.status, answer.body["error"]["code"]) in ((502, 2006), (502, 2003))
    assert bytes(between.heard) == b""
