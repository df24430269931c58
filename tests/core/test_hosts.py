"""Host headers: ours and those of others."""

from __future__ import annotations

import pytest

from loopsy.core import hosts
from loopsy.errors import Misdirected

NAMES = frozenset({"kai", "kai.local"})


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:80", "[::1]", "[fe80::1]:19532", "::1", "localhost", "LOCALHOST:1", "kai.", "Kai"]
)
def test_ours(host: str) -> None:
    hosts.check(host, NAMES)


@pytest.mark.parametrize(
    "host", ["", "evil", "kai.evil", "127.0.0.1.evil", "localhost.evil:80", "127.1", "0x7f.1", "[::1].evil", "a@::1"]
)
def test_another(host: str) -> None:
    with pytest.raises(Misdirected):
        hosts.check(host, NAMES)
