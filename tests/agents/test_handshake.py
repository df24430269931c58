"""Servers that answer, and those that don't."""

import sys

import pytest

from loopsy.agents import handshake
from loopsy.agents.handshake import NoHandshake, count_tools
from tests.agents.fakes import server
from tests.waiting import PATIENCE_S


@pytest.mark.parametrize(("pages", "tools"), [(1, 2), (3, 6)])
def test_tools_are_counted_over_all_pages(pages: int, tools: int) -> None:
    assert count_tools(server(pages=pages), PATIENCE_S) == tools


def test_pages_without_end_end() -> None:
    assert count_tools(server(pages=10**9), PATIENCE_S) == 2 * handshake.PAGES_MOST


def test_what_is_no_answer_is_passed_over() -> None:
    junk = ("hello", "[]", "5", '{"jsonrpc":"2.0","method":"notifications/message","params":{}}',
            '{"jsonrpc":"2.0","id":1,"method":"roots/list"}', '{"jsonrpc":"2.0","id":99,"result":{}}')  # fmt: skip
    assert count_tools(server(before=f"print(*{junk!r}, sep='\\n', flush=True)"), PATIENCE_S) == 2


REFUSING = """
import sys
for line in sys.stdin:
    print('{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"too old"}}', flush=True)
"""


@pytest.mark.parametrize(
    ("command", "patience_s", "why"),
    [
        (("/nonexistent/loopsy",), PATIENCE_S, "can't be started: no such file"),
        ((sys.executable, "-c", ""), PATIENCE_S, "ended without an answer"),
        (("true",), PATIENCE_S, "ended without an answer"),
        (("sleep", "1000"), 2, "did not answer within 2 s"),
        ((sys.executable, "-c", REFUSING), PATIENCE_S, "refuses initialize.*too old"),
        (("cat",), 2, "did not answer within 2 s"),
        (("yes",), 2, "did not answer within 2 s"),
        (("cat", "/dev/zero"), PATIENCE_S, "says what is no MCP"),
    ],
)
def test_one_that_does_not_answer(command: tuple[str, ...], patience_s: float, why: str) -> None:
    with pytest.raises(NoHandshake, match=why):
        count_tools(command, patience_s)


def test_its_last_words_are_told() -> None:
    with pytest.raises(NoHandshake) as failed:
        count_tools((sys.executable, "-c", "import sys; sys.exit('x' * 9000 + ' no module named loopsy')"), PATIENCE_S)
    assert failed.value.hint is not None
    assert failed.value.hint.endswith("no module named loopsy")
    assert len(failed.value.hint) < 500


def test_it_sees_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPSY_DATA_DIR", "/d")
    looks = server(before="import os; assert not [n for n in os.environ if n.startswith('LOOPSY_')]")
    assert count_tools(looks, PATIENCE_S) == 2
