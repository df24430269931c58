"""Words of scopes, and what the list of peers says of trust."""

from __future__ import annotations

from typing import Any

import pytest

from loopsy.cli import peers, trust
from loopsy.errors import UsageError
from loopsy.wire.trust import DEFAULT_SCOPES, SCOPES


def test_the_command_knows_the_areas_of_the_wire() -> None:
    assert (trust.DEFAULT_SCOPES, trust.SCOPES) == (DEFAULT_SCOPES, SCOPES)


def test_words_of_scopes() -> None:
    assert trust.scope_words("execute, context") == ["execute", "context"]
    assert trust.scope_words("all") == list(DEFAULT_SCOPES)
    assert trust.scope_words("all, approve") == trust.scope_words("context,all,approve") == list(SCOPES)
    assert trust.scope_words("none") == []
    for wrong in ("exec", "", ",", "execute,none", "all,exec"):
        with pytest.raises(UsageError):
            trust.scope_words(wrong)


@pytest.mark.parametrize(
    ("peer", "says", "may"),
    [
        ({"trusted": False}, "no key", "nothing"),
        ({"trusted": True, "scopes": ["context"]}, "key, plain http", "context"),
        ({"trusted": True, "pin": "ab", "scopes": list(DEFAULT_SCOPES)}, "pinned", "all"),
        ({"trusted": True, "pin": "ab", "scopes": list(SCOPES)}, "pinned", "all,approve"),
        ({"trusted": True, "pin": "ab", "scopes": []}, "pinned", "nothing"),
    ],
)
def test_a_row_says_how_far_trust_goes(peer: dict[str, Any], says: str, may: str) -> None:
    row = peers._row({"nodeId": "abcdefgh", **peer}, 0)
    assert row[4:6] == (says, may)
