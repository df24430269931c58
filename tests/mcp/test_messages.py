"""The tools for messages, over a daemon that is a table of answers."""

from __future__ import annotations

from pathlib import Path

from loopsy.errors import (
    MessageNotFound,
    TooManyReplies,
)
from loopsy.mcp.results import MOST
from tests.mcp.fake import (
    KAI,
    FakeDaemon,
    bad,
    call,
    good,
    text_of,
)

MESSAGE = {
    "id": "1-kai-a", "direction": "in", "seq": 1, "from": "kai", "fromNodeId": KAI, "to": "leo", "type": "request",
    "body": "please", "ts": 1_700_000_000_000, "state": "read", "stateAt": 1_700_000_001_000, "thread": "1-kai-a",
    "origin": "agent", "depth": 3, "trust": "from peer kai, not from your user", "receivedAt": 1_700_000_000_500,
    "attempts": 0,
}  # fmt: skip
OUR_MESSAGE = {**MESSAGE, "id": "2-leo-b", "direction": "out", "from": "leo", "to": "kai", "state": "queued",
               "trust": "from this machine", "reason": "kai (192.168.1.7:19532) can't be reached"}  # fmt: skip


def test_a_message_is_sent_as_an_agent_s(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path, {"POST /api/v1/messages": {"messages": [OUR_MESSAGE]}})
    given = {"to": "kai", "body": "hello", "type": "request", "inReplyTo": "1-kai-a", "ttlSeconds": 60}
    sent = good(daemon, "loopsy_send_message", **given)["messages"]
    body = {"to": "kai", "body": "hello", "type": "request", "inReplyTo": "1-kai-a", "ttl": 60.0, "origin": "agent"}
    assert daemon.asked == [("POST", "/api/v1/messages", body)]
    assert (sent[0]["id"], sent[0]["state"], sent[0]["acked"]) == ("2-leo-b", "queued", False)
    good(daemon, "loopsy_send_message", to="*", body="hello", userConfirmed=True)
    assert daemon.asked[1][2] == {"to": "*", "body": "hello", "force": True, "origin": "agent"}


def test_the_guard_against_endless_answers_says_how_to_go_on(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path, {"POST /api/v1/messages": TooManyReplies(hint="ask the user")})
    assert "userConfirmed" in bad(daemon, "loopsy_send_message", to="kai", body="thanks", inReplyTo="1-kai-a")


def test_new_messages_are_taken_with_their_trust_before_their_text(tmp_path: Path) -> None:
    message = {**MESSAGE, "body": "run \U000e0041\u202e rm\x1b[2J", "claimedFrom": "boss"}
    daemon = FakeDaemon(tmp_path, {"POST /api/v1/messages/take": {"messages": [message], "unread": 2}})
    result = call(daemon, "loopsy_check_inbox", waitSeconds=1, limit=5, peer="kai", thread="t")
    assert daemon.asked == [("POST", "/api/v1/messages/take", {"limit": 5, "wait": 1.0, "from": "kai", "thread": "t"})]
    (shown,) = dict(result.structured_content or {})["messages"]
    assert list(shown).index("trust") < list(shown).index("body")
    assert shown["body"] == "run \ufffd\ufffd rm\ufffd[2J"
    assert (shown["from"], shown["claimedFrom"], shown["origin"]) == ("kai", "boss", "agent")
    assert dict(result.structured_content or {})["unread"] == 2


def test_many_long_messages_stay_within_a_result_and_each_can_be_read_whole(tmp_path: Path) -> None:
    bodies = {f"m{n}": f"{n} \u20ac\0 " * 6000 for n in range(30)}
    messages = [{**MESSAGE, "id": name, "body": body} for name, body in bodies.items()]
    daemon = FakeDaemon(tmp_path, {
        "POST /api/v1/messages/take": {"messages": messages, "unread": 0},
        "GET /api/v1/messages/inbox?state=read&limit=30": {"messages": messages, "unread": 0},
    })  # fmt: skip
    daemon.answers |= {f"GET /api/v1/messages/{one['id']}?box=in": one for one in messages}
    result = call(daemon, "loopsy_check_inbox", limit=30, includeUnacked=True)
    assert len(text_of(result).encode()) <= MOST
    shown = dict(result.structured_content or {})["messages"][7]
    text, offset = shown["body"], shown["nextOffset"]
    while offset is not None:
        (more,) = good(daemon, "loopsy_check_inbox", messageId="m7", offset=offset)["messages"]
        text, offset = text + more["body"], more.get("nextOffset")
    assert text == bodies["m7"].replace("\0", "\ufffd")


def test_what_was_read_and_not_acknowledged_comes_again_if_asked(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path, {
        "GET /api/v1/messages/inbox?state=read&limit=10&from=kai": {"messages": [MESSAGE], "unread": 0},
        "POST /api/v1/messages/take": {"messages": [{**MESSAGE, "id": "3-kai-c"}], "unread": 0},
    })  # fmt: skip
    shown = good(daemon, "loopsy_check_inbox", includeUnacked=True, peer="kai", waitSeconds=30)
    assert [message["id"] for message in shown["messages"]] == ["1-kai-a", "3-kai-c"]
    assert daemon.asked[1][2]["wait"] == 0, "there is something to show already"


def test_messages_are_acknowledged_and_looked_after(tmp_path: Path) -> None:
    daemon = FakeDaemon(tmp_path, {
        "POST /api/v1/messages/1-kai-a/ack": {**MESSAGE, "state": "acked"},
        "GET /api/v1/messages/2-leo-b?box=out": {**OUR_MESSAGE, "state": "acked"},
        "GET /api/v1/messages/outbox?state=open&limit=3&newest=1&to=kai": {"messages": [OUR_MESSAGE], "unread": 0},
        "GET /api/v1/messages/x?box=out": MessageNotFound(),
    })  # fmt: skip
    assert good(daemon, "loopsy_ack_message", messageId="1-kai-a")["state"] == "acked"
    assert good(daemon, "loopsy_check_ack", messageId="2-leo-b")["acked"] == 1
    (waiting,) = good(daemon, "loopsy_check_ack", peer="kai", onlyOpen=True, limit=3)["messages"]
    assert (waiting["preview"], waiting["reason"]) == ("please", "kai can't be reached")
    assert "loopsy_check_inbox" in bad(daemon, "loopsy_check_ack", messageId="x")
