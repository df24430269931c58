"""Pairing without I/O: vectors, the tables, and attackers in every place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from loopsy.core import pairing, pairing_inviter, pairing_joiner
from loopsy.core.pairing_inviter import ATTEMPTS, OPEN, Inviting
from loopsy.core.pairing_keys import Agreement, Ephemeral, Label, Role, Spake, commit, digits, reveal, revealed
from loopsy.core.pairing_messages import (
    Cancel,
    Confirm,
    Finish,
    Hello,
    Poll,
    Reveal,
    Revealed,
    Welcome,
    decode,
    encode,
    pack,
    unpack,
)
from loopsy.core.pairing_states import MESSAGES, Ended, Expired, Kept, Lost, No, NotKept, Refusal, Why, Yes, say
from loopsy.errors import (
    LoopsyError,
    NoPairingSession,
    PairingBusy,
    PairingEnded,
    PairingRefused,
    PairingViolation,
    RateLimited,
    WrongCode,
)
from loopsy.testing.pairing import CODE, INVITER, JOINER, TABLES, Talk, fixed, vectors, with_tables

ROOT = Path(__file__).parents[2]


def talk(**more: Any) -> Talk:
    """With entropy that a failing example repeats."""
    return Talk(inviter_entropy=fixed("i"), joiner_entropy=fixed("j"), **more)


# -- what should be ---------------------------------------------------------------------------------------------------
def test_the_right_code_makes_a_pair_with_the_same_number_and_crossed_keys() -> None:
    done = Talk().meet()
    ours, theirs = done.inviter.agreement, done.joiner.agreement
    assert ours == theirs
    assert ours.sas == theirs.sas
    assert len(ours.sas) == 6
    assert done.agree().finish().is_paired
    assert isinstance(done.inviter, pairing_inviter.Paired)
    assert isinstance(done.joiner, pairing_joiner.Paired)
    keys = {ours.key(Role.INVITER), ours.key(Role.JOINER)}
    assert all(len(key) == 64 and int(key, 16) for key in keys)
    assert len(keys) == 2


def test_no_secret_is_ever_said() -> None:
    done = Talk().meet().agree().finish()
    said = b"".join(data for _, data in done.said)
    agreement = done.inviter.agreement
    for role in Role:
        assert agreement.derive(Label.JOINER_PRESENTS if role is Role.JOINER else Label.INVITER_PRESENTS) not in said
        assert agreement.key(role).encode() not in said
    assert CODE.encode() not in said
    assert agreement.sas.encode() not in said


def test_vectors() -> None:
    assert json.loads((ROOT / "tests/vectors/pairing.json").read_text()) == vectors()


def test_the_document_has_the_tables_of_the_code() -> None:
    text = (ROOT / "docs/protocol/pairing.md").read_text()
    assert with_tables(text) == text, "run: python -m loopsy.testing.pairing"


def test_every_row_can_be_reached_by_its_states_and_says_what_it_does() -> None:
    for table in TABLES.values():
        reached = {kind for row in table.values() for kind in row.to} | {next(iter(table.values())).state}
        for row in table.values():
            assert row.state in reached, row
            assert row.does


def test_nothing_is_shown_by_repr_that_should_not_be() -> None:
    done = Talk().meet()
    shown = repr(done.inviter) + repr(done.joiner) + repr(Talk().inviter)
    assert done.inviter.agreement._root.hex() not in shown
    assert repr(done.inviter.agreement._root) not in shown
    assert CODE not in shown


# -- messages ---------------------------------------------------------------------------------------------------------
SAID = [data for _, data in talk().meet().agree().finish().said]


@given(st.sampled_from(SAID), st.data())
def test_a_message_has_one_form_only(said: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(said) - 1))
    changed = bytearray(said)
    changed[at] ^= data.draw(st.integers(1, 255))
    for candidate in (bytes(changed), said[:at], said + said[:at]):
        try:
            message = decode(candidate)
        except PairingViolation:
            continue
        assert encode(message) == candidate


@given(st.lists(st.binary(max_size=80), max_size=12))
def test_packing_is_exact(parts: list[bytes]) -> None:
    assert unpack(pack(*parts)) == parts


@given(st.binary(max_size=4000))
def test_any_bytes_are_a_message_or_a_violation(data: bytes) -> None:
    try:
        decode(data)
    except PairingViolation:
        pass


# -- the code ---------------------------------------------------------------------------------------------------------
@given(st.text("0123456789", min_size=6, max_size=6).filter(lambda code: code != CODE))
@settings(max_examples=20)
def test_a_wrong_code_is_counted_and_no_number_is_shown(typed: str) -> None:
    one = talk(typed=typed).meet()
    assert isinstance(one.joiner, Ended)
    assert one.joiner.why is Why.WRONG_CODE
    assert isinstance(one.inviter, Inviting)
    assert one.inviter.wrong == 1


def test_the_third_wrong_code_ends_the_session_for_the_right_one_too() -> None:
    one = talk()
    for number in range(ATTEMPTS):
        one.joiner = pairing_joiner.begin(JOINER, f"00000{number}", INVITER.fingerprint, fixed(f"x{number}"))
        one.meet()
        assert isinstance(one.joiner.refusal(), WrongCode)
        assert one.joiner.refusal().details == {"left": ATTEMPTS - 1 - number}
    assert isinstance(one.inviter, Ended)
    one.joiner = pairing_joiner.begin(JOINER, CODE, INVITER.fingerprint, fixed("right"))
    one.meet()
    assert isinstance(one.joiner, Ended)
    assert not one.is_paired


def test_guesses_side_by_side_are_three_at_most() -> None:
    """All greet before any proves: the counter is the session's, not the exchange's."""
    state: Any = talk().inviter
    guesses = []
    for number in range(OPEN):
        joiner = pairing_joiner.begin(JOINER, f"{number:06d}", INVITER.fingerprint, fixed(f"g{number}"))
        step = pairing_inviter.receive(state, joiner.hello)
        state = step.state
        guesses.append(pairing_joiner.receive(joiner, step.say).say)
    refusals = []
    for guess in guesses:
        step = pairing_inviter.receive(state, guess)
        state = step.state
        refusals.append(step.refusal)
    assert [type(refusal) for refusal in refusals[:ATTEMPTS]] == [WrongCode] * ATTEMPTS
    assert isinstance(state, Ended)


def test_a_greeting_alone_costs_no_try_and_a_flood_of_them_pushes_out_the_oldest() -> None:
    state: Any = talk().inviter
    for number in range(3 * OPEN):
        joiner = pairing_joiner.begin(JOINER, CODE, None, fixed(f"f{number}"))
        state = pairing_inviter.receive(state, joiner.hello).state
    assert (state.wrong, len(state.exchanges)) == (0, OPEN)


# -- a hand on the wire -----------------------------------------------------------------------------------------------
def changing(number: int, at: float, flip: int) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    """Wires that flip bits in one byte of the message of that number."""
    count = -1

    def wire(data: bytes) -> bytes:
        nonlocal count
        count += 1
        if count != number:
            return data
        changed = bytearray(data)
        changed[int(at * len(data))] ^= flip
        return bytes(changed)

    return wire, wire


@given(st.integers(0, len(SAID) - 2), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@settings(max_examples=300)
def test_a_changed_byte_in_any_message_makes_no_pair(number: int, at: float, flip: int) -> None:
    to_inviter, to_joiner = changing(number, at, flip)
    one = talk(to_inviter=to_inviter, to_joiner=to_joiner).meet()
    if not isinstance(one.joiner, Ended) and not isinstance(one.inviter, Ended | Inviting):
        assert one.inviter.agreement == one.joiner.agreement, "numbers are shown only of one and the same transcript"
    one.agree().finish()
    assert not one.is_paired


def test_a_changed_last_answer_leaves_the_joiner_asking_again() -> None:
    to_inviter, to_joiner = changing(len(SAID) - 1, 0.9, 1)
    one = talk(to_inviter=to_inviter, to_joiner=to_joiner).meet().agree().finish()
    assert isinstance(one.joiner, pairing_joiner.Agreed)
    one.finish()
    assert isinstance(one.joiner, pairing_joiner.Paired)


def joiner_messages(one: Talk) -> list[Any]:
    return [decode(data) for who, data in one.said if who == "joiner"]


@pytest.mark.parametrize("kind", [Hello, Reveal, Confirm, Cancel])
def test_a_message_said_twice_ends_the_session(kind: type) -> None:
    one = Talk().meet()
    agreement = one.inviter.agreement
    if kind in (Confirm, Cancel):
        label = Label.CONFIRM if kind is Confirm else Label.CANCEL
        said: Any = say(agreement, label, kind)
        one.inviter = pairing_inviter.receive(one.inviter, said).state
    else:
        said = next(message for message in joiner_messages(one) if isinstance(message, kind))
    step = pairing_inviter.receive(one.inviter, said)
    assert isinstance(step.state, Ended)
    assert step.refusal is not None


@given(st.lists(st.sampled_from([Hello, Reveal, Poll, Confirm, Cancel, Finish, Yes]), max_size=8))
def test_in_any_order_but_the_right_one_nothing_is_stored(order: list[type]) -> None:
    """Real messages of one session, said in any order and number to a fresh inviter of the same entropy."""
    source = talk().meet()
    agreement, said = source.joiner.agreement, joiner_messages(source)
    stock: dict[type, Any] = {
        Hello: said[0], Reveal: said[1], Yes: Yes(),
        **{kind: say(agreement, label, kind) for kind, label in
           ((Poll, Label.POLL), (Confirm, Label.CONFIRM), (Cancel, Label.CANCEL), (Finish, Label.FINISH))},
    }  # fmt: skip
    state: Any = talk().inviter
    before: list[type] = []
    for kind in order:
        event = stock[kind]
        step = pairing_inviter.happened(state, event) if kind is Yes else pairing_inviter.receive(state, event)
        state = step.state
        before.append(kind)
        if isinstance(state, pairing_inviter.Keeping):
            essential = [k for k in before if k is not Poll]
            assert essential[:2] == [Hello, Reveal]
            assert set(essential[2:4]) == {Confirm, Yes}
            assert essential[4] is Finish


@given(st.lists(st.sampled_from([Yes(), No(), Expired(), Lost(), Kept(), NotKept("x"), Refusal(PairingEnded())])))
def test_what_humans_and_clocks_do_alone_never_makes_a_pair_and_an_end_is_the_end(events: list[Any]) -> None:
    one = Talk().meet()
    for machine, state in ((pairing_inviter, one.inviter), (pairing_joiner, one.joiner)):
        has_ended = False
        for event in events:
            state = machine.happened(state, event).state
            assert not isinstance(state, machine.Paired)
            assert not has_ended or isinstance(state, Ended)
            has_ended = isinstance(state, Ended)


def test_the_joiner_takes_no_answer_out_of_order() -> None:
    answers = [decode(data) for who, data in SAID_WITH if who == "inviter"]
    for state_of in (lambda: talk().joiner, lambda: talk().meet().joiner):
        for answer in answers:
            step = pairing_joiner.receive(state_of(), answer)
            assert isinstance(step.state, Ended | pairing_joiner.Proving | pairing_joiner.Comparing)


SAID_WITH = talk().meet().agree().finish().said


def test_a_message_for_another_exchange_is_refused_and_changes_nothing() -> None:
    one = Talk().meet()
    for kind in (Poll, Confirm, Cancel, Finish):
        step = pairing_inviter.receive(one.inviter, kind(exchange=bytes(16), token=bytes(32)))
        assert step.state is one.inviter
        assert isinstance(step.refusal, NoPairingSession)


def test_once_the_pair_is_stored_no_message_undoes_it() -> None:
    one = Talk().meet().agree().finish()
    agreement = one.inviter.agreement
    for kind, label in ((Poll, Label.POLL), (Confirm, Label.CONFIRM), (Cancel, Label.CANCEL), (Finish, Label.DONE)):
        step = pairing_inviter.receive(one.inviter, say(agreement, label, kind))  # type: ignore[arg-type]
        assert step.state is one.inviter
        assert step.refusal is not None
    for message in joiner_messages(one):
        assert isinstance(pairing_inviter.receive(one.inviter, message).state, pairing_inviter.Paired)


def test_another_joiner_is_refused_once_one_has_proved_the_code() -> None:
    one = Talk().meet()
    other = pairing_joiner.begin(JOINER, CODE, None, fixed("other"))
    step = pairing_inviter.receive(one.inviter, other.hello)
    assert isinstance(step.refusal, PairingBusy)
    assert step.state is one.inviter


def test_a_no_on_either_side_is_told_to_the_other() -> None:
    one = Talk().meet()
    one.inviter = pairing_inviter.happened(one.inviter, No()).state
    one.ask(pairing_joiner.poll(one.joiner))
    assert isinstance(one.joiner.refusal(), PairingRefused)
    two = Talk().meet()
    step = pairing_joiner.happened(two.joiner, No(mismatch=True))
    two.joiner = step.state
    with pytest.raises(LoopsyError):
        two.hear(encode(step.say))
    assert isinstance(two.inviter, Ended)
    assert two.inviter.why is Why.REFUSED


# -- the man in the middle --------------------------------------------------------------------------------------------
class Middle:
    """An attacker who even knows the code, and plays the joiner to the inviter and the inviter to the joiner.

    ``keeps`` says what he passes on unchanged; the rest is his own, made with the code as an honest side would."""

    def __init__(self, keeps: frozenset[str], seed: str = "m", code: str = CODE) -> None:
        entropy = fixed(seed)
        self.keeps = keeps
        self.spakes = {role: Spake(role, code, entropy) for role in Role}
        self.ephemerals = {role: Ephemeral.make(entropy) for role in Role}
        self.real: dict[type, Any] = {}
        self.mine: dict[type, Any] = {}

    def _own(self, message: Any, role: Role) -> Any:
        """A greeting in which what is not kept is his."""
        own = {"nonce": b"m" * 32, "spake": self.spakes[role].message}
        own["commitment"] = self.ephemerals[role].commitment(role)
        facts = {"name": "mallory", "node_id": "m", "port": 6}
        return evolve(message, **{name: value for name, value in {**own, **facts}.items() if name not in self.keeps})

    def to_inviter(self, data: bytes) -> bytes:
        message = self.real[type(decode(data))] = decode(data)
        if isinstance(message, Hello):
            message = self._own(message, Role.JOINER)
        elif isinstance(message, Reveal) and "commitment" not in self.keeps:
            message = self._reveal(message)
        self.mine[type(message)] = message
        return encode(message)

    def _reveal(self, real: Reveal) -> Reveal:
        if "spake" in self.keeps:
            mine = self.ephemerals[Role.JOINER]
            return evolve(real, public=mine.public, opening=mine.opening)
        welcome = self.real[Welcome]
        key = self.spakes[Role.JOINER].key(welcome.spake)
        return reveal(key, self.ephemerals[Role.JOINER], welcome.exchange, self.mine[Hello], welcome)

    def to_joiner(self, data: bytes) -> bytes:
        message = self.real[type(decode(data))] = decode(data)
        if isinstance(message, Welcome):
            message = self._own(message, Role.INVITER)
        elif isinstance(message, Revealed) and "commitment" not in self.keeps:
            message = self._revealed(message)
        self.mine[type(message)] = message
        return encode(message)

    def _revealed(self, real: Revealed) -> Revealed:
        mine = self.ephemerals[Role.INVITER]
        if "spake" in self.keeps:
            return evolve(real, public=mine.public, opening=mine.opening)
        hello = self.real[Hello]
        key = self.spakes[Role.INVITER].key(hello.spake)
        return revealed(key, mine, hello, self.mine[Welcome], self.real[Reveal])


PLACES = ("nonce", "spake", "commitment", "name", "node_id", "port")


@given(st.frozensets(st.sampled_from(PLACES)), st.booleans(), st.booleans(), st.integers())
@settings(max_examples=120)
def test_a_man_in_the_middle_never_ends_with_one_number_on_both_screens(
    keeps: frozenset[str], at_inviter: bool, at_joiner: bool, seed: int
) -> None:
    """Whatever he substitutes, on one side or both, knowing the code: the numbers differ, or there are none. Two people
    who say yes just to what is the same never pair."""
    middle = Middle(keeps, str(seed))
    one = talk()
    if at_inviter:
        one.to_inviter = middle.to_inviter
    if at_joiner:
        one.to_joiner = middle.to_joiner
    touched = (at_inviter or at_joiner) and keeps != frozenset(PLACES)
    try:
        one.meet()
    except KeyError:
        return  # one-sided: he lacks what he would have to have heard
    both_show = hasattr(one.inviter, "agreement") and hasattr(one.joiner, "agreement")
    if both_show and touched:
        assert one.inviter.agreement.sas != one.joiner.agreement.sas
    if not touched:
        assert one.inviter.agreement == one.joiner.agreement


def test_the_full_relay_with_the_code_shows_two_different_numbers() -> None:
    """The strongest one: all is his, both sides are content with the proofs. Only the people can see it, and do."""
    middle = Middle(frozenset())
    one = Talk(to_inviter=middle.to_inviter, to_joiner=middle.to_joiner).meet()
    assert one.inviter.agreement.sas != one.joiner.agreement.sas


def test_another_certificate_or_stripped_tls_gets_no_further_than_welcome() -> None:
    for seen in ("cc" * 32, None):
        one = talk()
        one.joiner = pairing_joiner.begin(JOINER, CODE, seen, fixed("j"))
        one.meet()
        assert isinstance(one.joiner, Ended)
        assert one.joiner.why is Why.VIOLATION
    plain = pairing_inviter.begin(evolve(INVITER, fingerprint=""), CODE, fixed("i"))
    one = talk(inviter=None)
    one.inviter, one.joiner = plain, pairing_joiner.begin(JOINER, CODE, None, fixed("j"))
    assert one.meet().inviter.agreement == one.joiner.agreement


# -- the grind --------------------------------------------------------------------------------------------------------
GRIND = 3000
"""Keys that the attacker tries. With numbers of 2 digits instead of 6 he meets the other's at about every 100th."""


def test_without_commitments_numbers_can_be_ground_to_match_and_with_them_not() -> None:
    """The attack on ECDH and six digits alone: wait for the other side's key, then try own keys until the numbers are
    the same. Here the number has two digits, so that three thousand tries stand for thirty million.

    Without commitments (each try may be said) he finds many. With them the key he may say is the one he committed to
    before he knew anything, and a session has one commitment: every other key he tries is refused.
    """
    middle = Middle(frozenset())
    one = talk(to_inviter=middle.to_inviter, to_joiner=middle.to_joiner).meet()
    target = int(one.inviter.agreement.sas) % 100
    hello, welcome, opened = middle.real[Hello], middle.mine[Welcome], middle.real[Reveal]
    key = Spake(Role.INVITER, CODE, fixed("again")).key(hello.spake)
    before = pack(encode(hello), encode(welcome), encode(opened))
    found = 0
    for number in range(GRIND):
        root = Agreement.of(opened.exchange, key, number.to_bytes(4, "big"), before)
        found += int(digits(root.derive(Label.SAS, 16))) % 100 == target
    assert found > GRIND / 100 / 3, "the grind itself works: this is what the commitment is against"

    said = middle.mine[Revealed]
    state = pairing_joiner.Proving(
        hello=hello, welcome=welcome, ours=opened, ephemeral=talk().joiner.ephemeral, key=key
    )
    for number in range(50):
        other = Ephemeral.make(fixed(f"ground {number}"))
        tried = revealed(key, other, hello, welcome, opened)
        assert commit(Role.INVITER, tried.public, tried.opening) != welcome.commitment
        step = pairing_joiner.receive(state, evolve(tried, exchange=said.exchange))
        assert isinstance(step.state, Ended)
        assert step.state.why is Why.VIOLATION


# -- around it --------------------------------------------------------------------------------------------------------
def test_a_name_is_the_hostname_made_unique_and_a_known_node_keeps_its_own() -> None:
    known = {"kai": "node-1", "leo": "node-2"}
    assert pairing.name_for("node-1", "renamed", known, {"kai", "leo"}) == "kai"
    assert pairing.name_for("node-3", "kai", known, {"kai", "leo"}) == "kai-2"
    assert pairing.name_for("node-3", "kai", known, {"kai", "leo", "kai-2"}) == "kai-3"
    assert pairing.name_for("node-3", "mia", known, {"mia"}) == "mia-2"
    assert pairing.name_for("node-3", "../a b\x1b[31m", {}, set()) == "a-b-31m"
    assert pairing.name_for("node-3", "\x00/", {}, set()) == "peer"
    for ours in ("local", "stranger"):  # callers are told apart by name
        assert pairing.name_for("node-3", ours, {}, set()) == f"{ours}-2"


@given(st.text(max_size=80), st.frozensets(st.text(max_size=5), max_size=8))
def test_a_name_never_takes_the_keys_of_another(hostname: str, keyed: frozenset[str]) -> None:
    assert pairing.name_for("new", hostname, {}, keyed) not in keyed


def test_greetings_are_limited_for_each_address_and_in_all() -> None:
    door = pairing.Door()
    let_in = lambda address, now: not _refused(door, address, now)  # noqa: E731
    assert [let_in("10.0.0.1", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert let_in("10.0.0.2", 0.0)
    assert let_in("10.0.0.1", 1.1)
    crowd = pairing.Door()
    passed = sum(not _refused(crowd, f"10.0.{n % 250}.{n // 250}", n / 1000) for n in range(10_000))
    assert passed <= pairing.OVERALL[1] + 10 * pairing.OVERALL[0] + 1
    assert len(crowd._buckets) <= pairing.ADDRESSES
    assert pairing.network("fe80::1%eth0") == pairing.network("fe80::2")
    assert pairing.network("::ffff:10.0.0.1") != pairing.network("::ffff:10.0.0.2")


def _refused(door: pairing.Door, address: str, now: float) -> bool:
    try:
        door.knock(address, now)
    except RateLimited:
        return True
    return False


def test_messages_are_all_known() -> None:
    assert {type(decode(data)) for data in SAID} < set(MESSAGES)
