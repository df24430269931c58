"""What an attacker does to a pairing: in between the two machines, or beside them.

Also a program, for an attacker with a network of its own:
``python -m tests.integration.eve <what> <listen> <port> <target> <port> <certificate directory> [code]`` says
``ready``, does it until its stdin ends, and then tells as JSON what it has seen.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from loopsy.core import pairing_joiner
from loopsy.core.pairing_keys import Agreement, Ephemeral, Role
from loopsy.core.pairing_messages import Hello, Reveal, Revealed, Welcome, decode, encode, pack
from loopsy.store import certificate
from loopsy.store.layout import Layout
from loopsy.testing.pairing import JOINER, fixed
from tests.core.test_pairing import Middle, revealed
from tests.integration.between import Between, ask

GRIND_S = 60.0
"""Far more than it takes to find a number with the same last two digits."""


@frozen(kw_only=True)
class Place:
    """Where the attacker sits, and what it has."""

    listen: tuple[str, int] = ("127.0.0.1", 0)
    target: tuple[str, int]
    root: Path
    """For its own certificate."""
    code: str = ""
    """The invite code, where somebody has looked over a shoulder."""
    fingerprint: str = field(init=False)
    context: ssl.SSLContext = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        layout = Layout(self.root)
        layout.make()
        object.__setattr__(self, "fingerprint", certificate.ensure(layout, "eve").fingerprint)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(layout.tls_certificate, layout.tls_key)
        object.__setattr__(self, "context", context)

    def between(self, *fronts: str) -> Between:
        """Sit there; towards the inviter TLS is spoken, as it asks for."""
        return Between(self.target, listen=self.listen, fronts=fronts, certificate=self.context, secure=True)


def naming(made: Between, fingerprint: str) -> Between:
    """The same, telling the joiner that the inviter has this certificate."""

    def rewrite(data: bytes) -> bytes:
        message = decode(data)
        return encode(evolve(message, fingerprint=fingerprint)) if isinstance(message, Welcome) else data

    made.to_joiner = rewrite
    return made


class MiddleWithCertificate(Middle):
    """Knows the code, and is the inviter to the joiner with a certificate of its own."""

    def __init__(self, code: str, fingerprint: str, seed: str) -> None:
        super().__init__(frozenset({"name", "node_id", "port"}), seed, code)
        self.fingerprint = fingerprint
        for spake in self.spakes.values():
            spake.key = cache(spake.key)  # type: ignore[method-assign]  # a run of SPAKE2 tells its key just once

    def _own(self, message: Any, role: Role) -> Any:
        own = super()._own(message, role)
        return evolve(own, fingerprint=self.fingerprint) if role is Role.INVITER else own


def middle(place: Place) -> Between:
    """All is the attacker's own, made with the right code."""
    made, eve = place.between("tls"), MiddleWithCertificate(place.code, place.fingerprint, str(time.time_ns()))
    made.to_joiner = eve.to_joiner
    # Questions stay here: their tokens would tell the inviter at once that the joiner has another secret.
    made.to_inviter = lambda data: eve.to_inviter(data) if isinstance(decode(data), Hello | Reveal) else None
    return made


def grind(place: Place) -> Between:
    """The same, and before the joiner is shown a key, one is looked for that gives it the inviter's number (here its
    last two digits: all six take ten thousand times as long, and come to the same)."""
    made, eve = place.between("tls"), MiddleWithCertificate(place.code, place.fingerprint, str(time.time_ns()))

    def to_joiner(data: bytes) -> bytes:
        message = decode(data)
        return encode(ground(eve, message)) if isinstance(message, Revealed) else eve.to_joiner(data)

    made.to_joiner = to_joiner
    made.to_inviter = lambda data: eve.to_inviter(data) if isinstance(decode(data), Hello | Reveal) else None
    return made


def ground(eve: MiddleWithCertificate, real: Revealed) -> Revealed:
    """What shows the joiner the number that the inviter shows."""
    welcome, told = eve.real[Welcome], eve.mine[Reveal]
    at_inviter = Agreement.of(
        welcome.exchange,
        eve.spakes[Role.JOINER].key(welcome.spake),
        eve.ephemerals[Role.JOINER].secret(real.public),
        *(encode(message) for message in (eve.mine[Hello], welcome, told, real)),
    )
    hello, shown, opened = eve.real[Hello], eve.mine[Welcome], eve.real[Reveal]
    key = eve.spakes[Role.INVITER].key(hello.spake)
    until = time.monotonic() + GRIND_S
    tried = 0
    while time.monotonic() < until:
        tried += 1
        mine = Ephemeral.make(fixed(f"ground {tried}"))
        say = revealed(key, mine, hello, shown, opened)
        said = (encode(message) for message in (hello, shown, opened, say))
        if Agreement.of(shown.exchange, key, mine.secret(opened.public), *said).sas[-2:] == at_inviter.sas[-2:]:
            return say
    raise AssertionError("nothing was found")


def swap(place: Place, then: str) -> Between:
    """The first connection is passed on as it is, so that the right certificate is seen. Then it is another's turn."""
    return place.between("splice", then)


BETWEEN: dict[str, Callable[[Place], Between]] = {
    "relays": lambda place: place.between("splice"),
    "offers its certificate": lambda place: place.between("tls"),
    "offers its certificate and names it": lambda place: naming(place.between("tls"), place.fingerprint),
    "strips TLS": lambda place: place.between("plain"),
    "strips TLS by silence": lambda place: place.between("mute"),
    "strips TLS and says there is none": lambda place: naming(place.between("plain"), ""),
    "changes certificates on the way": lambda place: swap(place, "tls"),
    "strips TLS on the way": lambda place: swap(place, "plain"),
    "knows the code": middle,
    "knows the code and grinds": grind,
}


# -- beside them ------------------------------------------------------------------------------------------------------
class Stranger:
    """Somebody who speaks to the inviter's pairing without being asked."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.answers: list[int] = []
        """Our codes; 200 for an answer that is none of them."""

    def says(self, address: str, message: bytes) -> bytes | None:
        """One message; its answer, None for a refusal."""
        body = json.dumps({"message": b64encode(message).decode()}).encode()
        head = {"content-type": "application/json"}
        try:
            status, data = ask(self.target, "POST", f"/api/v1/pair/{address}", body, head, secure=True)
        except OSError:
            self.answers.append(0)
            return None
        parsed = json.loads(data)
        self.answers.append(200 if status == 200 else parsed["error"]["code"])
        return b64decode(parsed["message"]) if status == 200 else None

    def tries(self, code: str) -> None:
        """One guess: greet and prove."""
        state = pairing_joiner.begin(JOINER, code, "?", lambda size: fixed(f"{time.time_ns()}")(size))
        welcome = self.says("initiate", encode(state.hello))
        if welcome is not None:
            said = decode(welcome)
            assert isinstance(said, Welcome)
            step = pairing_joiner.receive(evolve(state, seen=said.fingerprint), said)
            self.says("messages", encode(step.say))  # type: ignore[arg-type]


def brute(stranger: Stranger, over: threading.Event, guesses: list[str]) -> None:
    """One code after the other, as fast as the inviter lets anybody."""
    for guess in guesses:
        if over.is_set():
            return
        stranger.tries(guess)
        while stranger.answers[-1] == 9002 and not over.wait(0.3):
            stranger.tries(guess)


def flood(stranger: Stranger, over: threading.Event) -> None:
    """Greetings without end, from four at once."""
    hellos = [encode(pairing_joiner.begin(JOINER, "000000", None, fixed(f"flood {n}")).hello) for n in range(50)]

    def one(number: int) -> None:
        while not over.is_set():
            number += 4
            stranger.says("initiate", hellos[number % len(hellos)])

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def race(stranger: Stranger, over: threading.Event) -> None:
    """Greetings and guesses while the honest one is at it (two wrong ones: a third would end it), then whatever may be
    said to a session without knowing its secret."""
    for guess in ("000001", "000002"):
        stranger.tries(guess)
    exchange = bytes(16)
    for kind in range(5, 9):
        stranger.says("messages", pack(b"loopsy-pair-1", bytes([kind]), exchange, bytes(32)))
        over.wait(0.1)


def replay(stranger: Stranger, messages: list[str]) -> None:
    """What was heard of an earlier session, in the order in which it was said."""
    for text in messages:
        data = bytes.fromhex(text)
        stranger.says("initiate" if isinstance(decode(data), Hello) else "messages", data)


# -- as a program -----------------------------------------------------------------------------------------------------
def main(argv: list[str]) -> int:
    """See above."""
    what, listen, port, target, target_port, root, *code = argv
    goal = (target, int(target_port))
    if what in BETWEEN:
        with BETWEEN[what](Place(listen=(listen, int(port)), target=goal, root=Path(root), code="".join(code))) as made:
            print("ready", flush=True)
            sys.stdin.read()
        print(json.dumps({"passed": [data.hex() for data in made.passed], "heard": made.heard.hex()}), flush=True)
        return 0
    stranger, over = Stranger(goal), threading.Event()
    doing: dict[str, Callable[[], None]] = {
        "brute-forces": lambda: brute(stranger, over, code[0].split(",")),
        "floods": lambda: flood(stranger, over),
        "races": lambda: race(stranger, over),
        "replays": lambda: replay(stranger, code[0].split(",")),
    }
    thread = threading.Thread(target=doing[what], daemon=True)
    if what == "floods":  # it is one once it is held off
        thread.start()
        while 9002 not in stranger.answers:
            over.wait(0.05)
    print("ready", flush=True)
    if what == "floods":
        sys.stdin.read()
        over.set()
    else:
        thread.start()
    thread.join()
    print(json.dumps({"answers": stranger.answers}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
