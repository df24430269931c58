"""Every route of the table, asked by strangers: a route that is added tomorrow is asked too."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any

import pytest

from loopsy.core.principals import ThisMachine
from loopsy.testing.nodes import Node
from loopsy.web.routes import Route
from loopsy.wire import urls
from tests.integration.test_rest import refused
from tests.web.test_routes import JOINING, OPEN, ROUTES

WRONG = {"authorization": f"Bearer {'f' * 64}"}


HERE = {urls.DASHBOARD: 200, urls.DASHBOARD_FILE: 404, urls.DASHBOARD_SESSION: 403}
"""Open to who asks from this machine itself, and what it gets: files that hold nothing, and a door for a token that
it hasn't. From elsewhere they are as closed as the others: test_lan."""


def test_only_the_dashboards_files_and_door_are_open_to_this_machine() -> None:
    assert {route.rule for route in ROUTES if route.access == ThisMachine()} == set(HERE)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.access == ThisMachine()], ids=lambda route: route.endpoint)
def test_who_asks_from_this_machine_gets_files_and_no_more(node: Node, route: Route) -> None:
    path = route.rule.replace("<path:file>", "x")
    for method in route.methods:
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
        body = json.dumps({"token": "x"}) if method == "POST" else None
        connection.request(method, path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == HERE[route.rule]
        assert answer.getheader("set-cookie") is None
        connection.request(method, path, body, {"authorization": "Bearer " + "f" * 64})
        assert connection.getresponse().status == 403
        connection.close()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.endpoint)
def test_a_stranger_is_refused(node: Node, route: Route) -> None:
    path = re.sub(r"<[^>]*>", "x", route.rule).removeprefix(urls.BASE)
    for method in route.methods:
        if route.rule in OPEN:
            assert node.ask(method, path, key=None).status == 200
            continue
        if route.rule in JOINING:
            for message in ({}, {"data": ""}, {"data": "AAAA"}):
                answer = node.ask(method, path, message, key=None)
                assert 400 <= answer.status < 500
                assert set(answer.body) == {"error"}
            continue
        if isinstance(route.access, ThisMachine):
            for data in (None, b"{}", b'{"token": "x"}', b"x" * 100_000):
                unlocked_by_nothing(node, method, route.rule, data)
            continue
        if route.access == ThisMachine():
            continue  # see test_who_asks_from_this_machine_gets_files_and_no_more
        bodies: tuple[Any, ...] = (None, {}, b"x" * 100_000)
        for body in bodies:
            answers = [node.ask(method, path, body, key=key) for key in (None, "f" * 64)]
            assert [answer.status for answer in answers] == [401, 403]
            if method != "HEAD":
                refused(answers[0], 401, 1001)
                refused(answers[1], 403, 1002)


def unlocked_by_nothing(node: Node, method: str, rule: str, body: bytes | None) -> None:
    """The dashboard's door, from this machine: its files may be seen, but without a launch token nobody gets in, and a
    wrong key isn't taken for none."""
    for key, wanted in (({}, (200, 404) if method != "POST" else (400, 403, 413, 415)), (WRONG, (403,))):
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
        connection.request(method, re.sub(r"<[^>]*>", "x", rule), body, {"content-type": "application/json", **key})
        response = connection.getresponse()
        assert response.status in wanted
        assert response.getheader("set-cookie") is None
        connection.close()


HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "bm5ubm5ubm5ubm5ubm5ubg==",
    "sec-websocket-protocol": "loopsy.terminal.1, loopsy.exec.1",
}


@pytest.mark.parametrize("route", [r for r in ROUTES if "GET" in r.methods], ids=lambda route: route.endpoint)
def test_so_is_one_who_would_speak_websocket(node: Node, route: Route) -> None:
    path = re.sub(r"<[^>]*>", "x", route.rule).removeprefix(urls.BASE)
    if route.rule in OPEN:
        return
    assert [node.ask("GET", path, key=key, headers=HANDSHAKE).status for key in (None, "f" * 64)] == [401, 403]
