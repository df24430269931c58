"""The minimal HTTP client against a server that says exactly what it is told."""

import pytest

from loopsy.client import http1
from loopsy.client.http1 import Response
from loopsy.errors import ConnectionBroken, InvalidRequest
from tests.cli.scripted import ScriptedDaemon
from tests.waiting import PATIENCE_S


def ask(scripted: ScriptedDaemon, body: bytes | None = None, timeout: float = PATIENCE_S) -> Response:
    connection = http1.connect("127.0.0.1", scripted.port, PATIENCE_S)
    return http1.request(connection, "POST", "/x", {"Host": "h"}, body, timeout)


def test_a_body_of_a_length() -> None:
    with ScriptedDaemon(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b: c \r\n\r\nhello, and more") as scripted:
        response = ask(scripted, b"{}")
        assert (response.status, response.headers["x-a"], response.read()) == (200, "b: c", b"hello")
    assert scripted.requests[0].endswith(b"Content-Length: 2\r\n\r\n{}")


def test_a_body_until_the_end() -> None:
    with ScriptedDaemon(b"HTTP/1.0 200 OK\r\n\r\n", b"a" * 70_000, b"b") as scripted:
        assert ask(scripted).read() == b"a" * 70_000 + b"b"


@pytest.mark.parametrize("status", [204, 304])
def test_no_body(status: int) -> None:
    with ScriptedDaemon(f"HTTP/1.0 {status} X\r\n\r\nstray".encode()) as scripted:
        assert ask(scripted).read() == b""


def test_a_head_in_single_bytes() -> None:
    whole = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with ScriptedDaemon(*(bytes([byte]) for byte in whole)) as scripted:
        assert ask(scripted).read() == b"ok"


def test_a_cut_body_is_not_taken_for_a_whole_one() -> None:
    with ScriptedDaemon(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhello") as scripted:
        response = ask(scripted)
        with pytest.raises(ConnectionBroken, match="4 bytes of it are missing"):
            response.read()


def test_a_reset_is_not_taken_for_an_end() -> None:
    with ScriptedDaemon(b"HTTP/1.0 200 OK\r\n\r\nhel", reset=True) as scripted:
        response = ask(scripted)
        with pytest.raises(ConnectionBroken):
            response.read()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.0 200 OK\r\nX-", "without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.0 twohundred\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: -3\r\n\r\n", "not a number"),
        (b"HTTP/1.0 200 OK\r\n" + b"X: y\r\n" * 20_000, "larger than 64 KiB"),
    ],
)
def test_what_is_no_answer(said: bytes, why: str) -> None:
    with ScriptedDaemon(said) as scripted, pytest.raises(ConnectionBroken, match=why):
        ask(scripted)


def test_a_wait_has_an_end() -> None:
    with ScriptedDaemon(hold=True) as scripted, pytest.raises(ConnectionBroken, match="in time"):
        ask(scripted, timeout=0.05)


def test_a_body_that_is_refused_before_it_was_read() -> None:
    with ScriptedDaemon(b"HTTP/1.0 413 Too Large\r\nContent-Length: 0\r\n\r\n", read_body=False) as scripted:
        assert ask(scripted, b"x" * (8 << 20)).status == 413


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "ä", "a\x00b"])
def test_a_value_can_t_break_out_of_its_line(value: str) -> None:
    with pytest.raises(InvalidRequest):
        http1.encode("GET", "/", {"X": value}, None)
