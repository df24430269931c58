"""Two daemons, one context: in a real Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopsy.testing import redis_server
from loopsy.testing.nodes import Node


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a real server."""
    if redis_server.program() is None:
        pytest.skip("there is neither valkey-server nor redis-server here (Debian: apt install redis-server)")
    (tmp_path / "redis").mkdir()
    with redis_server.running(tmp_path / "redis") as found:
        yield found


def shared(make_node: Callable[..., Node], address: str) -> tuple[Node, Node]:
    """Two nodes that don't know each other."""
    context = {"backend": address, "maxEntries": 3}
    return make_node("alfa", context=context).start(), make_node("bravo", context=context).start()


def test_what_one_machine_sets_the_other_has(make_node: Callable[..., Node], address: str) -> None:
    """Set, read, list, limit, lifetime, delete: as with the embedded store."""
    alfa, bravo = shared(make_node, address)
    entry = alfa.ask("PUT", "/context/plan%2Fa", {"value": "ship \u00e9 it", "ttl": 60}).body
    assert entry["expiresAt"] - entry["createdAt"] == 60_000
    assert bravo.ask("GET", "/context/plan%2Fa").body == entry
    again = bravo.ask("PUT", "/context/plan%2Fa", {"value": "later"}).body
    assert again["createdAt"] == entry["createdAt"]
    assert "ttl" not in again
    for key in ("b", "c"):
        assert alfa.ask("PUT", f"/context/{key}", {"value": key}).status == 200
    assert bravo.ask("PUT", "/context/d", {"value": "d"}).body["error"]["code"] == 5003
    listed = bravo.ask("GET", "/context").body["entries"]
    assert [one["key"] for one in listed] == ["b", "c", "plan/a"]
    assert alfa.ask("GET", "/context?prefix=plan").body["entries"] == [listed[2]]
    assert bravo.ask("DELETE", "/context/b").status == 200
    assert alfa.ask("GET", "/context/b").status == 404
    assert alfa.ask("DELETE", "/context/b").status == 404


def test_a_store_that_goes_away_is_an_error_and_its_return_is_noticed(
    make_node: Callable[..., Node], tmp_path: Path
) -> None:
    """Nothing else of the daemon waits for it, and a restart is not needed."""
    if redis_server.program() is None:
        pytest.skip("there is neither valkey-server nor redis-server here (Debian: apt install redis-server)")
    (tmp_path / "redis").mkdir()
    with redis_server.running(tmp_path / "redis") as address:
        node = make_node("alfa", context={"backend": address}).start()
        assert node.ask("PUT", "/context/k", {"value": "v"}).status == 200
    asked = (("GET", "/k", None), ("PUT", "/k", {"value": "w"}), ("DELETE", "/k", None), ("GET", "", None))
    for method, path, body in asked:
        answer = node.ask(method, f"/context{path}", body)
        assert (answer.status, answer.body["error"]["code"]) == (503, 5004), (method, path)
    assert node.ask("GET", "/status").status == 200
    with redis_server.running(tmp_path / "redis"):
        assert node.ask("PUT", "/context/k", {"value": "back"}).status == 200
        assert node.ask("GET", "/context/k").body["value"] == "back"
        node.stop()
    assert "Traceback" not in node.log


def test_the_commands_work_on_it(make_node: Callable[..., Node], address: str) -> None:
    """As users do."""
    alfa, bravo = shared(make_node, address)
    alfa.run("context", "set", "greeting", "hello")
    assert bravo.run("context", "get", "greeting").stdout == b"hello"


def test_an_address_that_is_none_is_told_by_line(make_node: Callable[..., Node]) -> None:
    """And no password is printed."""
    node = make_node("alfa")
    with open(node.layout.config, "a", encoding="utf-8") as config:
        config.write("\ncontext:\n  backend: http://user:secret@host\n")
    done = node.run("start")
    text = (done.stdout + done.stderr).decode()
    assert done.returncode != 0
    assert "context.backend must be sqlite, or redis://" in text
    assert "secret" not in text
