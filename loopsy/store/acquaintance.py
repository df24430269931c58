"""Daemons of one machine that know each other: a key each way for every pair, pins, and where they listen.

All of it stands in their ``config.yaml`` files, as if they had been paired; who owns the data directories of both needs
no pairing to prove it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from attrs import field, frozen

from loopsy.config import Config
from loopsy.errors import ConfigError
from loopsy.store import configfile
from loopsy.store.configfile import Entry
from loopsy.store.layout import Layout
from loopsy.store.sessions import hostname_of

Edit = tuple[Sequence[str], Any]


@frozen
class Node:
    """One of them, as its config says; and what is to be changed in it."""

    layout: Layout
    config: Config
    name: str
    pin: str | None
    """Of its certificate; None: TLS is off."""
    edits: list[Edit] = field(factory=list)

    @property
    def entry(self) -> dict[str, Any]:
        """For the others' ``manualPeers``."""
        server = self.config.server
        address = "::1" if server.host in ("::", "::1") else "127.0.0.1"
        return {"address": address, "port": server.port, "hostname": self.name}


def read(layout: Layout) -> Node:
    """A data directory as a node; its certificate is made if there is none.

    :raises ConfigError: :raises DataDirError:
    """
    config = configfile.load(layout.config).config
    name, pin = hostname_of(config), None
    if config.tls.enabled:
        from loopsy.store import certificate

        pin = certificate.ensure(layout, name).fingerprint
    return Node(layout, config, name, pin)


def introduce(nodes: Sequence[Node]) -> list[Layout]:
    """Let each know each of the others. Returns those whose config changed.

    :raises ConfigError: a name is another peer's; nothing was changed. Or a file can't be changed.
    """
    for one, other in combinations(nodes, 2):
        _check_free(one, other)
        _check_free(other, one)
        if not _share_keys(one, other):
            here, there = configfile.new_key(), configfile.new_key()
            one.edits.extend(_keys(other.name, shown_here=here, shown_there=there))
            other.edits.extend(_keys(one.name, shown_here=there, shown_there=here))
        one.edits.extend(_place(one, other))
        other.edits.extend(_place(other, one))
    return _write(nodes)


def part(nodes: Sequence[Node], name: str) -> list[Layout]:
    """Take ``name`` out of all of them: keys, scopes, pin and place. Returns those whose config changed.

    :raises ConfigError: a file can't be changed.
    """
    for node in nodes:
        if name not in _filed(node.config) and _entry_of(node.config, name) is None:
            continue
        node.edits.extend((("auth", section, name), None) for section in ("allowedKeys", "peerKeys", "scopes"))
        node.edits.append((("tls", "pinnedCerts", name), None))
        node.edits.append((("discovery", "manualPeers"), Entry("hostname", name)))
    return _write(nodes)


def knows(one: Node, other: Node) -> bool:
    """Whether ``one`` has all that ``introduce`` would give it for ``other``."""
    return _share_keys(one, other) and not _place(one, other)


def _write(nodes: Sequence[Node]) -> list[Layout]:
    changed = [node for node in nodes if node.edits]
    for node in changed:
        configfile.change_all(node.layout.config, node.edits)
    return [node.layout for node in changed]


def _check_free(node: Node, other: Node) -> None:
    """Somebody else's keys are never replaced: ours are known by where they listen.

    :raises ConfigError: the name is taken.
    """
    if other.name not in _filed(node.config):
        return
    entry = _entry_of(node.config, other.name)
    if entry is None or entry.address != other.entry["address"]:
        raise ConfigError(
            f"{node.name} knows another machine as {other.name} already",
            hint=f"take another name, or forget that one: loopsy peers revoke {other.name}",
        )


def _filed(config: Config) -> set[str]:
    return {*config.auth.allowed_keys, *config.auth.peer_keys, *config.tls.pinned_certs}


def _entry_of(config: Config, name: str) -> Any:
    return next((peer for peer in config.discovery.manual_peers if peer.hostname == name), None)


def _share_keys(one: Node, other: Node) -> bool:
    mine, theirs = one.config.auth, other.config.auth
    here, there = mine.peer_keys.get(other.name), theirs.peer_keys.get(one.name)
    return (
        here is not None
        and there is not None
        and theirs.allowed_keys.get(one.name) == here
        and mine.allowed_keys.get(other.name) == there
    )


def _keys(name: str, *, shown_here: str, shown_there: str) -> list[Edit]:
    """For the side that presents ``shown_here`` to ``name``."""
    return [(("auth", "peerKeys", name), shown_here), (("auth", "allowedKeys", name), shown_there)]


def _place(node: Node, other: Node) -> list[Edit]:
    """Pin and address of ``other``, where they aren't right in ``node``."""
    edits: list[Edit] = []
    if not _is_pinned(node.config.tls.pinned_certs.get(other.name), other.pin):
        edits.append((("tls", "pinnedCerts", other.name), other.pin))
    entry = _entry_of(node.config, other.name)
    wanted = other.entry
    if entry is None or (entry.address, entry.port) != (wanted["address"], wanted["port"]):
        edits.append((("discovery", "manualPeers"), Entry("hostname", other.name, wanted)))
    return edits


def _is_pinned(pinned: str | None, pin: str | None) -> bool:
    """Two fingerprints may stand there: that of the certificate in use, and the next one's."""
    if pinned is None or pin is None:
        return pinned == pin
    return pin in pinned.replace(":", "").lower().split(",")
