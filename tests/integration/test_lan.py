"""Two hosts on a LAN that an attacker listens on: what crosses it, and what a stranger gets there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopsy.store import configfile
from tests.integration.namespaces import Host, HostNode, Lan, lan, why_not

PORT = 19532
MARK = "the-quick-brown-secret"
STRANGER = """
import http.client, json, ssl, sys
address, port, secure, method, path = sys.argv[1:6]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
kind = http.client.HTTPSConnection if secure == "tls" else http.client.HTTPConnection
more = {"context": context} if secure == "tls" else {}
connection = kind(address, int(port), timeout=60, **more)
body = b"{}" if method in ("POST", "PUT") else None
connection.request(method, path, body, {"content-type": "application/json"})
response = connection.getresponse()
print(json.dumps([response.status, json.loads(response.read() or b"null")]))
"""

ENTER = """
import http.client, json, sys
own, _, token = sys.argv[1].partition("#")
host = own.split("/")[2]
connection = http.client.HTTPConnection(host, timeout=60)
headers = {"content-type": "application/json", "origin": "http://" + host}
connection.request("POST", "/api/v1/dashboard/session", json.dumps({"token": token}), headers)
print(connection.getresponse().getheader("set-cookie").partition(";")[0])
"""
WITH_COOKIE = """
import http.client, ssl, sys
address, cookie = sys.argv[1:3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
connection = http.client.HTTPSConnection(address, 19532, timeout=60, context=context)
connection.request("GET", "/api/v1/status", headers={"cookie": cookie, "sec-fetch-site": "same-origin"})
print(connection.getresponse().status)
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lan, HostNode, HostNode]]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("lan")
    with lan(["alfa", "bravo"], root) as made:
        named = zip(("alfa", "bravo"), made.hosts, strict=True)
        nodes = [HostNode(root / name, name, PORT, host=host) for name, host in named]
        try:
            for node in nodes:
                node.write_config(server={"host": "0.0.0.0"}, tls={"enabled": True})
                node.start()
            yield made, nodes[0], nodes[1]
        finally:
            for node in nodes:
                node.stop()


def value(process: subprocess.Popen[str], key: str) -> Any:
    """The first value of ``key`` in a command's lines of JSON."""
    assert process.stdout is not None
    for line in process.stdout:
        found = json.loads(line).get(key)
        if found:
            return found
    raise AssertionError(f"{key} never came")


def answer(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def test_paired_over_the_lan_nothing_secret_crosses_it(net: tuple[Lan, HostNode, HostNode]) -> None:
    """The real commands on both hosts; then the attacker's capture is searched for every key, and for what was said."""
    made, a, b = net
    inviter = a.popen("pair", "--expect-sas", "-", "--json")
    code = value(inviter, "inviteCode")
    joiner = b.popen("pair", made.hosts[0].address, "--code", "-", "--expect-sas", "-", "--json")
    answer(joiner, code)
    shown = value(inviter, "sas"), value(joiner, "sas")
    assert shown[0] == shown[1]
    answer(inviter, shown[1])
    answer(joiner, shown[0])
    assert (inviter.communicate()[1], joiner.communicate()[1]) == (None, None)
    assert (inviter.returncode, joiner.returncode) == (0, 0)
    for one, other in ((a, "bravo"), (b, "alfa")):
        ran = one.command("exec", other, "echo", MARK, check=True)
        assert ran.stdout.decode().strip() == MARK
    auth = [configfile.load(node.layout.config).config.auth for node in (a, b)]
    assert auth[0].peer_keys["bravo"] == auth[1].allowed_keys["alfa"]
    assert stranger(made, "plain", "GET", "/api/v1/in-clear") == [426, 2007]
    seen = made.seen()
    assert b"/api/v1/in-clear" in seen  # the capture does see what is in clear
    secrets = [a.key, b.key, *auth[0].peer_keys.values(), *auth[1].peer_keys.values(), MARK]
    assert [text for text in secrets if text.encode() in seen] == []


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/peers", "/api/v1/context", "/api/v1/pair/status"])
def test_a_stranger_on_the_lan_gets_nothing(net: tuple[Lan, HostNode, HostNode], path: str) -> None:
    assert stranger(net[0], "tls", "GET", path) == [401, 1001]


@pytest.mark.parametrize("path", ["/dashboard/", "/dashboard/enter", "/dashboard/app.js", "/api/v1/dashboard/session"])
def test_the_dashboard_is_for_this_machine_only(net: tuple[Lan, HostNode, HostNode], path: str) -> None:
    """Neither its files nor its cookie, for anybody on the LAN; nor by the machine's own address there."""
    made, a, _ = net
    method = "POST" if "api" in path else "GET"
    assert stranger(made, "tls", method, path) == [401, 1001]
    assert stranger(made, "plain", method, path) == [426, 2007]
    url = json.loads(a.command("dashboard", "--json").stdout)["url"]
    cookie = asks(made.hosts[0], ENTER, url)
    here, there = (asks(host, WITH_COOKIE, made.hosts[0].address, cookie) for host in (made.hosts[0], made.attacker))
    assert (here, there) == ("401", "401")
    assert asks(made.hosts[0], WITH_COOKIE, "127.0.0.1", cookie) == "200"


def asks(host: Host, script: str, *words: str) -> str:
    """What a script says that runs on a host."""
    argv = host.argv(sys.executable, "-c", script, *words)
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout.strip()


def test_a_stranger_can_not_start_a_pairing_nor_confirm_one(net: tuple[Lan, HostNode, HostNode]) -> None:
    for path in ("/api/v1/pair/start", "/api/v1/pair/confirm", "/api/v1/pair/join", "/api/v1/trust/alfa/revoke"):
        assert stranger(net[0], "tls", "POST", path) == [401, 1001]


def test_plain_http_from_the_lan_is_told_to_use_tls(net: tuple[Lan, HostNode, HostNode]) -> None:
    for method, path in (("GET", "/api/v1/health"), ("POST", "/api/v1/execute")):
        assert stranger(net[0], "plain", method, path) == [426, 2007]


def stranger(made: Lan, secure: str, method: str, path: str) -> list[int]:
    """What the attacker's own host gets from the first: status and code."""
    argv = made.attacker.argv(
        sys.executable, "-c", STRANGER, made.hosts[0].address, str(PORT), secure, method, path
    )
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    status, body = json.loads(ran.stdout)
    return [status, body["error"]["code"]]


def test_a_peer_behind_another_certificate_is_not_spoken_to(
    net: tuple[Lan, HostNode, HostNode], tmp_path: Path
) -> None:
    """bravo's daemon stops, and a node with another certificate takes its address: alfa says so, and sends nothing."""
    made, a, b = net
    if a.command("exec", "bravo", "true").returncode != 0:
        pytest.skip("the two were not paired (the first test failed)")
    b.stop()
    eve = HostNode(tmp_path / "eve", "bravo", PORT, host=made.hosts[1])
    eve.write_config(server={"host": "0.0.0.0"}, tls={"enabled": True})
    eve.start()
    try:
        ran = a.command("exec", "bravo", "true")
        assert ran.returncode == 255
        assert b"certificate" in ran.stderr
        assert b"pair again" in ran.stderr
        assert '"who":"alfa"' not in eve.layout.audit.read_text()
    finally:
        eve.stop()
        b.start()
    assert a.command("exec", "bravo", "true").returncode == 0
