"""The words of ``loopsy message``, ids by their ends, and a taken message whose answer got lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.cli import mailbox, message, watch
from loopsy.client.local import LocalDaemon
from loopsy.errors import MessageNotFound, UsageError
from loopsy.wire import messages as wire
from loopsy.wire import sse
from tests.cli.running import configured
from tests.cli.scripted import ScriptedDaemon, answer, body_of
from tests.cli.test_imports import MESSAGE, PAGE

MISSING = answer(404, {"error": {"code": 8001, "message": "no message here has the id"}})
EMPTY = answer(200, {"messages": [], "unread": 0})


def page(*ids: str, **more: Any) -> bytes:
    return answer(200, {"messages": [{**MESSAGE, "id": one, **more} for one in ids], "unread": 0})


def test_the_command_knows_the_words_of_the_wire() -> None:
    assert message.TYPES == wire.TYPES
    assert message.STATES == wire.STATES


@pytest.mark.parametrize(("word", "finds"), [("1795-l", "1795-leo-aaaa"), ("bbbb", "1796-leo-bbbb")])
def test_the_start_or_the_end_of_an_id_will_do(tmp_path: Path, word: str, finds: str) -> None:
    with ScriptedDaemon(answers=[MISSING, EMPTY, page("1795-leo-aaaa", "1796-leo-bbbb")]) as daemon:
        found = mailbox.find(LocalDaemon(configured(tmp_path, daemon.port)), word)
    assert found["id"] == finds


def test_one_that_may_mean_several_is_refused(tmp_path: Path) -> None:
    said = [MISSING, page("x-aaaa"), page("y-aaaa", "x-aaaa")]
    with ScriptedDaemon(answers=said) as daemon, pytest.raises(UsageError, match="2 messages") as error:
        mailbox.find(LocalDaemon(configured(tmp_path, daemon.port)), "aaaa")
    assert error.value.hint == "x-aaaa\ny-aaaa"


def test_a_part_that_is_too_short_means_nothing(tmp_path: Path) -> None:
    with ScriptedDaemon(answers=[MISSING, page("x-aaa")]) as daemon, pytest.raises(MessageNotFound):
        mailbox.find(LocalDaemon(configured(tmp_path, daemon.port)), "aaa")
    assert len(daemon.requests) == 1


def test_the_search_ends(tmp_path: Path) -> None:
    full = answer(200, {"messages": [{**MESSAGE, "id": f"m{n}"} for n in range(200)], "unread": 0, "next": 5})
    with ScriptedDaemon(answers=[MISSING, full]) as daemon, pytest.raises(MessageNotFound):
        mailbox.find(LocalDaemon(configured(tmp_path, daemon.port)), "nowhere")
    assert len(daemon.requests) == 1 + 2 * mailbox.LATEST // mailbox.PAGE


@given(st.sets(st.text("ab-", min_size=1, max_size=20), min_size=1, max_size=20))
def test_short_ids_differ_and_are_ends(ids: set[str]) -> None:
    short = mailbox.short_ids([{"id": one} for one in ids])
    assert len(set(short.values())) == len(ids)
    assert all(one.endswith(end) for one, end in short.items())


def test_a_sender_is_shown_with_its_trust() -> None:
    assert mailbox.whose(MESSAGE) == "peer kai"
    assert mailbox.whose({**MESSAGE, "claimedFrom": "root"}) == "peer kai (calls itself root)"
    assert mailbox.whose({**MESSAGE, "trust": "from this machine"}) == "this machine"


@given(st.text(max_size=2000))
def test_first_words_are_one_line_and_short(text: str) -> None:
    words = mailbox.first_words(text)
    assert len(words) <= 60
    assert not set(words) & {"\n", "\t", "\r"}


HELLO = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + sse.encode({"type": "hello", "data": {}}, "1.0")


def test_what_was_taken_by_an_answer_that_got_lost_is_found(tmp_path: Path) -> None:
    before, after = {**MESSAGE, "seq": 4, "stateAt": 10}, {**MESSAGE, "seq": 5, "body": "lost", "stateAt": 2**52}
    later = {**MESSAGE, "seq": 6, "body": "later"}
    said = [
        answer(200, PAGE),  # where the inbox ends
        HELLO,
        b"",  # the daemon ends in mid-answer
        answer(200, {"messages": [after, before], "unread": 0}),  # what is read by now
        answer(200, {"messages": [later], "unread": 0}),
        EMPTY,
    ]
    with ScriptedDaemon(answers=said) as daemon:
        arrivals = iter(watch.Arrivals(LocalDaemon(configured(tmp_path, daemon.port)), "kai", take=True))
        assert [next(arrivals)["body"] for _ in range(2)] == ["lost", "later"]
    paths = [request.split(b" ")[1] for request in daemon.requests]
    assert paths[2] == paths[4] == b"/api/v1/messages/take"
    assert b"state=read" in paths[3]
    assert body_of(daemon.requests[2]) == {"limit": 50, "from": "kai"}


def test_a_stream_is_taken_up_again_where_it_broke(tmp_path: Path) -> None:
    from loopsy.client.events import follow

    event = sse.encode({"type": "job.ended", "at": 1, "data": {}}, "1.7")
    with ScriptedDaemon(answers=[HELLO + event + b"id: 1.8\ndata: {", HELLO + event]) as daemon:
        events = follow(LocalDaemon(configured(tmp_path, daemon.port)), "job")
        assert [next(events)["type"] for _ in range(4)] == ["hello", "job.ended", "hello", "job.ended"]
        events.close()
    assert b"last-event-id" not in daemon.requests[0].lower()
    assert b"Last-Event-ID: 1.7\r\n" in daemon.requests[1]


def test_an_event_in_one_line() -> None:
    event = {"type": "job.ended", "at": 1, "data": {"jobId": "j", "command": "echo", "args": ["a\nb"], "exitCode": 0}}
    assert watch.line_of(event).endswith("job.ended         jobId=j exitCode=0 echo a b")
    assert watch.line_of({"type": "peer.changed", "at": 1, "data": json.loads('{"name": "kai"}')}).endswith("name=kai")
