"""Sending messages, and looking into the inbox and the outbox."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from loopsy.cli import arguments, render
from loopsy.cli.message import text_of
from loopsy.client.local import LocalDaemon
from loopsy.errors import MessageNotFound, UsageError
from loopsy.wire import urls

Message = dict[str, Any]
LATEST = 1000
"""Messages of each box among which the start or end of an id is looked for."""
PAGE = 200
SHORT = 8
"""Characters of an id's end that are shown, and enough as a rule."""
LEAST = 4
AGENTS = ("AI_AGENT", "CLAUDECODE", "CODEX_THREAD_ID", "GEMINI_CLI")
"""Variables that agents set for the commands they run (seen with Claude Code 2.1, Codex 0.169, Gemini CLI 0.61)."""
TIMED_OUT = 124
"""As ``timeout`` has it."""
WON = ("read", "acked")
SETTLED = (*WON, "refused", "undeliverable", "expired", "cancelled")


# -- sending ----------------------------------------------------------------------------------------------------------
def send(args: argparse.Namespace) -> int:
    """Send, and wait for it where that was asked for."""
    daemon = arguments.daemon_of(args)
    body: dict[str, Any] = {"to": args.peer, "body": _utf8(text_of(args.text)), **said_by(args)}
    if args.type is not None:
        body["type"] = args.type
    if args.ttl is not None:
        body["ttl"] = args.ttl / 1000
    if args.reply_to is not None:
        body["inReplyTo"] = find(daemon, args.reply_to)["id"]
    answer = daemon.ask("POST", urls.MESSAGES, body)
    if args.wait is not None:
        return _wait(args, daemon, answer["messages"])
    if arguments.wants_json(args):
        render.print_json(answer)
    else:
        _tell_sent(answer["messages"])
    return 0


def said_by(args: argparse.Namespace) -> dict[str, Any]:
    """Who wrote it. A command of an agent is the agent's, unless it says that the user told it."""
    inside = any(os.environ.get(name) for name in AGENTS)
    origin = args.origin or ("agent" if inside else "person")
    return {"origin": origin, **({"force": True} if args.force else {})}


def _utf8(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError("the text is not UTF-8") from None
    return text


def _tell_sent(messages: Sequence[Message]) -> None:
    for message in messages:
        if sys.stdout.isatty():
            print(f"queued for {render.clean(message['to'])} as {render.clean(message['id'])}")
        else:
            print(render.clean(message["id"]))


def _wait(args: argparse.Namespace, daemon: LocalDaemon, messages: Sequence[Message]) -> int:
    """Until each is settled, or time is over."""
    from loopsy.cli.watch import settled

    until = time.monotonic() + args.wait / 1000 if args.wait else None
    ended = settled(daemon, messages, until)
    if arguments.wants_json(args):
        render.print_json({"messages": ended})
    else:
        for message in ended:
            print(_outcome(message))
    if any(message["state"] not in SETTLED for message in ended):
        return TIMED_OUT
    return 0 if all(message["state"] in WON for message in ended) else 1


def _outcome(message: Message) -> str:
    state, reason = message["state"], message.get("reason")
    who = "you" if message.get("direction") == "in" else message["to"]
    text = f"{state} by {who}" if state in (*WON, "refused") else f"{state}: {who}"
    return render.clean(text + (f" ({reason})" if reason else ""))


# -- the boxes --------------------------------------------------------------------------------------------------------
def inbox(args: argparse.Namespace) -> int:
    """What came: unread ones first, then the last ones."""
    daemon = arguments.daemon_of(args)
    page = _page(daemon, urls.INBOX, args, "from", state=args.state)
    messages = page["messages"]
    if args.state == "all":
        unread = _page(daemon, urls.INBOX, args, "from", state="unread")["messages"]
        rest = [message for message in messages if message["state"] != "unread"]
        messages = [*unread, *rest][: args.limit]
    if arguments.wants_json(args):
        render.print_json({"messages": messages, "unread": page["unread"]})
    elif not messages:
        print("no messages")
    else:
        now, ids = time.time() * 1000, short_ids(messages)
        print(render.table(("", "id", "from", "came", "state", "text"), [_row_in(m, ids, now) for m in messages]))
        hidden = page["unread"] - sum(message["state"] == "unread" for message in messages)
        if hidden > 0 and not args.peer:
            print(f"{hidden} more unread")
    return 0


def _row_in(message: Message, ids: Mapping[str, str], now_ms: float) -> tuple[object, ...]:
    flag = "*" if message["state"] == "unread" else ""
    came = render.ago(message.get("receivedAt") or message["ts"], now_ms)
    return flag, ids[message["id"]], whose(message), came, message["state"], first_words(message["body"])


def outbox(args: argparse.Namespace) -> int:
    """What was sent, the last first."""
    page = _page(arguments.daemon_of(args), urls.OUTBOX, args, "to", state=args.state)
    messages = page["messages"]
    if arguments.wants_json(args):
        render.print_json({"messages": messages, "unread": page["unread"]})
    elif not messages:
        print("no messages")
    else:
        now, ids = time.time() * 1000, short_ids(messages)
        print(render.table(("id", "to", "sent", "state", "text"), [_row_out(m, ids, now) for m in messages]))
    return 0


def _row_out(message: Message, ids: Mapping[str, str], now_ms: float) -> tuple[object, ...]:
    reason = message.get("reason")
    state = message["state"] + (f" ({first_words(reason)})" if reason else "")
    return ids[message["id"]], message["to"], render.ago(message["ts"], now_ms), state, first_words(message["body"])


def _page(daemon: LocalDaemon, path: str, args: argparse.Namespace, word: str, **more: Any) -> Any:
    asked = {word: args.peer, "limit": args.limit, "newest": 1, **more}
    return daemon.ask("GET", path + query(asked))


def query(asked: Mapping[str, Any]) -> str:
    """What is asked for, without what is None."""
    words = [f"{name}={urls.segment(str(value))}" for name, value in asked.items() if value is not None]
    return "?" + "&".join(words) if words else ""


def whose(message: Message) -> str:
    """The sender with its trust: ``peer kai``, ``this machine``."""
    label = message["trust"].removeprefix("from ").partition(",")[0]
    claimed = message.get("claimedFrom")
    return f"{label} (calls itself {claimed})" if claimed and claimed not in label else label


def first_words(text: str, room: int = 60) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text[: 4 * room].split())
    return line if len(line) <= room and len(text) <= 4 * room else line[: room - 1] + "…"


# -- ids --------------------------------------------------------------------------------------------------------------
def short_ids(messages: Sequence[Message]) -> dict[str, str]:
    """The ends of the ids, as long as they must be to differ."""
    ids = {message["id"] for message in messages}
    length = SHORT
    while len({word[-length:] for word in ids}) < len(ids):
        length += 1
    return {word: word[-length:] for word in ids}


def find(daemon: LocalDaemon, word: str, box: str | None = None) -> Message:
    """The message with this id, or the one whose id starts or ends so.

    :raises MessageNotFound: none does. :raises UsageError: several do.
    """
    try:
        message: Message = daemon.ask("GET", address_of(word, box=box))
        return message
    except MessageNotFound as error:
        error.hint = "see: loopsy message inbox, loopsy message outbox"
        found = _latest(daemon, word, box) if len(word) >= LEAST else {}
        if not found:
            raise
    if len(found) > 1:
        several = "\n".join(sorted(found)[:10])
        raise UsageError(f"{word!r} may mean {len(found)} messages", hint=several)
    return next(iter(found.values()))


def _latest(daemon: LocalDaemon, word: str, box: str | None) -> dict[str, Message]:
    found: dict[str, Message] = {}
    for path in (urls.OUTBOX, urls.INBOX):  # the inbox's goes before, where both have one
        if box is None or path.endswith(f"{box}box"):
            for message in _newest(daemon, path):
                if message["id"].startswith(word) or message["id"].endswith(word):
                    found[message["id"]] = message
    return found


def _newest(daemon: LocalDaemon, path: str) -> list[Message]:
    messages: list[Message] = []
    after = None
    while len(messages) < LATEST:
        page = daemon.ask("GET", path + query({"newest": 1, "limit": PAGE, "after": after}))
        messages += page["messages"]
        after = page.get("next")
        if after is None:
            break
    return messages


def address_of(message_id: str, rule: str = urls.MESSAGE, box: str | None = None) -> str:
    """Where a message is asked for."""
    return urls.fill(rule, message_id=message_id) + query({"box": box})


# -- one message ------------------------------------------------------------------------------------------------------
def read(args: argparse.Namespace) -> int:
    """Show it; one that came is read now."""
    daemon = arguments.daemon_of(args)
    message = find(daemon, args.id)
    if message["direction"] == "in":
        message = daemon.ask("POST", address_of(message["id"], urls.MESSAGE_READ, "in"))
    if arguments.wants_json(args):
        render.print_json(message)
    else:
        print(render.facts(_facts(message, time.time() * 1000)))
        print(f"\n{render.clean_text(message['body'])}")
    return 0


def _facts(message: Message, now_ms: float) -> list[tuple[str, object]]:
    came = message["direction"] == "in"
    shown = [
        ("id", message["id"]),
        ("trust", message["trust"]) if came else ("to", message["to"]),
        ("calls itself", message.get("claimedFrom")),
        ("type", f"{message['type']}, written by {'a person' if message['origin'] == 'person' else 'an agent'}"),
        ("came" if came else "sent", render.ago(message.get("receivedAt") or message["ts"], now_ms)),
        ("state", message["state"] + (f" ({message['reason']})" if message.get("reason") else "")),
        ("answers", message.get("inReplyTo")),
    ]
    return [(name, value) for name, value in shown if value is not None]


def ack(args: argparse.Namespace) -> int:
    """Acknowledge it. An answer goes first: what could not be answered is not done."""
    daemon = arguments.daemon_of(args)
    message, replies = find(daemon, args.id, "in"), []
    if args.reply is not None:
        body = {"to": message["from"], "body": _utf8(args.reply), "type": "response", "inReplyTo": message["id"]}
        replies = daemon.ask("POST", urls.MESSAGES, {**body, **said_by(args)})["messages"]
    done = daemon.ask("POST", address_of(message["id"], urls.MESSAGE_ACK, "in"), {})
    if arguments.wants_json(args):
        render.print_json({"message": done, "replies": replies})
        return 0
    if sys.stdout.isatty():
        print(f"acked {render.clean(message['id'])}")
    _tell_sent(replies)
    return 0


def thread(args: argparse.Namespace) -> int:
    """The conversation."""
    daemon = arguments.daemon_of(args)
    name = find(daemon, args.id)["thread"]
    answer = daemon.ask("GET", urls.fill(urls.MESSAGE_THREAD, thread=name))
    if arguments.wants_json(args):
        render.print_json(answer)
    else:
        print("\n".join(as_text(message) for message in answer["messages"]))
    return 0


def as_text(message: Message) -> str:
    """A message for people: whose, when, and the text below."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(message["ts"] / 1000))
    who = message["trust"] if message["direction"] == "in" else f"to {message['to']}"
    head = f"{when}  {who}  [{message['id']}]  {message['state']}"
    body = "\n".join(f"  {line}" for line in render.clean_text(message["body"]).split("\n"))
    return f"{render.clean(head)}\n{body}"


def cancel(args: argparse.Namespace) -> int:
    """Take one back.

    :raises UsageError: it is too late.
    """
    daemon = arguments.daemon_of(args)
    message = find(daemon, args.id, "out")
    if message["state"] != "queued":
        raise UsageError(f"it is too late: {message['id']} is {message['state']}")
    answer = daemon.ask("DELETE", address_of(message["id"], box="out"))
    if arguments.wants_json(args):
        render.print_json(answer)
    else:
        print(f"cancelled {render.clean(message['id'])}")
    return 0
