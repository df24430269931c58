"""The peer book."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core import peers
from loopsy.core.peers import (
    FAILURES,
    LONGEST_WAIT_S,
    Book,
    Record,
    heard,
    identified,
    key_for,
    manual,
    missed,
    probe_wait,
)
from loopsy.errors import InvalidRequest, PeerNotFound
from loopsy.wire.peers import OFFLINE, ONLINE, UNKNOWN, NodeIdentity

NAMES = st.sampled_from([None, "kai", "leo", "mia"])
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2"])
RECORDS = st.builds(
    manual, ADDRESSES, st.sampled_from([1, 2]), NAMES, st.none() | st.sampled_from(["n1", "n2", "n3", "n4"])
)


def record(name: str | None = None, node_id: str | None = None, address: str = "10.0.0.9", port: int = 19532) -> Record:
    return manual(address, port, name, node_id)


@given(st.lists(st.tuples(RECORDS, st.none() | st.sampled_from(["n1", "n2"]))))
def test_no_two_records_share_a_name_or_a_node_id_and_whatever_was_filed_last_is_there(
    puts: list[tuple[Record, str | None]],
) -> None:
    book = Book()
    for put, instead_of in puts:
        before = {r.node_id for r in book.all()}
        gone = book.put(put, instead_of)
        after = {r.node_id for r in book.all()}
        assert book.get(put.node_id) is put
        assert after == (before - set(gone)) | {put.node_id}
        names = [r.name for r in book.all() if r.name is not None]
        assert len(names) == len(set(names))
        assert instead_of in (None, put.node_id) or instead_of not in after
        assert sum(not r.is_identified and r.endpoint == put.endpoint for r in book.all()) <= 1


@given(st.lists(RECORDS), st.text(max_size=6))
def test_a_word_means_one_peer_or_says_why_not(records: list[Record], word: str) -> None:
    book = Book()
    for one in records:
        book.put(one)
    for each in [word, *(r.node_id for r in book.all()), *(r.name or "" for r in book.all())]:
        try:
            assert book.resolve(each) in book.all()
        except (PeerNotFound, InvalidRequest) as error:
            assert repr(each) in error.message
    for one in book.all():
        if one.name is not None:
            assert book.resolve(one.name) is one


def test_a_name_counts_before_a_strangers_hostname() -> None:
    ours, stranger = record("kai", "n1"), evolve(record(None, "n2", "10.0.0.66"), hostname="kai")
    book = Book([stranger, ours])
    assert book.resolve("kai") is ours


def test_words_that_name_a_peer() -> None:
    one = record("kai", "0123-4567", "10.0.0.1", 5)
    book = Book([one, record("leo", "0199-9999", "fe80::1", 6)])
    for word in ("kai", "0123-4567", "10.0.0.1", "10.0.0.1:5", "0123"):
        assert book.resolve(word) is one
    assert book.resolve("[fe80::1]:6").name == "leo"
    for word in ("012", "10.0.0.1:6", "KAI", ""):
        with pytest.raises(PeerNotFound):
            book.resolve(word)


def test_two_that_are_meant_are_both_named_and_a_near_miss_is_guessed() -> None:
    book = Book([record("kai", "abcd-1"), record("leo", "abcd-2")])
    with pytest.raises(InvalidRequest, match=r"may mean several peers: abcd-1 \(kai.*abcd-2 \(leo"):
        book.resolve("abcd")
    with pytest.raises(PeerNotFound) as caught:
        book.resolve("kay")
    assert (caught.value.hint, caught.value.details["near"]) == ("did you mean kai?", ["kai"])


def test_a_manual_entry_becomes_the_real_one_when_its_node_id_is_learnt() -> None:
    book = Book([record("kai")])
    base = book.resolve("kai")
    real = identified(base, NodeIdentity(node_id="n1", hostname="kais-mac", port=19532), 7)
    assert book.put(real, instead_of=base.node_id) == ("manual-10.0.0.9:19532",)
    assert [(r.node_id, r.name, r.hostname, r.last_seen) for r in book.all()] == [("n1", "kai", "kais-mac", 7)]
    assert book.resolve("manual-10.0.0.9:19532").node_id == "n1", "whoever read the list just before may still mean it"
    book.put(evolve(record(None, "n2"), address="10.0.0.1", hostname="manual-10.0.0.9:19532"))
    assert book.resolve("manual-10.0.0.9:19532").node_id == "n1", "and a stranger can't call himself so"


def test_a_removed_peer_is_gone_and_cannot_be_removed_twice() -> None:
    book = Book([record("kai", "n1")])
    assert book.remove("n1").name == "kai"
    with pytest.raises(PeerNotFound):
        book.remove("n1")


def test_three_missed_probes_make_a_peer_offline_and_one_answer_brings_it_back() -> None:
    statuses = [(r := record()).status]
    for _ in range(4):
        r = missed(r)
        statuses.append(r.status)
    assert statuses == [UNKNOWN, UNKNOWN, UNKNOWN, OFFLINE, OFFLINE]
    back = heard(r, 9)
    assert (back.status, back.failure_count, back.last_seen) == (ONLINE, 0, 9)


@given(st.integers(0, 10**6))
def test_waits_between_probes_only_grow_and_stay_bounded(failures: int) -> None:
    wait = probe_wait(evolve(record(), failure_count=failures))
    assert peers.INTERVAL_S <= wait <= LONGEST_WAIT_S
    assert failures >= FAILURES or wait == peers.INTERVAL_S
    assert wait <= probe_wait(evolve(record(), failure_count=failures + 1))


PEER_KEYS, ALLOWED = {"kai": "ours-for-kai"}, {"kai": "kais", "leo": "leos"}


def test_a_named_peer_gets_its_own_key_and_the_one_it_presents_where_there_is_no_other() -> None:
    book = Book([record("kai", "n1"), record("leo", "n2"), record("mia", "n3")])
    keys = [key_for(book.resolve(name), book, PEER_KEYS, ALLOWED) for name in ("kai", "leo", "mia")]
    assert keys == ["ours-for-kai", "leos", None]


def test_a_peer_without_a_name_gets_a_key_only_if_it_can_mean_nobody_else() -> None:
    nameless = record(None, "n9")
    assert key_for(nameless, Book([nameless]), {}, {"kai": "k"}) == "k"
    assert key_for(nameless, Book([nameless]), {}, ALLOWED) is None
    assert key_for(nameless, Book([nameless, record("kai", "n1")]), {}, ALLOWED) == "leos"
    assert key_for(nameless, Book([nameless]), {}, {"kai": "k"}, {"kai"}) is None, "it goes with kai's certificate"
    stranger = evolve(nameless, manually_added=False, hostname="kai")
    assert key_for(stranger, Book([stranger]), {}, {"kai": "k"}) is None


def test_labels_outlast_a_new_address_and_the_real_node_id() -> None:
    """Whatever takes the place of a record has its labels, but for its own."""
    book = Book([evolve(record("kai", "old"), labels=("gpu",))])
    moved = record("kai", "manual-10.0.0.7:19532", address="10.0.0.7")
    assert book.with_labels(moved).labels == ("gpu",)
    nameless = Book([evolve(record(None, "manual-x"), labels=("gpu",))])
    assert nameless.with_labels(record(None, "real"), "manual-x").labels == ("gpu",)
    assert nameless.with_labels(record("leo", "other")).labels == ()
    assert nameless.with_labels(record(None, "manual-x")).labels == (), "taken away is taken away"
