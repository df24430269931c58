"""``GET /metrics``: read by Prometheus' own parser."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from loopsy.testing.nodes import Node
from tests.integration.conftest import PATIENCE_S, until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(node: Node) -> Samples:
    """Every figure, by its name and labels."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.port}/api/v1/metrics", headers={"Authorization": f"Bearer {node.key}"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples
        }


def test_what_happens_is_counted(pair: tuple[Node, Node]) -> None:
    """Requests by route and status, how long they took, bytes, jobs, peers, messages, context."""
    alfa, bravo = pair
    route = (("method", "PUT"), ("route", "/api/v1/context/<key>"))
    before = samples(alfa)
    assert alfa.ask("PUT", "/context/k", {"value": "v" * 1000}).status == 200
    assert alfa.ask("PUT", "/context/k", {"value": 5}).status == 400
    assert alfa.run("exec", ".", "true").returncode == 0
    assert alfa.ask("POST", "/messages", {"to": "bravo", "body": "hello"}).status == 201
    until(lambda: samples(bravo)["loopsy_messages_unread", ()] == 1.0, "the message is counted where it came")

    def more(name: str, *labels: tuple[str, str]) -> float:
        key = (name, tuple(sorted(labels)))
        return samples(alfa).get(key, 0.0) - before.get(key, 0.0)

    assert more("loopsy_requests_total", *route, ("status", "200")) == 1.0
    assert more("loopsy_requests_total", *route, ("status", "400")) == 1.0
    assert more("loopsy_request_duration_seconds_count", route[1]) == 2.0
    assert more("loopsy_http_bytes_total", ("direction", "in")) > 1000.0
    assert more("loopsy_jobs_total") == 1.0
    until(lambda: samples(alfa)["loopsy_peers", (("status", "online"),)] == 1.0, "bravo is seen")
    now = samples(alfa)
    assert now["loopsy_context_entries", ()] == 1.0
    assert now["loopsy_uptime_seconds", ()] > 0.0


def test_no_peer_reads_them(pair: tuple[Node, Node]) -> None:
    """They tell of everybody."""
    alfa, _ = pair
    assert alfa.ask("GET", "/peers/bravo/metrics").status == 403
