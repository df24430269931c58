"""Results a model can take: never longer than their budget, nothing hidden in them, no key, no address."""

import json
import string

from hypothesis import given
from hypothesis import strategies as st

from loopsy.errors import DaemonNotRunning, KeyNotFound, LoopsyError, PeerNotFound, PeerUnreachable
from loopsy.mcp.results import (
    HIDDEN,
    beginning,
    cost,
    ending,
    in_words,
    is_address,
    keys_of,
    moment,
    page,
    part,
    readable,
    shortened,
    visible,
    without_addresses,
    without_keys,
)
from tests.mcp.fake import CONFIG, KEY, PEER_KEY

ANY_TEXT = st.text(st.characters() | st.sampled_from('\0\x1b\n"\\\U0001f600'), max_size=400)


@given(ANY_TEXT, st.integers(0, 600))
def test_a_beginning_and_an_ending_cost_no_more_than_they_may(text: str, budget: int) -> None:
    first, last = beginning(text, budget), ending(text, budget)
    assert text.startswith(first)
    assert text.endswith(last)
    assert max(cost(first), cost(last)) <= budget
    if cost(text) <= budget:
        assert first == last == text


@given(ANY_TEXT, ANY_TEXT, st.integers(300, 900))
def test_a_shortened_text_costs_no_more_than_it_may(head: str, tail: str, budget: int) -> None:
    assert cost(shortened(head, tail, 10**9, budget)) <= budget


@given(ANY_TEXT, st.integers(1, 100))
def test_the_parts_of_a_text_are_the_text(text: str, budget: int) -> None:
    offset: int | None = 0
    parts = []
    while offset is not None:
        shown, offset = part(text, offset, max(budget, 12))
        parts.append(shown)
    assert "".join(parts) == text


@given(st.lists(st.integers(1, 50)), st.integers(1, 20), st.integers(1, 120))
def test_the_pages_of_a_list_are_the_list(items: list[int], limit: int, budget: int) -> None:
    offset: int | None = 0
    seen = []
    while offset is not None:
        shown, offset = page(items, offset, limit, lambda item: item, budget)
        assert len(shown) <= limit
        assert len(shown) <= 1 or sum(shown) <= budget
        seen += shown
    assert seen == items


@given(ANY_TEXT)
def test_nothing_hides_in_what_is_shown(text: str) -> None:
    assert not HIDDEN.search(visible(text))
    assert not HIDDEN.search(readable(text))
    visible(text).encode("utf-8")


def test_a_terminal_s_words_are_gone_and_what_they_dressed_stays() -> None:
    assert readable("\x1b[1;31mred\x1b[0m \x1b]0;title\x07done\r\nnext\x1b[2K") == "red done\nnext"
    assert visible("a\u202eb\U000e0041c\0d\te\n") == "a\ufffdb\ufffdc\ufffdd\te\n"


def test_keys_are_known_by_the_config_s_section_auth() -> None:
    assert keys_of(CONFIG) == {KEY, PEER_KEY}
    assert keys_of("auth:\n  # none\nserver:\n  hostname: a-very-long-host-name\n") == set()


def test_a_key_is_replaced_wherever_it_stands() -> None:
    text = json.dumps({"stdout": f"apiKey: {KEY}\n", "x": PEER_KEY})
    assert KEY not in without_keys(text, keys_of(CONFIG))
    assert PEER_KEY not in without_keys(text, keys_of(CONFIG))
    assert json.loads(without_keys(text, keys_of(CONFIG)))["stdout"] == "apiKey: [a loopsy key, left out]\n"


def test_where_machines_are_is_left_out_of_errors() -> None:
    said = "kai (192.168.1.7:19532) can't be reached; ask [fe80::1]:19532, 10.0.0.2:80 or manual-10.0.0.2:80, port 1234"
    cleaned = without_addresses(said)
    assert cleaned == "kai can't be reached; ask its address, its address or its address, its port"
    assert without_addresses("the name of kai (kai.lan:19532) is not known") == "the name of kai is not known"
    assert without_addresses("3 of 5 files (2 skipped) at 12:30") == "3 of 5 files (2 skipped) at 12:30"


def test_an_address_is_no_name() -> None:
    assert all(map(is_address, ("10.0.0.1", "10.0.0.1:80", "kai:19532", "::1", "[::1]:80", "manual-10.0.0.1:80")))
    assert not any(map(is_address, ("kai", "kai.lan", "kai-2", "6f1c7c1e", "10.0")))


@given(st.one_of(st.integers(), st.floats(), st.none(), st.text(string.printable), st.booleans()))
def test_a_moment_is_a_time_or_nothing(value: object) -> None:
    assert moment(value) is None or str(moment(value)).endswith("Z")


def test_times_are_in_utc() -> None:
    assert moment(1_700_000_000_000) == "2023-11-14T22:13:20Z"
    assert moment(0) is None


def test_errors_say_what_to_do() -> None:
    assert "loopsy start" in in_words(DaemonNotRunning())
    assert in_words(KeyNotFound("no such key")).endswith("loopsy_context_list shows the keys.")
    assert in_words(PeerNotFound("no peer is called 'x'", hint="did you mean y?")).splitlines()[1] == (
        "Did you mean y? loopsy_list_peers shows the names. For this machine leave peer out."
    )
    assert "loopsy_send_message" in in_words(PeerUnreachable("x (1.2.3.4:5) can't be reached", hint="a firewall?"))
    assert in_words(LoopsyError("it failed", hint="loopsy doctor says more")) == "it failed\nloopsy doctor says more"
    assert len(in_words(LoopsyError("x" * 10**6, hint="y" * 10**6))) < 6000
