"""Sessions on disk: their names, what they take over, and who then knows whom."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from loopsy.errors import ConfigError, UsageError
from loopsy.store import acquaintance, configfile, sessions
from loopsy.store.layout import Layout
from loopsy.store.sessions import Session

KEY = configfile.new_key()


@pytest.fixture
def main(tmp_path: Path) -> Layout:
    return made(tmp_path / "main")


def made(root: Path, **sections: Any) -> Layout:
    layout = Layout(root)
    layout.make()
    server = {"port": 19532, "host": "127.0.0.1", "hostname": "leo"}
    configfile.create(layout.config, {"server": server, "auth": {"apiKey": KEY}, **sections}, replace=True)
    return layout


def created(main: Layout, *names: str) -> list[Session]:
    found = [sessions.find(main, name) for name in names]
    for number, session in enumerate(found):
        sessions.create(main, session, sessions.FIRST_PORT + number)
    return found


def met(*layouts: Layout) -> list[acquaintance.Node]:
    """As they are after an introduction."""
    acquaintance.introduce([acquaintance.read(layout) for layout in layouts])
    return [acquaintance.read(layout) for layout in layouts]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "-x", "_x", "a b", "ä", "x" * 33, "a\n", "C:x"])
def test_what_could_be_a_path_or_an_option_is_no_name(main: Layout, name: str) -> None:
    with pytest.raises(UsageError, match="can't be called"):
        sessions.find(main, name)


def test_a_session_has_the_limits_of_the_main_daemon_and_a_key_and_port_of_its_own(tmp_path: Path) -> None:
    policy = {"allowlist": ["git"], "maxConcurrent": 2}
    main = made(tmp_path / "main", execution=policy, transfer={"allowedPaths": ["/srv"]}, tls={"enabled": True})
    (session,) = created(main, "builds")
    config = configfile.load(session.layout.config).config
    assert (config.server.port, config.server.hostname) == (19533, "leo-builds")
    assert (config.execution.allowlist, config.execution.max_concurrent) == (("git",), 2)
    assert config.transfer.allowed_paths == ("/srv",)
    assert config.transfer.denied_paths == ("~/.ssh", "~/.gnupg", str(main.root))
    assert (config.tls.enabled, config.discovery.enabled) == (True, False)
    assert config.auth.api_key != KEY
    assert session.layout.root.stat().st_mode & 0o077 == main.sessions.stat().st_mode & 0o077 == 0


def test_a_session_has_no_sessions_of_its_own(main: Layout) -> None:
    (session,) = created(main, "a")
    assert sessions.main_of(session.layout).root == sessions.main_of(main).root == main.root


def test_they_are_listed_by_number_and_without_what_is_none(main: Layout) -> None:
    created(main, "worker-10", "worker-9", "b")
    (main.sessions / "empty").mkdir()
    assert [session.name for session in sessions.every(main)] == ["b", "worker-9", "worker-10"]
    assert sessions.ports(sessions.every(main)) == {19533, 19534, 19535}


def test_each_pair_gets_keys_that_nobody_else_has_and_the_others_places(tmp_path: Path) -> None:
    main = made(tmp_path / "main", tls={"enabled": True})
    nodes = met(main, *(session.layout for session in created(main, "a", "b")))
    keys = set()
    for one, other in combinations(nodes, 2):
        assert acquaintance.knows(one, other)
        assert acquaintance.knows(other, one)
        keys |= {one.config.auth.peer_keys[other.name], other.config.auth.peer_keys[one.name]}
        assert one.config.tls.pinned_certs[other.name] == other.pin
    assert len(keys - {KEY}) == 6
    assert [peer.port for peer in nodes[0].config.discovery.manual_peers] == [19533, 19534]
    texts = [node.layout.config.read_bytes() for node in nodes]
    assert acquaintance.introduce(nodes) == []
    assert [node.layout.config.read_bytes() for node in nodes] == texts


def test_what_one_side_lost_is_made_anew_on_both(main: Layout) -> None:
    (session,) = created(main, "a")
    met(main, session.layout)
    configfile.change(main.config, ("auth", "allowedKeys"), None)
    one, other = (acquaintance.read(layout) for layout in (main, session.layout))
    assert not acquaintance.knows(one, other)
    one, other = met(main, session.layout)
    assert acquaintance.knows(one, other)
    assert acquaintance.knows(other, one)


def test_a_name_that_is_another_machines_keeps_its_keys(tmp_path: Path) -> None:
    main = made(tmp_path / "main", auth={"apiKey": KEY, "allowedKeys": {"leo-a": "k" * 32}})
    (session,) = created(main, "a")
    before = main.config.read_bytes()
    with pytest.raises(ConfigError, match="knows another machine as leo-a already"):
        met(main, session.layout)
    assert main.config.read_bytes() == before


def test_who_parts_is_gone_from_the_others_and_they_know_each_other_still(main: Layout) -> None:
    layouts = [main, *(session.layout for session in created(main, "a", "b"))]
    nodes = met(*layouts)
    configfile.change(main.config, ("auth", "scopes", "leo-a"), ["context"])
    acquaintance.part([nodes[0], nodes[2]], "leo-a")
    main_now, other = (acquaintance.read(layout) for layout in (main, layouts[2]))
    assert b"leo-a" not in main.config.read_bytes() + layouts[2].config.read_bytes()
    assert acquaintance.knows(main_now, other)
    assert acquaintance.knows(other, main_now)
