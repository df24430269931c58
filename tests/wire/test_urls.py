"""The URL table: a parameter is one segment, whatever it holds."""

from __future__ import annotations

from urllib.parse import unquote

from hypothesis import example, given

from loopsy.wire import urls
from tests.strategies import TEXT


@given(TEXT)
@example(".")
@example("..")
@example("a/b?c#d %2F<key>")
def test_a_parameter_is_one_segment_and_comes_back(text: str) -> None:
    path = urls.fill(urls.CONTEXT_ENTRY, key=text)
    head, _, segment = path.rpartition("/")
    assert head == urls.CONTEXT
    assert unquote(segment) == text
    assert segment not in (".", "..")
    assert segment.isascii()
    assert not set(segment) & set("?#< ")


def test_the_same_address_on_a_peer_goes_through_the_gateway() -> None:
    assert urls.on_peer(urls.HEALTH, None) == "/api/v1/health"
    assert urls.on_peer(urls.HEALTH, "kai/2") == "/api/v1/peers/kai%2F2/health"
