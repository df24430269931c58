"""The client of this machine's own daemon: reading the endpoint, and what each kind of answer becomes."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopsy import config
from loopsy.client import local
from loopsy.client.local import Endpoint, LocalDaemon, glance
from loopsy.errors import ConfigError, ConnectionBroken, DaemonNotRunning, Forbidden, KeyNotFound, RateLimited
from tests.cli.scripted import ScriptedDaemon, answer
from tests.waiting import PATIENCE_S

KEY = "0123456789abcdef" * 4


def daemon_at(directory: Path, port: int, more: str = "") -> LocalDaemon:
    (directory / "config.yaml").write_text(f"server:\n  port: {port}\nauth:\n  apiKey: {KEY}\n{more}")
    return LocalDaemon(directory)


def test_the_default_port_is_the_config_s() -> None:
    assert local.DEFAULT_PORT == config.DEFAULT_PORT


# -- asking -----------------------------------------------------------------------------------------------------------
def test_a_question_carries_key_host_and_json(tmp_path: Path) -> None:
    with ScriptedDaemon(answer(200, {"ok": 1})) as scripted:
        assert daemon_at(tmp_path, scripted.port).ask("PUT", "/api/v1/x", {"a": "ä"}) == {"ok": 1}
    head, _, body = scripted.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "PUT /api/v1/x HTTP/1.0"
    assert f"Host: 127.0.0.1:{scripted.port}" in lines
    assert f"Authorization: Bearer {KEY}" in lines
    assert "Connection: close" in lines
    assert json.loads(body) == {"a": "ä"}


def test_an_error_body_is_the_class_it_was(tmp_path: Path) -> None:
    body = {"error": {"code": 5001, "message": "no such key", "details": {"hint": "look"}}}
    with ScriptedDaemon(answer(404, body)) as scripted, pytest.raises(KeyNotFound) as caught:
        daemon_at(tmp_path, scripted.port).ask("GET", "/x")
    assert (caught.value.message, caught.value.hint) == ("no such key", "look")


def test_a_wait_is_told(tmp_path: Path) -> None:
    body = {"error": {"code": 9002, "message": "too many"}}
    with ScriptedDaemon(answer(429, body, "Retry-After: 7")) as scripted, pytest.raises(RateLimited) as caught:
        daemon_at(tmp_path, scripted.port).ask("GET", "/x")
    assert (caught.value.retry_after, caught.value.hint) == (7, "try again in 7 s")


@pytest.mark.parametrize(("path", "hinted"), [("/api/v1/status", True), ("/api/v1/peers/kai/status", False)])
def test_only_our_own_daemon_s_refusal_of_the_key_is_explained(tmp_path: Path, path: str, hinted: bool) -> None:
    body = {"error": {"code": 1002, "message": "unknown key"}}
    with ScriptedDaemon(answer(403, body)) as scripted, pytest.raises(Forbidden) as caught:
        daemon_at(tmp_path, scripted.port).ask("GET", path)
    assert bool(caught.value.hint) is hinted


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(DaemonNotRunning) as caught:
            daemon_at(tmp_path, unused.getsockname()[1]).ask("GET", "/x")
    assert caught.value.hint == "start it with: loopsy start"


def test_what_is_not_json_is_a_broken_answer(tmp_path: Path) -> None:
    with ScriptedDaemon(b'HTTP/1.0 200 OK\r\n\r\n{"half":') as scripted, pytest.raises(ConnectionBroken):
        daemon_at(tmp_path, scripted.port).ask("GET", "/x")


# -- the config -------------------------------------------------------------------------------------------------------
def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _ = LocalDaemon(tmp_path).endpoint
    assert caught.value.hint == "make one with: loopsy init"


def test_a_broken_config_says_where(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"server:\n  port: many\nauth:\n  apiKey: {KEY}\n")
    with pytest.raises(ConfigError, match=r"config\.yaml:2: server\.port must be a whole number"):
        _ = LocalDaemon(tmp_path).endpoint


def test_what_init_writes_needs_no_yaml(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom loopsy.cli.main import main\n"
        f"assert main(['--data-dir', {str(tmp_path)!r}, 'init', '--hostname', 'leo', '--port', '27999']) == 0\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    found = glance((tmp_path / "config.yaml").read_text())
    assert found is not None
    assert (found.host, found.port) == ("127.0.0.1", 27999)


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::1", "::1"), ("192.168.1.5", "127.0.0.1"), ("fd00::7", "127.0.0.1")],
)
def test_the_loopback_address_of_a_host(host: str, address: str) -> None:
    assert local.loopback(host) == address


ODD = (
    f"a: |\n  x\nserver:\n  port: 1\nauth:\n  apiKey: {KEY}\n",
    f"server: {{port: 7}}\nauth:\n  apiKey: {KEY}\n",
    f"server: &s\n  port: 7\nauth:\n  apiKey: {KEY}\n",
    f"server:\n  port: 0o17\nauth:\n  apiKey: {KEY}\n",
    f"server:\n  port: 1_000\nauth:\n  apiKey: {KEY}\n",
    f"server:\n  port: 7\n  port: 8\nauth:\n  apiKey: {KEY}\n",
    f"server: x\nauth:\n  apiKey: {KEY}\n",
    f"server:\n  port: 7\nauth:\n  apiKey: {KEY}\nserver:\n  port: 8\n",
    f'transfer: "x\nserver:\n  port: 7"\nauth:\n  apiKey: {KEY}\n',
    "auth:\n  apiKey: short\n",
    "server:\n  port: 7\n",
    "",
)


@pytest.mark.parametrize("text", ODD)
def test_a_glance_leaves_what_is_odd_to_the_real_reader(text: str) -> None:
    assert glance(text) is None


PLAIN = f"""# loopsy's configuration: "quotes" in comments don't matter
server:
    host: '::1'  # here
    port: 27001

    hostname: leo
auth:
  apiKey: "{KEY}"
  allowedKeys:
    port: {KEY[::-1]}
    apiKey: {KEY[::-1]}
execution:
  denylist: [rm, rmdir, "a b"]
discovery:
  manualPeers:
  - address: 192.168.1.75
    port: 19533
"""


def test_a_glance_at_a_plain_file() -> None:
    assert glance(PLAIN) == Endpoint("::1", 27001, KEY)


LINES = st.sampled_from([*PLAIN.splitlines(), *"\n".join(ODD).splitlines(), "  port: 5", " port: 6", "   host: x", "-"])


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINES, max_size=14), st.booleans())
def test_law_a_glance_agrees_with_the_real_reader(lines: list[str], whole: bool) -> None:
    text = "\n".join([*(PLAIN.splitlines() if whole else []), *lines, ""])
    seen = glance(text)
    try:
        real = config.parse(text).config
    except ConfigError:
        return  # no daemon runs with such a file
    if seen is not None:
        assert seen == Endpoint(local.loopback(real.server.host), real.server.port, real.auth.api_key)


# -- breaking off -----------------------------------------------------------------------------------------------------
def test_a_request_that_waits_ends_when_it_is_broken_off(tmp_path: Path) -> None:
    with ScriptedDaemon(b"HTTP/1.0 200 OK\r\n\r\nbegun", hold=True) as scripted:
        daemon, came = daemon_at(tmp_path, scripted.port), threading.Event()
        ends: list[object] = []

        def wait() -> None:
            with daemon.stream("GET", "/x") as response:
                for piece in response.stream():
                    ends.append(piece)
                    came.set()
            ends.append("the end")

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        assert came.wait(PATIENCE_S)
        daemon.break_off()
        thread.join(PATIENCE_S)
    assert ends == [b"begun", "the end"]


def test_what_is_broken_off_before_it_begins_never_asks(tmp_path: Path) -> None:
    with ScriptedDaemon(answer(200, {})) as scripted:
        daemon = daemon_at(tmp_path, scripted.port)
        daemon.break_off()
        with pytest.raises(ConnectionBroken, match="broken off"):
            daemon.ask("GET", "/x")
    assert b"GET" not in b"".join(scripted.requests)
