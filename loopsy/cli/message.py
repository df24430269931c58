"""``loopsy message`` and ``loopsy broadcast``: the words of the command line. What they do is in ``mailbox.py``,
``watch.py`` and ``hook.py``, which are imported when they are needed."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from loopsy.cli import arguments
from loopsy.errors import UsageError

TYPES = ("chat", "request", "response", "ack", "broadcast")
STATES = ("queued", "delivered", "unread", "read", "acked", "expired", "refused", "undeliverable", "cancelled")
"""The same as in ``wire.messages`` (a test says so), whose import would cost more than the request."""
SHOWN = 20
HOOKS = ("claude",)


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``message`` or ``broadcast``."""
    if name == "broadcast":
        _fill_broadcast(parser)
        return
    arguments.describe(
        parser,
        "Messages to and from other machines. They wait for a peer that is away, for days if they must.",
        "loopsy message send kai 'the build is green'\nloopsy message inbox\nloopsy message watch",
    )
    actions = parser.add_subparsers(metavar="<action>", required=True)
    for fill_one, word, text in (
        (_fill_send, "send", "send one"),
        (_fill_inbox, "inbox", "list what came"),
        (_fill_read, "read", "show one, and mark it as read"),
        (_fill_ack, "ack", "say that one was understood, or done"),
        (_fill_outbox, "outbox", "list what was sent, and how it stands"),
        (_fill_thread, "thread", "show a conversation"),
        (_fill_watch, "watch", "print (or hand on) each as it comes"),
        (_fill_cancel, "cancel", "take back one that is still queued"),
        (_fill_hook, "hook", "hand messages to a running agent"),
    ):
        fill_one(actions.add_parser(word, help=text))


def run_of(module: str, function: str) -> arguments.Run:
    """A command whose module is imported when it runs."""

    def run(args: argparse.Namespace) -> int:
        return int(getattr(__import__(f"loopsy.cli.{module}", fromlist=[function]), function)(args))

    return run


def _fill_send(parser: arguments.Parser) -> None:
    parser.is_intermixed = True
    arguments.describe(
        parser,
        "Send a message. It is on disk here when the command returns; the daemon delivers it when the peer is there.\n"
        "With --wait the exit status tells: 0 it was read (or acked), 1 it won't be, 124 not yet.",
        "loopsy message send kai 'the build is green'\n"
        "git diff | loopsy message send kai -          # - reads the text from stdin\n"
        "loopsy message send kai 'ready?' --wait=60    # until it is read, for at most a minute",
        run_of("mailbox", "send"),
    )
    arguments.complete_peers(parser.add_argument("peer", help="whom; * means every trusted peer"))
    _add_text(parser)
    complete_ids(parser.add_argument("--reply-to", metavar="ID", help="the message that this one answers"))
    _add_sending(parser)


def _fill_broadcast(parser: arguments.Parser) -> None:
    parser.is_intermixed = True
    arguments.describe(
        parser,
        "Send a message to every trusted peer; those that are away get it when they are back.",
        "loopsy broadcast 'the build server restarts at noon'",
        run_of("mailbox", "send"),
    )
    _add_text(parser)
    parser.set_defaults(peer="*", reply_to=None)
    _add_sending(parser)


def _add_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="*", help="the text; - (or none, behind a pipe) reads it from stdin")


def _add_sending(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", type=_wait, nargs="?", const=0, metavar="TIME", help="until it is read or acked")
    parser.add_argument("--ttl", type=arguments.milliseconds, metavar="TIME", help="worthless after 90 (s), 5m, 2h")
    parser.add_argument("--type", choices=TYPES, help="default: chat")
    parser.add_argument("--origin", choices=("person", "agent"), help="who wrote it (default: agent inside of one)")
    parser.add_argument("--force", action="store_true", help="go on though agents have answered each other for long")
    arguments.add_json(parser)


def _wait(text: str) -> int:
    try:
        return arguments.milliseconds(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; put --wait behind the text, or write --wait=60") from None


def _fill_inbox(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "List what came: unread ones (*) first. It changes nothing.",
        "loopsy message inbox\nloopsy message inbox --unread --from kai --json",
        run_of("mailbox", "inbox"),
    )
    parser.add_argument("--unread", action="store_const", dest="state", const="unread", help="these only")
    _add_list(parser, "--from", "from whom")


def _fill_outbox(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "List what was sent, the last first, and how it stands.",
        "loopsy message outbox\nloopsy message outbox --state open --to kai",
        run_of("mailbox", "outbox"),
    )
    _add_list(parser, "--to", "to whom")


def _add_list(parser: argparse.ArgumentParser, peer: str, text: str) -> None:
    parser.add_argument("--state", choices=("all", "open", *STATES), default="all", help="open: on its way")
    arguments.complete_peers(parser.add_argument(peer, dest="peer", metavar="PEER", help=text))
    parser.add_argument("--limit", type=_count, default=SHOWN, metavar="N", help=f"so many (default: {SHOWN})")
    arguments.add_json(parser)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 200):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 200")
    return int(text)


def _add_id(parser: argparse.ArgumentParser) -> None:
    complete_ids(parser.add_argument("id", help="its id, or so much of its beginning or end as is clear"))
    arguments.add_json(parser)


def _fill_read(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "Show a message whole. One that came is marked as read, and its sender learns that.",
        "loopsy message read 3f9a01bc",
        run_of("mailbox", "read"),
    )
    _add_id(parser)


def _fill_ack(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "Acknowledge a message: its sender learns that it was understood, or done.",
        "loopsy message ack 3f9a01bc\nloopsy message ack 3f9a01bc --reply 'done, see main'",
        run_of("mailbox", "ack"),
    )
    _add_id(parser)
    parser.add_argument("--reply", metavar="TEXT", help="send this as an answer, too")
    parser.add_argument("--origin", choices=("person", "agent"), help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help=argparse.SUPPRESS)


def _fill_thread(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "Show the conversation that a message belongs to, oldest first. It changes nothing.",
        "loopsy message thread 3f9a01bc",
        run_of("mailbox", "thread"),
    )
    _add_id(parser)


def _fill_cancel(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "Take back a message that was not delivered yet.",
        "loopsy message cancel 3f9a01bc",
        run_of("mailbox", "cancel"),
    )
    _add_id(parser)


def _fill_watch(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "Print each message that comes, as it comes; over restarts of the daemon too, none lost and none twice.\n"
        "With --exec a command is run for each, one after the other: the message is on its stdin as JSON, and\n"
        "$LOOPSY_MESSAGE_ID and $LOOPSY_MESSAGE_FROM say which and whose.",
        "loopsy message watch --from kai\nloopsy message watch --take --exec 'jq -r .body | my-agent'",
        run_of("watch", "messages"),
    )
    parser.add_argument("--exec", dest="command", metavar="CMD", help="run CMD (by sh) for each")
    arguments.complete_peers(parser.add_argument("--from", dest="peer", metavar="PEER", help="only those from PEER"))
    parser.add_argument(
        "--take", action="store_true", help="begin with the unread ones, and mark each as read: no other reader gets it"
    )
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object a line")


def _fill_hook(parser: argparse.ArgumentParser) -> None:
    arguments.describe(
        parser,
        "For an agent's own settings: hands new messages to the agent that runs this as its hook (JSON on stdin and\n"
        "stdout; docs/agents.md). Silent, and quick, where there is nothing to say or no daemon.",
        '{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "loopsy message hook claude"}]}]}}',
        run_of("hook", "run"),
    )
    parser.add_argument("agent", choices=HOOKS)
    arguments.complete_peers(parser.add_argument("--from", dest="peer", metavar="PEER", help="only those from PEER"))


# -- the text ---------------------------------------------------------------------------------------------------------
def text_of(words: list[str]) -> str:
    """What is to be said: the words, or stdin without its last line break.

    :raises UsageError: nothing, or not UTF-8.
    """
    if words == ["-"] or (not words and not sys.stdin.isatty()):
        data = sys.stdin.buffer.read()
        try:
            text = data.decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise UsageError(f"the text is not UTF-8 (byte {error.start})") from None
    else:
        text = " ".join(words)
    if not text:
        raise UsageError("there is no text to send", hint="give it as an argument, or behind a pipe")
    return text


# -- completion -------------------------------------------------------------------------------------------------------
def complete_ids(action: argparse.Action) -> None:
    """Let the shell complete this argument with ids of messages."""
    setattr(action, "completer", message_ids)  # noqa: B010 - argcomplete's way to say it; argparse knows no such field


def message_ids(**context: Any) -> list[str]:
    """Argcomplete's completer."""
    from loopsy.cli.completion import known_messages

    return known_messages(getattr(context.get("parsed_args"), "data_dir", None))
