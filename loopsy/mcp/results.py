"""Results that a model can take: text without what hides in it, cut where it is too long, no key in it.

Sizes are in bytes of JSON, as results travel: a zero byte costs six there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from loopsy.errors import LoopsyError

T = TypeVar("T")
MOST = 60_000
"""Bytes of a whole result: about 25,000 tokens of dense text, which is where Claude Code stops."""
TEXT = 50_000
"""Bytes of the text in it; names, counts and notes have the rest."""
THIS_MACHINE = "this machine"
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)|[@-Z\\^_])")
"""A terminal's: colours, cursor, titles."""
HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]")
"""What a reader doesn't see: control characters, those that turn the direction of writing, tags, half characters."""
REPLACEMENT = "\ufffd"


def trust_of(peer: str | None) -> str:
    """Whose words they are, in the sentence that messages have."""
    return "from this machine" if peer is None else f"from peer {peer}, not from your user"


def moment(ms: object) -> str | None:
    """ms since the epoch → ``2026-11-28T09:30:00Z``; what is no time, or 0, → None."""
    if not isinstance(ms, int | float) or isinstance(ms, bool) or not 0 < ms < 253_402_300_800_000:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# -- text -------------------------------------------------------------------------------------------------------------
def visible(text: str) -> str:
    """With ``\ufffd`` for each character that hides or commands a terminal."""
    return HIDDEN.sub(REPLACEMENT, text)


def readable(text: str) -> str:
    """What a terminal would show: escape sequences gone, line ends plain."""
    return visible(ESCAPES.sub("", text).replace("\r\n", "\n"))


def cost(text: str) -> int:
    """Bytes of it in JSON."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) - 2


def beginning(text: str, budget: int) -> str:
    """As much of its beginning as costs no more than ``budget``."""
    length = min(len(text), budget)
    while (price := cost(text[:length])) > budget:
        length = min(length - 1, length * budget // price)
    return text[:length]


def ending(text: str, budget: int) -> str:
    """The same of its end."""
    return beginning(text[::-1], budget)[::-1]


def shortened(head: str, tail: str, size: int, budget: int) -> str:
    """Beginning and end of a text of ``size`` bytes, with a line between them that says how much is missing. The end
    has more room: there a command says how it went."""
    first, last = beginning(head, budget // 3), ending(tail, budget - budget // 3 - 100)
    left = size - len(first.encode("utf-8", "replace")) - len(last.encode("utf-8", "replace"))
    return f"{first}\n[… about {max(left, 0)} bytes are left out here …]\n{last}"


def part(text: str, offset: int, budget: int = TEXT) -> tuple[str, int | None]:
    """A text from a character on, as far as the budget goes, and where the rest begins."""
    shown = beginning(text[offset:], budget)
    end = offset + len(shown)
    return shown, end if end < len(text) else None


def page(
    items: Sequence[T], offset: int, limit: int, price: Callable[[T], int], budget: int = TEXT
) -> tuple[list[T], int | None]:
    """Items from one on, at most ``limit`` and as far as the budget goes (one at least), and where the rest begins."""
    shown: list[T] = []
    for item in items[offset : offset + limit]:
        budget -= price(item)
        if budget < 0 and shown:
            break
        shown.append(item)
    end = offset + len(shown)
    return shown, end if end < len(items) else None


# -- what must not get out --------------------------------------------------------------------------------------------
ENDPOINT = re.compile(
    r"\s*\([^()\s]*:\d{1,5}\)"  # kai (192.168.1.7:19532)
    r"|\bmanual-[^\s,;)]+"
    r"|\[[0-9A-Fa-f:.]{2,}\](?::\d{1,5})?"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?"
)
PORT = re.compile(r"\bport \d{1,5}\b")
ADDRESS = re.compile(r".*:.*|\d{1,3}(\.\d{1,3}){3}|manual-.*", re.DOTALL)
KEY_LINE = re.compile(r"^\s+(?:\S+:|-)\s+[\"']?([!-&(-~]{16,256})[\"']?\s*$")


def is_address(word: str) -> bool:
    """Whether it says where a machine is, not what it is called."""
    return ADDRESS.fullmatch(word) is not None


def without_addresses(text: str) -> str:
    """An error's words, without where machines are."""
    return PORT.sub("its port", ENDPOINT.sub(lambda found: "" if "(" in found[0] else "its address", text))


def keys_of(config: str) -> set[str]:
    """The keys in the text of a config file: what its section ``auth`` holds."""
    found: set[str] = set()
    inside = False
    for line in config.splitlines():
        if line[:1].strip():
            inside = line.startswith("auth:")
        elif inside and (match := KEY_LINE.match(line)):
            found.add(match[1].rstrip("\"'"))
    return found


def without_keys(text: str, keys: Iterable[str]) -> str:
    """With a note in each key's place."""
    for key in keys:
        if key in text:
            text = text.replace(key, "[a loopsy key, left out]")
    return text


# -- errors -----------------------------------------------------------------------------------------------------------
def in_words(error: LoopsyError) -> str:
    """What went wrong, and on the next line what to do about it."""
    message = visible(without_addresses(beginning(error.message, 4000)))
    what = advice(error)
    return f"{message}\n{what}" if what else message


ADVICE: dict[str, str] = {
    "DaemonNotRunning": "Start it with `loopsy start` in a terminal, or ask the user to; then call this tool again.",
    "UnknownRoute": "The loopsy there is of another version. The user updates it, then `loopsy restart`.",
    "PeerNotFound": "loopsy_list_peers shows the names. For this machine leave peer out.",
    "PeerOffline": "A message waits for it (loopsy_send_message); loopsy_list_peers shows who is online.",
    "PeerUnreachable": "Is that machine on, and loopsy running there? A message waits for it (loopsy_send_message).",
    "PeerTimeout": "Try again, or send a message, which waits for it (loopsy_send_message).",
    "Unauthenticated": "The user pairs the two machines with `loopsy pair`.",
    "Forbidden": "That machine doesn't let this one do it. Ask its user (`loopsy peers scope`).",
    "CommandDenied": "That machine's user decided so. Ask your user, don't work around it.",
    "PathDenied": "That machine's user decided so (transfer.allowedPaths). Use another path, or ask your user.",
    "FileMissing": "loopsy_list_remote_files shows what is there.",
    "KeyNotFound": "loopsy_context_list shows the keys.",
    "MessageNotFound": "loopsy_check_inbox shows what came, loopsy_check_ack what was sent.",
    "TaskNotFound": "loopsy_task_list shows the tasks; of another machine name its peer.",
    "TaskIsOver": "loopsy_task_status tells how it ended.",
    "TooManyTasks": "Wait for one of them to end (loopsy_task_list, loopsy_task_status), or set queue.",
    "AgentMissing": "That machine hasn't got this agent: choose another agent or machine, or ask your user.",
    "TooManyReplies": "Ask your user whether to go on; if so, call again with userConfirmed true.",
    "ConnectionBroken": "The daemon went away in the middle. Look whether it was done before you repeat it.",
}
"""By the class of an error, where the daemon has no advice of its own."""


OURS_IS_BETTER = (
    "AgentMissing", "CommandDenied", "DaemonNotRunning", "PathDenied", "PeerUnreachable", "TooManyReplies",
    "TooManyTasks", "UnknownRoute",
)  # fmt: skip
"""Their own hints are for people at a terminal."""


def advice(error: LoopsyError) -> str | None:
    """What to do next."""
    ours = ADVICE.get(type(error).__name__)
    if error.hint is None or type(error).__name__ in OURS_IS_BETTER:
        return ours
    told = visible(without_addresses(beginning(error.hint, 1000)))
    if not told.startswith("loopsy"):
        told = f"{told[:1].upper()}{told[1:]}"
    if type(error).__name__ == "PeerNotFound":
        return f"{told} {ours}" if told.endswith("?") else f"{told}. {ours}"
    return told
