"""What is announced and found: whatever a stranger sends is read, cut and cleaned, and moves or crowds out nobody."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core import discovery as rules
from loopsy.core.around import Around
from loopsy.core.discovery import (
    ASK_EACH_S,
    FOUND_MAX,
    GONE_S,
    LIMITS,
    MISSES,
    OFFERS_MAX,
    OFFLINE_S,
    PLACES_MAX,
    Networks,
    Service,
    Sighting,
    likely_places,
    offers,
    read,
    read_text,
    server_of,
    text_of,
)
from loopsy.wire.peers import OFFLINE, ONLINE, UNKNOWN, NodeIdentity, SharedPeer

HERE = Networks(addresses=("10.0.0.1", "172.17.0.1"), links=(ip_network("10.0.0.0/24"), ip_network("172.17.0.0/16")))
OWN = NodeIdentity(
    node_id="0123-own-node", hostname="leo", platform="linux", version="1.0.0", port=19532, capabilities=("execute",)
)
KAI = "ca1f-kai-node"
ADDRESSES = st.one_of(st.ip_addresses().map(str), st.text(max_size=20), st.sampled_from(["10.0.0.1", "127.0.0.1"]))


def strings(*texts: bytes) -> bytes:
    return b"".join(bytes([len(text)]) + text for text in texts)


def service(node_id: str = KAI, address: str = "10.0.0.2", port: int = 19532, instance: str = "") -> Service:
    return Service(
        instance=instance or rules.instance_of(node_id),
        server="kai.ca1f.local.",
        port=port,
        addresses=(address,),
        text=strings(b"nodeId=" + node_id.encode(), b"version=1.0.0", b"platform=linux", b"capabilities=execute,peers"),
    )


def sighting(node_id: str = KAI, address: str = "10.0.0.2", now: float = 0.0, instance: str = "") -> Sighting:
    found = read(service(node_id, address, instance=instance), HERE, OWN.port, now)
    assert found is not None
    return found


# -- the TXT record ---------------------------------------------------------------------------------------------------
@given(
    st.builds(
        NodeIdentity,
        node_id=st.from_regex(rules.NODE_ID, fullmatch=True),
        hostname=st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=80),
        platform=st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
        version=st.from_regex(r"[0-9.]{1,20}", fullmatch=True),
        port=st.integers(1, 65535),
        capabilities=st.lists(st.from_regex(r"[a-z-]{1,40}", fullmatch=True), max_size=12).map(tuple),
    )
)
def test_what_one_node_announces_another_reads(own: NodeIdentity) -> None:
    found = Service(instance="x", server=server_of(own), port=own.port, addresses=("10.0.0.7",), text=text_of(own))
    seen = read(found, HERE, 1, 0.0)
    assert seen is not None
    assert (seen.node_id, seen.platform, seen.version) == (own.node_id, own.platform, own.version)
    assert seen.capabilities == own.capabilities[: len(seen.capabilities)]
    assert len(seen.capabilities) == len(own.capabilities) or sum(map(len, own.capabilities)) > 200
    assert all(len(label.encode()) <= 63 for label in server_of(own).split("."))
    assert seen.hostname


@given(st.binary(max_size=3000))
def test_any_bytes_are_a_text_record_of_harmless_words(data: bytes) -> None:
    for key, value in read_text(data).items():
        assert value.isprintable() or not value
        assert len(value) <= LIMITS[key]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"nodeId", b"NODEID", b"version", b"platform", b"capabilities", b"x", b""]),
            st.binary(max_size=230),
        ),
        max_size=20,
    ),
    st.text(max_size=300),
    st.lists(ADDRESSES, max_size=40),
    st.integers(-5, 70_000),
)
def test_a_hostile_service_is_cut_to_size_or_left_out(
    pairs: list[tuple[bytes, bytes]], server: str, addresses: list[str], port: int
) -> None:
    text = strings(*(key + b"=" + value for key, value in pairs))
    found = Service(instance="evil", server=server, port=port, addresses=tuple(addresses), text=text)
    seen = read(found, HERE, OWN.port, 0.0)
    if seen is None:
        return
    assert rules.NODE_ID.fullmatch(seen.node_id)
    assert 1 <= len(seen.places) <= PLACES_MAX
    for word in (seen.hostname, seen.platform, seen.version, *seen.capabilities):
        assert word.isprintable()
        assert 1 <= len(word) <= 64
    assert len(seen.capabilities) <= rules.CAPABILITIES_MAX


def test_the_first_of_a_key_counts_and_its_case_does_not() -> None:
    text = strings(b"NodeID=first-node", b"nodeId=second-node", b"flag", b"=x", b"version=\x1b[31m1.0\r\n")
    assert read_text(text) == {"nodeid": "first-node", "version": "[31m1.0"}
    assert read_text(b"\xffshort") == {}


@pytest.mark.parametrize("node_id", ["", "short", "../../etc/passwd", "a" * 129, "kai kai kai", "-dash-first"])
def test_what_is_no_node_id_is_no_node(node_id: str) -> None:
    assert read(service(node_id), HERE, OWN.port, 0.0) is None


def test_our_addresses_have_a_name_of_ours() -> None:
    assert server_of(OWN) == "leo.0123ownn.local."
    assert server_of(evolve(OWN, hostname="Leos MacBook (2).fritz.box")) == "leos-macbook-2.0123ownn.local."
    assert server_of(evolve(OWN, hostname="каи")) == "loopsy.0123ownn.local."


# -- where we would go ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("addresses", "places"),
    [
        (["192.168.7.7", "172.17.0.1", "10.0.0.2"], ["10.0.0.2", "192.168.7.7", "172.17.0.1"]),
        (["8.8.8.8", "2001:4860::8888"], []),
        (["127.0.0.1", "::1", "0.0.0.0", "224.0.0.251", "fe80::1", "169.254.3.3", "nonsense"], []),
        (["10.0.0.2"] * 9, ["10.0.0.2"]),
        ([f"10.0.0.{number}" for number in range(2, 9)], ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]),
    ],
)
def test_places_are_near_and_few(addresses: list[str], places: list[str]) -> None:
    assert [address for address, _ in likely_places(addresses, 7, HERE, OWN.port)] == places


def test_our_own_door_is_no_place_but_another_port_here_is() -> None:
    assert likely_places(["10.0.0.1"], OWN.port, HERE, OWN.port) == ()
    assert likely_places(["10.0.0.1"], 7, HERE, OWN.port) == (("10.0.0.1", 7),)
    assert likely_places(["127.0.0.1"], 7, Networks(addresses=("127.0.0.1",)), OWN.port) == (("127.0.0.1", 7),)


# -- what is kept -----------------------------------------------------------------------------------------------------
def test_a_flood_does_not_crowd_out_those_who_answer_and_stays_bounded() -> None:
    around = Around(OWN.node_id)
    for number in range(10):
        real = around.take(sighting(f"real-node-{number}", now=1.0, instance=f"real {number}"))
        assert real is not None
        around.answered(real.instance, real.places[0], 1.0, 1)
    for number in range(5 * FOUND_MAX):
        around.take(sighting(f"fake-{number}-node", now=2.0 + number, instance=f"fake {number}"))
    assert len(around) == FOUND_MAX
    shown = around.strangers((), ())
    assert {f"real-node-{number}" for number in range(10)} <= {peer.node_id for peer in shown}
    for number in range(FOUND_MAX - 10):
        seen = around.take(sighting(f"more-{number}-node", instance=f"more {number}"))
        assert seen is not None
        around.answered(seen.instance, seen.places[0], 3.0, 1)
    assert around.take(sighting("late-node", instance="late")) is None
    assert len(around) == FOUND_MAX


def test_who_claims_to_be_us_is_nobody() -> None:
    around = Around(OWN.node_id)
    assert around.take(sighting(OWN.node_id)) is None
    around.offered("kai", offers([shared(OWN.node_id), shared("other-node")], "kai", OWN.node_id))
    assert [peer.node_id for peer in around.strangers((), ())] == ["other-node"]


def test_its_life() -> None:
    around = Around(OWN.node_id)
    one = around.take(sighting())
    assert one is not None
    assert (one.status, one.is_due(0.0)) == (UNKNOWN, True)
    around.asked(one.instance, 0.0)
    around.answered(one.instance, ("10.0.0.2", 19532), 1.0, 1000)
    (peer,) = around.strangers((), ())
    assert (peer.status, peer.last_seen, peer.found, peer.trusted, peer.name) == (ONLINE, 1000, True, False, None)
    assert around.due(ASK_EACH_S - 1, ()) == []
    assert [each.node_id for each in around.due(ASK_EACH_S, ())] == [KAI]
    assert around.due(ASK_EACH_S, (KAI,)) == []
    for _ in range(MISSES):
        assert around.strangers((), ())[0].status == ONLINE
        around.missed(one.instance)
    assert around.strangers((), ())[0].status == OFFLINE
    assert not around.sweep(OFFLINE_S)
    assert around.sweep(1.0 + OFFLINE_S)
    assert around.strangers((), ()) == ()


def test_a_goodbye_is_shown_then_forgotten_unless_it_comes_back() -> None:
    around = Around(OWN.node_id)
    one = around.take(sighting())
    assert one is not None
    around.answered(one.instance, one.places[0], 1.0, 1)
    around.lost(one.instance, 10.0)
    assert [peer.status for peer in around.strangers((), ())] == [OFFLINE]
    assert around.places_of(KAI) == ()
    again = around.take(sighting(now=20.0))
    assert again is not None
    assert (again.gone_at, again.status) == (None, UNKNOWN)
    around.lost(one.instance, 30.0)
    assert not around.sweep(29.0 + GONE_S)
    assert around.sweep(30.0 + GONE_S)
    assert len(around) == 0


def test_a_new_address_is_asked_anew_and_an_answer_from_an_old_one_does_not_count() -> None:
    around = Around(OWN.node_id)
    one = around.take(sighting())
    assert one is not None
    around.answered(one.instance, one.places[0], 1.0, 1)
    moved = around.take(sighting(address="10.0.0.9"))
    assert moved is not None
    assert (moved.status, moved.places) == (UNKNOWN, (("10.0.0.9", 19532),))
    around.answered(one.instance, ("10.0.0.2", 19532), 2.0, 2)
    assert around.strangers((), ())[0].status == UNKNOWN


def test_of_those_who_claim_a_node_id_who_answered_comes_first_and_few_are_asked() -> None:
    around = Around(OWN.node_id)
    for number in range(9):
        around.take(sighting(address=f"10.0.0.{20 + number}", now=float(number), instance=f"liar {number}"))
    true = around.take(sighting(now=9.0))
    assert true is not None
    assert true.places[0] not in around.places_of(KAI)
    around.answered(true.instance, true.places[0], 10.0, 1)
    assert around.places_of(KAI)[0] == true.places[0]
    assert len(around.announced(KAI)) == rules.CLAIMS_MAX
    assert [peer.address for peer in around.strangers((), ())] == ["10.0.0.2"]


def test_who_is_in_the_book_is_no_stranger() -> None:
    around = Around(OWN.node_id)
    around.take(sighting())
    assert around.strangers((KAI,), ()) == ()
    assert around.strangers((), {("10.0.0.2", 19532)}) == ()


# -- peers of peers ---------------------------------------------------------------------------------------------------
def shared(node_id: str, address: str = "10.0.0.3", port: int = 19532, trusted: bool = True) -> SharedPeer:
    return SharedPeer(node_id=node_id, hostname="mia\x1b[2J", address=address, port=port, trusted=trusted)


def test_offers_are_those_that_make_sense() -> None:
    told = [
        shared("good-node-1"),
        shared("untrusted-node", trusted=False),
        shared("loopback-node", "127.0.0.1"),
        shared("named-node", "evil.example"),
        shared("portless-node", port=0),
        shared("short"),
    ]
    assert [(offer.node_id, offer.hostname) for offer in offers(told, "kai", OWN.node_id)] == [
        ("good-node-1", "mia[2J")
    ]
    many = [shared(f"node-number-{number}") for number in range(10 * OFFERS_MAX)]
    assert len(offers(many, "kai", OWN.node_id)) == OFFERS_MAX


def test_offers_name_who_told_and_go_with_him() -> None:
    around = Around(OWN.node_id)
    for by in ("kai", "leo"):
        assert around.offered(by, offers([shared("mias-node")], by, OWN.node_id))
        assert not around.offered(by, offers([shared("mias-node")], by, OWN.node_id))
    (mia,) = around.strangers((), ())
    assert (mia.offered_by, mia.found, mia.trusted, mia.status) == (("kai", "leo"), False, False, UNKNOWN)
    around.take(sighting("mias-node", "10.0.0.30"))
    (mia,) = around.strangers((), ())
    assert (mia.offered_by, mia.found, mia.address) == (("kai", "leo"), True, "10.0.0.30")
    assert around.strangers(("mias-node",), ()) == ()
    assert around.forget_offers({"leo"})
    assert around.strangers((), ())[0].offered_by == ("leo",)
    assert not around.forget_offers({"leo"})
