"""Pairing without machines: the two halves talking in memory, fixed entropy for vectors, and the tables as text.

``python -m loopsy.testing.pairing`` writes the tables in docs/protocol/pairing.md and tests/vectors/pairing.json anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field

from loopsy.core import pairing, pairing_inviter, pairing_joiner
from loopsy.core.pairing_joiner import poll
from loopsy.core.pairing_keys import Entropy, Label, Role
from loopsy.core.pairing_messages import (
    Confirm,
    Confirmed,
    Done,
    Facts,
    Finish,
    Message,
    Wait,
    decode,
    encode,
    from_inviter,
    from_joiner,
)
from loopsy.core.pairing_states import MESSAGES, Ended, Kept, Refusal, Row, Table, Yes, say
from loopsy.errors import LoopsyError

INVITER = Facts(name="alfa", node_id="6f1c7c1e-0000-4000-8000-00000000000a", port=19532, fingerprint="aa" * 32)
JOINER = Facts(name="bravo", node_id="6f1c7c1e-0000-4000-8000-00000000000b", port=19533, fingerprint="bb" * 32)
CODE = "123456"

Wire = Callable[[bytes], bytes]


def fixed(seed: str) -> Entropy:
    """Bytes that look random and are the same each time: SHAKE-256 of a seed and a count."""
    count = 0

    def some(length: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_256(f"{seed}/{count}".encode()).digest(length)

    return some


@define
class Talk:
    """An inviter and a joiner, and what lies between them. Each step may be done by hand."""

    code: str = CODE
    typed: str | None = None
    inviter_entropy: Entropy = os.urandom
    joiner_entropy: Entropy = os.urandom
    to_inviter: Wire = field(default=lambda data: data)
    to_joiner: Wire = field(default=lambda data: data)
    said: list[tuple[str, bytes]] = field(factory=list)
    inviter: Any = None
    joiner: Any = None

    def __attrs_post_init__(self) -> None:
        self.inviter = pairing_inviter.begin(INVITER, self.code, self.inviter_entropy)
        typed = self.code if self.typed is None else self.typed
        self.joiner = pairing_joiner.begin(JOINER, typed, INVITER.fingerprint, self.joiner_entropy)

    def ask(self, message: Message) -> Any:
        """The joiner says something and hears the answer; what it then has to say."""
        try:
            answer = self.to_joiner(self.hear(self.to_inviter(self._note("joiner", message))))
            step = pairing_joiner.receive(self.joiner, from_inviter(answer))
        except LoopsyError as error:
            step = pairing_joiner.happened(self.joiner, Refusal(error))
        self.joiner = step.state
        return step.say

    def hear(self, data: bytes) -> bytes:
        """The inviter hears something and answers; storing takes no time here.

        :raises LoopsyError: instead.
        """
        step = pairing_inviter.receive(self.inviter, from_joiner(data))
        self.inviter = step.state
        if step.say is None and step.refusal is None:
            step = pairing_inviter.happened(self.inviter, Kept())
            self.inviter = step.state
        if step.refusal is not None:
            raise step.refusal
        assert step.say is not None
        return self._note("inviter", step.say)

    def _note(self, who: str, message: Message) -> bytes:
        self.said.append((who, encode(message)))
        return encode(message)

    def meet(self) -> Talk:
        """Until both show a number (or it ended)."""
        reveal = self.ask(self.joiner.hello)
        if reveal is not None:
            self.ask(reveal)
        return self

    def agree(self) -> Talk:
        """Both say yes, the joiner first."""
        self.joiner_says_yes()
        self.inviter = pairing_inviter.happened(self.inviter, Yes()).state
        if isinstance(self.joiner, pairing_joiner.OursGiven):
            self.ask(poll(self.joiner))
        return self

    def joiner_says_yes(self) -> None:
        """It does, and tells."""
        step = pairing_joiner.happened(self.joiner, Yes())
        self.joiner = step.state
        if step.say is not None:
            self.ask(step.say)

    def finish(self) -> Talk:
        """The joiner puts its half aside and has the inviter store its own."""
        if isinstance(self.joiner, pairing_joiner.Agreed):
            prepared = pairing.prepare(self.joiner, "192.0.2.1", INVITER.port, 0)
            try:
                finish = self._note("joiner", decode(bytes.fromhex(prepared.finish)))
                answer = self.to_joiner(self.hear(self.to_inviter(finish)))
            except LoopsyError:
                return self
            if pairing.settles(prepared, answer):
                self.joiner = pairing_joiner.happened(self.joiner, Kept()).state
        return self

    @property
    def is_paired(self) -> bool:
        """On either side."""
        ours, theirs = pairing_inviter.Paired, pairing_joiner.Paired
        return isinstance(self.inviter, ours) or isinstance(self.joiner, theirs)


# -- vectors ----------------------------------------------------------------------------------------------------------
def vector(code: str, seed: str) -> dict[str, Any]:
    """One pairing with fixed entropy: all its messages, and what came of it."""
    talk = Talk(code=code, inviter_entropy=fixed(f"{seed}/inviter"), joiner_entropy=fixed(f"{seed}/joiner")).meet()
    agreement = talk.joiner.agreement
    tokens = {
        kind.__name__: encode(say(agreement, label, kind)).hex()
        for label, kind in ((Label.WAIT, Wait), (Label.CONFIRM, Confirm), (Label.CONFIRMED, Confirmed),
                            (Label.FINISH, Finish), (Label.DONE, Done))
    }  # fmt: skip
    return {
        "seed": seed,
        "code": code,
        "messages": [{"from": who, "bytes": data.hex()} for who, data in talk.said],
        "sas": agreement.sas,
        "joinerPresents": agreement.key(Role.JOINER),
        "inviterPresents": agreement.key(Role.INVITER),
        "tokens": tokens,
    }


def vectors() -> list[dict[str, Any]]:
    """What tests/vectors/pairing.json holds."""
    return [vector("123456", "one"), vector("000000", "two"), vector("999999", "three")]


# -- the tables as text -----------------------------------------------------------------------------------------------
def described(table: Table) -> str:
    """A machine as a diagram and a table, from the table that the code walks."""
    rows = list(table.values())
    return f"{diagram(rows)}\n\n{listing(rows)}\n"


def listing(rows: list[Row]) -> str:
    """A Markdown table. Rows that differ by their state only are one."""
    merged: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for row in rows:
        to = tuple("the same" if kind is row.state else kind.__name__ for kind in row.to)
        merged.setdefault((_event(row.event), row.does, to), []).append(row.state.__name__)
    lines = ["| in | at | does | then |", "|---|---|---|---|"]
    for (at, does, to), states in merged.items():
        lines.append(f"| {', '.join(states)} | {at} | {does} | {' or '.join(to)} |")
    return "\n".join(lines)


def _event(kind: type) -> str:
    return f"message {kind.__name__}" if kind in MESSAGES else kind.__name__


def diagram(rows: list[Row]) -> str:
    """A Mermaid state diagram: what moves from one state to another. Ends are left to the table."""
    moves: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for kind in row.to:
            if kind is not row.state and kind is not Ended:
                moves.setdefault((row.state.__name__, kind.__name__), []).append(row.event.__name__)
    first = rows[0].state.__name__
    lines = [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in moves.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {first}", *lines, "    Paired --> [*]", "```"])


TABLES = {"inviter": pairing_inviter.TABLE, "joiner": pairing_joiner.TABLE}


def with_tables(text: str) -> str:
    """A document with the text between its markers made anew."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: made by loopsy.testing.pairing -->\n", f"<!-- end of {name} -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}{described(table)}{end}{tail}"
    return text


def main() -> None:
    """Write both."""
    root = Path(__file__).parents[2]
    document = root / "docs/protocol/pairing.md"
    document.write_text(with_tables(document.read_text()))
    (root / "tests/vectors").mkdir(exist_ok=True)
    (root / "tests/vectors/pairing.json").write_text(json.dumps(vectors(), indent=1) + "\n")


if __name__ == "__main__":
    main()
