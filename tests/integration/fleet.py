"""A machine and its peers, each a real daemon on loopback."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loopsy.testing.nodes import Node, free_port


class Fleet:
    """``chief`` knows all the others by key; they know only it."""

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        sections: Mapping[str, Mapping[str, Any]] = {},
        through: Callable[[int], int] = lambda port: port,
    ) -> None:
        """``sections``: by a peer's name, what its config has beyond what a test needs. ``through``: at which port the
        chief reaches the peer that listens at one. None is started."""
        self.chief = Node(root / "chief", "chief")
        self.peers = {name: Node(root / name, name, port=free_port()) for name in names}
        keys = {name: secrets.token_hex(32) for name in names}
        for name, peer in self.peers.items():
            auth = {"apiKey": peer.key, "allowedKeys": {"chief": keys[name]}}
            peer.write_config(auth=auth, **sections.get(name, {}))
        manual = [
            {"address": "127.0.0.1", "port": through(peer.port), "hostname": name} for name, peer in self.peers.items()
        ]
        self.chief.write_config(
            auth={"apiKey": self.chief.key, "peerKeys": keys}, discovery={"enabled": False, "manualPeers": manual}
        )

    def start(self, but: Sequence[str] = ()) -> Fleet:
        """All daemons, but for some."""
        for name, peer in self.peers.items():
            if name not in but:
                peer.start()
        self.chief.start()
        return self

    def stop(self) -> None:
        """Those that run."""
        for node in (self.chief, *self.peers.values()):
            node.stop()

    @property
    def log(self) -> str:
        """Of all."""
        return "".join(node.log for node in (self.chief, *self.peers.values()))
