"""config.yaml on disk: single keys change, all else stays."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopsy.errors import ConfigError
from loopsy.store import configfile
from loopsy.store.configfile import Entry

KEY = configfile.new_key()
TEXT = f"""\
# mine
auth:
  apiKey: {KEY}  # secret
execution:
    denylist: [rm,   dd]   # short
unknown: kept
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(TEXT)
    return tmp_path / "config.yaml"


def test_a_changed_key_leaves_comments_order_and_unknown_keys(path: Path) -> None:
    configfile.change(path, ("server", "port"), 5)
    configfile.change(path, ("auth", "allowedKeys", "kai"), KEY)
    text = path.read_text()
    for kept in ("# mine", "# secret", "# short", "unknown: kept", KEY):
        assert kept in text
    parsed = configfile.load(path).config
    assert (parsed.server.port, parsed.auth.allowed_keys, parsed.execution.denylist) == (5, {"kai": KEY}, ("rm", "dd"))
    assert path.stat().st_mode & 0o077 == 0


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@settings(max_examples=20)
@given(st.dictionaries(NAMES, st.from_regex(r"[!-~]{16,40}", fullmatch=True), max_size=2))
def test_any_name_and_key_is_read_back_as_it_was_set_and_gone_once_removed(keys: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "c.yaml"
        configfile.create(path, {"auth": {"apiKey": KEY}})
        before = configfile.load(path).config
        for name, key in keys.items():
            configfile.change(path, ("auth", "peerKeys", name), key)
        assert configfile.load(path).config.auth.peer_keys == keys
        for name in keys:
            configfile.change(path, ("auth", "peerKeys", name), None)
        assert configfile.load(path).config == before
        assert {p.name for p in Path(directory).iterdir()} <= {"c.yaml", ".c.yaml.lock"}


BAD: list[tuple[tuple[str, ...], Any, str]] = [
    (("server", "port"), 0, "server.port must be"),
    (("auth", "apiKey"), None, "auth.apiKey is missing"),
    (("auth", "apiKey", "x"), "y", "auth.apiKey.x can't be set: auth.apiKey is no section"),
    (("execution", "denylist", "x"), "y", "execution.denylist.x can't be set"),
]


@pytest.mark.parametrize(("keys", "value", "words"), BAD)
def test_a_change_that_would_spoil_the_file_is_refused_and_the_file_stays(
    path: Path, keys: tuple[str, ...], value: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        configfile.change(path, keys, value)
    assert path.read_text() == TEXT


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2", "\0", "- x", "[" * 5000, "a: " + "[" * 5000 + "]" * 5000])
def test_a_broken_file_is_never_replaced(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError):
        configfile.change(path, ("server", "port"), 5)
    assert path.read_text() == text


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no") as caught:
        configfile.load(tmp_path / "none")
    assert caught.value.hint == "make one with: loopsy init"
    (tmp_path / "latin").write_bytes(b"# \xe9")
    with pytest.raises(ConfigError, match=r"not UTF-8 \(byte 2\)"):
        configfile.load(tmp_path / "latin")
    with pytest.raises(ConfigError, match="can't be read"):
        configfile.load(tmp_path)


def test_a_first_file_replaces_none(path: Path) -> None:
    with pytest.raises(FileExistsError):
        configfile.create(path, {"auth": {"apiKey": KEY}})
    assert path.read_text() == TEXT
    with pytest.raises(ConfigError):
        configfile.create(path, {"auth": {"apiKey": "short"}}, replace=True)
    assert path.read_text() == TEXT


def test_new_keys_are_64_hex_digits_and_never_the_same() -> None:
    keys = {configfile.new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in keys)


def test_items_of_a_list_come_and_go_and_the_comments_beside_the_others_stay(path: Path) -> None:
    listed = "aiTasks:\n  rules:\n    - allow Bash(make)  # quick\n    - deny WebFetch\n"
    path.write_text(f"{TEXT}{listed}logging: {{}}  # last\n")
    rules = ("aiTasks", "rules")
    configfile.change(path, rules, configfile.Added("allow Bash(a: b # c)"))
    configfile.change(path, rules, configfile.Added("allow Bash(make)"))
    configfile.change(path, rules, configfile.Removed("deny WebFetch"))
    configfile.change(path, rules, configfile.Removed("deny nothing"))
    assert configfile.load(path).config.ai_tasks.rules == ("allow Bash(make)", "allow Bash(a: b # c)")
    assert "# quick" in path.read_text()
    assert "# last" in path.read_text()


def test_a_list_that_was_not_there_begins(path: Path) -> None:
    configfile.change(path, ("aiTasks", "rules"), configfile.Added("allow Bash(x\ny)"))
    assert configfile.load(path).config.ai_tasks.rules == ("allow Bash(x\ny)",)
    with pytest.raises(ConfigError, match=r"aiTasks.rules.1 must be a rule"):
        configfile.change(path, ("aiTasks", "rules"), configfile.Added("maybe Bash"))


PEERS = ("discovery", "manualPeers")
PEER = {"address": "127.0.0.1", "port": 19533, "hostname": "kai"}


def test_a_list_of_maps_is_edited_by_one_of_their_keys_and_keeps_its_other_items(path: Path) -> None:
    text = "auth:\n  apiKey: " + KEY + "\ndiscovery:\n  manualPeers:\n    - address: 10.0.0.9   # the old one\n"
    path.write_text(text)
    configfile.change(path, PEERS, Entry("hostname", "kai", {**PEER, "port": 1}))
    configfile.change(path, PEERS, Entry("hostname", "kai", PEER))
    found = configfile.load(path).config.discovery.manual_peers
    assert [(peer.address, peer.port, peer.hostname) for peer in found] == [
        ("10.0.0.9", 19532, None),
        ("127.0.0.1", 19533, "kai"),
    ]
    assert "# the old one" in path.read_text()
    configfile.change(path, PEERS, Entry("hostname", "kai"))
    assert path.read_text() == text


def test_two_who_change_the_file_at_once_both_find_their_change_in_it(path: Path) -> None:
    configfile.create(path, {"auth": {"apiKey": KEY}}, replace=True)
    names = [f"peer-{number}" for number in range(24)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda name: configfile.change(path, ("auth", "peerKeys", name), KEY), names))
    assert sorted(configfile.load(path).config.auth.peer_keys) == sorted(names)
