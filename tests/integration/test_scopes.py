"""Every route there is, asked by peers of one scope each, and of none: one that is added tomorrow is asked too."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest

from loopsy.core.principals import AnyKey, Anyone, Scope, Scoped
from loopsy.testing.nodes import Node
from loopsy.web.routes import Route
from loopsy.wire import urls
from tests.web.test_routes import ROUTES

KEYS = {scope.name.lower(): secrets.token_hex(32) for scope in Scope} | {"none": secrets.token_hex(32)}
SCOPES = {scope.name.lower(): [scope.value] for scope in Scope} | {"none": []}
BELOW = [route for route in ROUTES if route.rule.startswith(urls.BASE)]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("scopes") / "alfa", "alfa")
    node.write_config(auth={"apiKey": node.key, "allowedKeys": KEYS, "scopes": SCOPES})
    node.start()
    yield node
    node.stop()
    assert "Traceback" not in node.log


def may(route: Route, scopes: list[str]) -> bool:
    match route.access:
        case Anyone() | AnyKey():
            return True
        case Scoped(scope):
            return scope.value in scopes
    return False


@pytest.mark.parametrize("route", BELOW, ids=lambda route: route.endpoint)
def test_a_peer_gets_what_its_scope_says_and_no_more(host: Node, route: Route) -> None:
    path = re.sub(r"<[^>]*>", "x", route.rule).removeprefix(urls.BASE)
    if route.rule == urls.EVENTS:
        return  # a stream without end; who is told what is asked in test_events
    for name, key in KEYS.items():
        for method in route.methods:
            answer = host.ask(method, path, None if method in ("GET", "HEAD") else {}, key=key)
            assert answer.status < 500
            if not may(route, SCOPES[name]):
                assert answer.status == 403
            elif isinstance(route.access, Scoped):
                assert answer.status != 403
