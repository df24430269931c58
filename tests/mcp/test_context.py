"""The tools for shared values, over a daemon that is a table of answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from loopsy.errors import (
    Forbidden,
)
from loopsy.mcp.results import MOST
from tests.mcp.fake import (
    KAI,
    OWN,
    PEER,
    FakeDaemon,
    bad,
    call,
    good,
    text_of,
)


def test_values_are_set_and_deleted(tmp_path: Path) -> None:
    path = "/api/v1/peers/kai/context/build%2Flast"
    daemon = FakeDaemon(tmp_path, {
        f"PUT {path}": {"key": "build/last", "expiresAt": 1_700_000_000_000},
        f"DELETE {path}": {"success": True, "key": "build/last"},
    })  # fmt: skip
    stored = good(daemon, "loopsy_context_set", key="build/last", value="1", ttlSeconds=60, peer="kai")
    assert stored == {"key": "build/last", "peer": "kai", "expiresAt": "2023-11-14T22:13:20Z"}
    assert good(daemon, "loopsy_context_delete", key="build/last", peer="kai")["deleted"] is True
    assert daemon.asked == [("PUT", path, {"value": "1", "ttl": 60.0}), ("DELETE", path, None)]


@pytest.mark.parametrize(
    ("peer", "setter", "set_by", "trust"),
    [
        (None, OWN, "this machine", "from this machine"),
        (None, KAI, "kai", "from peer kai, not from your user"),
        (None, "x", "a machine that isn't known here", "from a machine that isn't known here, not from your user"),
        ("kai", OWN, "this machine", "from peer kai, not from your user"),
    ],
)
def test_a_value_says_whose_words_it_is(tmp_path: Path, peer: str | None, setter: str, set_by: str, trust: str) -> None:
    path = "/api/v1/context/k" if peer is None else "/api/v1/peers/kai/context/k"
    daemon = FakeDaemon(tmp_path, {f"GET {path}": {"key": "k", "value": "v", "fromNodeId": setter}})
    shown = good(daemon, "loopsy_context_get", key="k", **({"peer": peer} if peer else {}))
    assert (shown["value"], shown["setBy"], shown["trust"]) == ("v", set_by, trust)


def test_a_long_value_comes_in_parts_that_are_all_of_it(tmp_path: Path) -> None:
    value = "".join(f"{n} \u20ac\n" for n in range(60_000))
    daemon = FakeDaemon(tmp_path, {"GET /api/v1/context/k": {"key": "k", "value": value, "fromNodeId": OWN}})
    seen, offset = "", 0
    while offset is not None:
        result = call(daemon, "loopsy_context_get", key="k", offset=offset)
        assert len(text_of(result).encode()) <= MOST
        shown = dict(result.structured_content or {})
        seen, offset = seen + shown["value"], shown.get("nextOffset")
    assert seen == value


def test_a_list_of_values_stays_short(tmp_path: Path) -> None:
    entries = [{"key": f"k{n:04d}", "value": "\0" * 100_000, "fromNodeId": KAI} for n in range(500)]
    daemon = FakeDaemon(tmp_path, {"GET /api/v1/context?prefix=k%2F": {"entries": entries}})
    seen, offset = [], 0
    while offset is not None:
        result = call(daemon, "loopsy_context_list", prefix="k/", limit=1000, offset=offset)
        assert len(text_of(result).encode()) <= MOST
        shown = dict(result.structured_content or {})
        seen += [entry["key"] for entry in shown["entries"]]
        offset = shown.get("nextOffset")
    assert seen == [entry["key"] for entry in entries]


def test_a_broadcast_says_for_each_peer_how_it_went(tmp_path: Path) -> None:
    peers = [
        {**PEER, "name": name, "status": status, "trusted": trusted}
        for name, status, trusted in (
            ("kai", "online", True), ("leo", "online", True), ("mia", "offline", True), ("eve", "online", False),
        )
    ]  # fmt: skip
    daemon = FakeDaemon(tmp_path, {
        "GET /api/v1/peers": {"peers": peers},
        "PUT /api/v1/peers/kai/context/k": {},
        "PUT /api/v1/peers/leo/context/k": Forbidden("may not"),
    })  # fmt: skip
    shown = good(daemon, "loopsy_broadcast_context", key="k", value="v")
    assert [(one["peer"], one["ok"]) for one in shown["results"]] == [("kai", True), ("leo", False)]
    assert (shown["setOn"], shown["failed"], shown["offline"]) == (1, 1, ["mia"])
    daemon.answers["GET /api/v1/peers"] = {"peers": peers[3:]}
    assert "loopsy pair" in bad(daemon, "loopsy_broadcast_context", key="k", value="v")
