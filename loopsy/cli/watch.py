"""Following what happens without asking again and again: ``events``, ``message watch``, ``message send --wait``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loopsy.cli import arguments, render
from loopsy.cli.mailbox import SETTLED, Message, address_of, as_text, first_words, query
from loopsy.client.events import FIRST_WAIT_S, LONGEST_WAIT_S, Event, follow, is_passing
from loopsy.client.local import LocalDaemon
from loopsy.errors import LoopsyError, MessageNotFound
from loopsy.wire import urls

ANEW = ("hello", "reset")
"""After these the state has to be read."""
PAGE = 50


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``events``."""
    arguments.describe(
        parser,
        "Print what changes, as it changes: messages, peers, jobs, transfers, context, pairing, tasks. It goes on\n"
        "over restarts of the daemon. Of another machine you see what your scopes there allow.",
        "loopsy events\nloopsy events --types job,message.received --json | jq .data",
        events,
    )
    parser.add_argument("--types", default="", metavar="TYPES", help="areas (job) or types (job.ended), with commas")
    arguments.add_peer(parser)
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object a line")


# -- events -----------------------------------------------------------------------------------------------------------
def events(args: argparse.Namespace) -> int:
    """Print each, until Ctrl-C."""
    for event in follow(arguments.daemon_of(args), args.types, peer=arguments.peer_of(args.peer)):
        if arguments.wants_json(args):
            _say(json.dumps(event, ensure_ascii=sys.stdout.isatty()))
        elif event["type"] not in ANEW:
            _say(render.clean(line_of(event)))
        elif event["type"] == "reset":
            print("loopsy: the daemon was restarted, or too much happened: some events are lost", file=sys.stderr)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def line_of(event: Event) -> str:
    """An event in one line: when, what, and what of its thing tells it apart."""
    when = time.strftime("%H:%M:%S", time.localtime(event["at"] / 1000))
    data: Mapping[str, Any] = event.get("data") or {}
    return f"{when}  {event['type']:<17} {_told(data)}".rstrip()


NAMES = (
    "jobId",
    "transferId",
    "taskId",
    "key",
    "id",
    "name",
    "hostname",
    "state",
    "status",
    "to",
    "exitCode",
    "reason",
)


def _told(data: Mapping[str, Any]) -> str:
    words = [f"{name}={data[name]}" for name in NAMES if data.get(name) is not None]
    if "trust" in data:
        words.append(str(data["trust"]))
    if "command" in data:
        words.append(first_words(" ".join([str(data["command"]), *map(str, data.get("args") or [])])))
    if "body" in data:
        words.append(f": {first_words(str(data['body']))}")
    return " ".join(words)


# -- waiting for what was sent ----------------------------------------------------------------------------------------
def settled(daemon: LocalDaemon, messages: Sequence[Message], until: float | None) -> list[Message]:
    """The messages when each is settled, or at ``until`` (of ``time.monotonic``) at the latest."""
    now = {message["id"]: message for message in messages}
    for event in follow(daemon, "message", until=until):
        changed = event.get("data") or {}
        if event["type"] in ANEW:
            for name in now:
                now[name] = _sent(daemon, now[name])
        elif changed.get("direction") == "out" and changed.get("id") in now:
            now[changed["id"]] = changed
        if all(message["state"] in SETTLED for message in now.values()):
            break
    return list(now.values())


def _sent(daemon: LocalDaemon, message: Message) -> Message:
    try:
        found: Message = daemon.ask("GET", address_of(message["id"], box="out"))
    except MessageNotFound:
        return {**message, "state": "cancelled", "reason": "it was struck from the outbox"}
    except LoopsyError as error:
        if not is_passing(error):
            raise
        return message  # the daemon went away again: the stream will say when it is back
    return found


# -- watching the inbox -----------------------------------------------------------------------------------------------
def messages(args: argparse.Namespace) -> int:
    """Print each message, or run a command for it, until Ctrl-C."""
    daemon = arguments.daemon_of(args)
    for message in Arrivals(daemon, args.peer, args.take):
        if args.command is not None:
            _run(args.command, message)
        elif arguments.wants_json(args):
            _say(json.dumps(message, ensure_ascii=sys.stdout.isatty()))
        else:
            _say(as_text(message))
    return 0


class Arrivals:
    """Each message that comes, once. Its place is the inbox's own ``seq``, so no event that was lost, doubled or from
    another run of the daemon can matter: they only wake it."""

    def __init__(self, daemon: LocalDaemon, peer: str | None, take: bool) -> None:
        self._daemon, self._peer, self._take = daemon, peer, take
        newest = {"newest": 1, "limit": 1}
        last = daemon.ask("GET", urls.INBOX + query(newest))["messages"]
        self._seen: int = last[0]["seq"] if last else 0
        self._doubt: float | None = None
        """When a ``take`` was asked whose answer got lost (ms since the epoch)."""

    def __iter__(self) -> Iterator[Message]:
        for event in follow(self._daemon, "message.received"):
            if event["type"] in ANEW or self._take or event["data"]["seq"] > self._seen:
                yield from self._new()

    def _new(self) -> Iterator[Message]:
        """What is there now, however often the daemon goes away meanwhile."""
        wait = FIRST_WAIT_S
        while True:
            try:
                yield from self._taken() if self._take else self._listed()
                return
            except LoopsyError as error:
                if not is_passing(error):
                    raise
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)

    def _listed(self) -> Iterator[Message]:
        while True:
            asked = {"after": self._seen, "from": self._peer, "limit": PAGE}
            found = self._ask("GET", urls.INBOX + query(asked))["messages"]
            for message in found:
                self._seen = message["seq"]
                yield message
            if not found:
                return

    def _taken(self) -> Iterator[Message]:
        yield from self._doubtful()
        while True:
            self._doubt = time.time() * 1000
            body = {"limit": PAGE, **({"from": self._peer} if self._peer else {})}
            found = self._ask("POST", urls.TAKE, body)["messages"]
            self._doubt = None
            yield from found
            if not found:
                return

    def _doubtful(self) -> Iterator[Message]:
        """What became read when the daemon ended before its answer was here. (If another reader took it in that very
        moment it gets there twice; better than not at all.)"""
        if self._doubt is None:
            return
        asked = {"state": "read", "newest": 1, "from": self._peer, "limit": PAGE}
        found = self._ask("GET", urls.INBOX + query(asked))["messages"]
        since, self._doubt = self._doubt, None
        yield from sorted((m for m in found if m["stateAt"] >= since), key=lambda message: int(message["seq"]))

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        return LocalDaemon(self._daemon.layout.root).ask(method, path, body)


def _run(command: str, message: Message) -> None:
    """The message goes in by stdin and the environment, never into the line that the shell reads."""
    import subprocess

    names = {"LOOPSY_MESSAGE_ID": message["id"], "LOOPSY_MESSAGE_FROM": message["from"]}
    data = json.dumps(message, ensure_ascii=False).encode("utf-8", "backslashreplace")
    done = subprocess.run(command, shell=True, input=data, env={**os.environ, **names}, check=False)  # noqa: S602
    if done.returncode != 0:
        print(f"loopsy: the command ended with {done.returncode} for {render.clean(message['id'])}", file=sys.stderr)
