"""``loopsy pair``: two machines get to know each other. One shows a code, the other is told it, both show a number."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from loopsy.cli import arguments, stdin
from loopsy.cli.render import clean
from loopsy.client.local import DEFAULT_PORT, LocalDaemon
from loopsy.errors import LoopsyError, PairingEnded, UsageError, WrongCode, from_wire
from loopsy.wire import urls

LOOK_S = 0.25
"""Between looks at how it stands: soon enough for people."""
YES, NO = ("y", "yes"), ("n", "no")
FROM_STDIN = "-"

Status = dict[str, Any]


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``pair``."""
    arguments.describe(
        parser,
        "Let this machine and another know each other, each with a key of its own for the other.\n"
        "Without an address, show a code and wait; with one, ask for the code that is shown there. Then both show a\n"
        "number: say yes on both if it is the same. A code is good for five minutes and three tries.\n"
        "With --json each step is a line of JSON. A script gives the number that the other side shows to --expect-sas.",
        "loopsy pair                                  # on the first machine: shows 123 456\n"
        "loopsy pair 192.168.1.75                     # on the second: asks for it\n"
        "loopsy pair kai.local:19533 --code 123456 --expect-sas - --json",
        run,
    )
    parser.add_argument("address", nargs="?", help="of the machine that shows the code, or address:port")
    parser.add_argument("--code", metavar="CODE", help="the code that is shown there; - reads it from stdin")
    parser.add_argument(
        "--expect-sas", metavar="SAS", help="say yes if the number is this one, else no; - reads it from stdin in time"
    )
    parser.add_argument("--cancel", action="store_true", help="end the pairing that is under way")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """All of it.

    :raises LoopsyError: no pair came of it.
    """
    daemon = arguments.daemon_of(args)
    if args.cancel:
        daemon.ask("DELETE", urls.PAIR)
        return _tell(args, {"state": "ended"}, "the pairing is cancelled")
    _check(args)
    try:
        status = _join(args, daemon) if args.address else _invite(args, daemon)
        return _compare(args, daemon, status)
    except KeyboardInterrupt:
        _call_off(daemon)
        raise


def _check(args: argparse.Namespace) -> None:
    if args.code and not args.address:
        raise UsageError("--code goes with the address of the machine that shows it")
    for option, value in (("--code", args.code), ("--expect-sas", args.expect_sas)):
        if value not in (None, FROM_STDIN) and _plain(value) is None:
            raise UsageError(f"{option} takes six digits")
    if not sys.stdin.isatty() and (args.expect_sas is None or (args.address and args.code is None)):
        raise UsageError(
            "there is no terminal to ask on", hint="a script gives --expect-sas, and --code where it joins (see --help)"
        )


def _call_off(daemon: LocalDaemon) -> None:
    try:
        daemon.ask("DELETE", urls.PAIR, timeout=5)
    except LoopsyError:
        pass  # it is over already


# -- until the numbers are shown --------------------------------------------------------------------------------------
def _invite(args: argparse.Namespace, daemon: LocalDaemon) -> Status:
    invitation = daemon.ask("POST", urls.PAIR_START)
    addresses = invitation["addresses"] or ["<address of this machine>"]
    _tell(
        args,
        {"state": "inviting", **invitation},
        "on the other machine:\n\n" + "\n".join(f"  loopsy pair {address}" for address in addresses) + "\n",
    )
    words = f"the code:  {_spaced(invitation['inviteCode'])}"
    return _follow(daemon, ("inviting",), None if arguments.wants_json(args) else words)


def _join(args: argparse.Namespace, daemon: LocalDaemon) -> Status:
    host, port = _endpoint(args.address)
    while True:
        code = _code(args)
        daemon.ask("POST", urls.PAIR_JOIN, {"address": host, "port": port, "code": code})
        status = _follow(daemon, ("joining",), None)
        fault = status.get("fault") or {}
        if args.code is not None or fault.get("code") != WrongCode.code or not fault.get("triesLeft"):
            return status
        print(clean(fault["message"]))


def _code(args: argparse.Namespace) -> str:
    if args.code == FROM_STDIN:
        return _digits_from_stdin("the code")
    if args.code is not None:
        return str(_plain(args.code))
    while True:
        print("the code that is shown there: ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            raise PairingEnded("no code was given")
        found = _plain(line)
        if found is not None:
            return found
        print("a code has six digits")


def _endpoint(word: str) -> tuple[str, int]:
    """``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address."""
    host, colon, port = word.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = word, str(DEFAULT_PORT)
    try:
        return host.strip("[]"), arguments.port_number(port)
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from None


def _follow(daemon: LocalDaemon, while_in: tuple[str, ...], words: str | None) -> Status:
    """Look until it is in another state; on a terminal the words stand with the time that is left."""
    on_terminal = words is not None and sys.stdout.isatty()
    if words is not None and not on_terminal:
        print(words, flush=True)
    drawn = ""
    while True:
        status: Status = daemon.ask("GET", urls.PAIR_STATUS)
        if status["state"] not in while_in:
            if on_terminal:
                print(flush=True)
            return status
        line = f"\r{words}   {_left(status)} "
        if on_terminal and line != drawn:
            print(line, end="", flush=True)
            drawn = line
        time.sleep(LOOK_S)


def _left(status: Status) -> str:
    seconds = max(0, int(status["expiresAt"] / 1000 - time.time()))
    tries = status.get("triesLeft", 3)
    return f"({seconds // 60}:{seconds % 60:02} left{'' if tries == 3 else f', tries left: {tries}'})"


# -- the number -------------------------------------------------------------------------------------------------------
def _compare(args: argparse.Namespace, daemon: LocalDaemon, status: Status) -> int:
    _raise_if_ended(args, status)
    peer = status["peer"]
    number = status["sas"]
    _tell(
        args,
        status,
        f"\nthe number here:  {_spaced(number)}\n\n"
        f"compare it with the one on {clean(peer['hostname'])} ({clean(peer['address'])})" + _replaced(peer),
    )
    answer = _answer(args, daemon, number)
    if answer is not None:
        _say(args, daemon, answer)
    return _end(args, _follow(daemon, ("comparing", "confirmed", "finishing"), None))


def _replaced(peer: dict[str, Any]) -> str:
    """What is lost by going on."""
    if not peer.get("replaces"):
        return ""
    since = (
        time.strftime(" (since %Y-%m-%d %H:%M)", time.localtime(peer["pairedAt"] / 1000))
        if peer.get("pairedAt")
        else ""
    )
    return f"\nyou are already paired with {clean(peer['replaces'])}{since}; going on replaces its keys"


def _say(args: argparse.Namespace, daemon: LocalDaemon, number: str) -> None:
    """Say yes to this number, or no where it is empty. If the daemon has another one, it says no to the other side."""
    daemon.ask("POST", urls.PAIR_CONFIRM, {"accept": bool(number), **({"sas": number} if number else {})})
    if number and not arguments.wants_json(args):
        print("waiting for the other side …", flush=True)


def _answer(args: argparse.Namespace, daemon: LocalDaemon, number: str) -> str | None:
    """The number that is said yes to; empty for a no; None where the pairing ended meanwhile."""
    if args.expect_sas == FROM_STDIN:
        return _digits_from_stdin("the number")
    if args.expect_sas is not None:
        return str(_plain(args.expect_sas))
    while True:
        print("is it the same there? [y/n] ", end="", flush=True)
        while not _typed():
            if daemon.ask("GET", urls.PAIR_STATUS)["state"] != "comparing":
                print()
                return None
        word = sys.stdin.readline()
        if word.strip().lower() in YES:
            return number
        if not word or word.strip().lower() in NO:
            return ""


def _typed() -> bool:
    """Whether a line can be read, after a moment."""
    return stdin.has_line(LOOK_S)


def _end(args: argparse.Namespace, status: Status) -> int:
    _raise_if_ended(args, status)
    name = status["peer"]["name"]
    return _tell(args, status, f"paired with {clean(name)}; try: loopsy exec {clean(name)} -- uname -a")


OVER = {"code": PairingEnded.code, "message": "the pairing is over: the daemon was restarted"}


def _raise_if_ended(args: argparse.Namespace, status: Status) -> None:
    if status["state"] in ("ended", "idle"):
        fault = status.get("fault") or OVER
        if arguments.wants_json(args):
            print(json.dumps(status), flush=True)
        raise from_wire(0, {"error": {**fault, "details": {"hint": fault.get("hint")}}})


# -- words ------------------------------------------------------------------------------------------------------------
def _tell(args: argparse.Namespace, status: Status, words: str) -> int:
    """A step: a line of JSON, or words."""
    print(json.dumps(status) if arguments.wants_json(args) else words, flush=True)
    return 0


def _spaced(number: str) -> str:
    return f"{number[:3]} {number[3:]}"


def _plain(text: str) -> str | None:
    """Six digits, however they were spaced."""
    found = "".join(text.split()).replace("-", "")
    return found if len(found) == 6 and found.isascii() and found.isdigit() else None


def _digits_from_stdin(what: str) -> str:
    found = _plain(sys.stdin.readline())
    if found is None:
        raise UsageError(f"{what} on stdin must be six digits")
    return found
