"""``loopsy exec``: a command on a peer, its output byte for byte as it comes, its exit status as our own."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import Any

from loopsy.cli import arguments
from loopsy.cli.interrupts import BY_SIGNAL as BY_SIGNAL
from loopsy.cli.interrupts import Interrupts
from loopsy.cli.render import clean
from loopsy.client.local import LocalDaemon
from loopsy.client.output import ACCEPT, CommandOutput
from loopsy.errors import ConnectionBroken, UsageError, from_wire
from loopsy.wire import frames, urls

FAILED = 255
"""For our own failures, as ssh has it: a command's own status is hardly ever that."""
TIMED_OUT = 124
"""As timeout(1)."""
PIPE_CLOSED = BY_SIGNAL + 13
"""Our reader (``| head``) went away. ssh would die of SIGPIPE there, which a shell shows as this."""
FLAGS = ("-i", "-t", "-it", "-ti")
VALUED = ("--timeout", "--cwd", "--env", "--key", "--data-dir", "--on", "--label", "--forks")
"""Options that take the next word."""
PEER_KEY = "X-Loopsy-Peer-Key"


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``exec``."""
    arguments.describe(
        parser,
        "Run a command on a peer. Output comes through as it is written there, and the exit status is the command's:\n"
        "128+n if signal n ended it, 124 after --timeout, 255 if loopsy itself failed. No shell reads the command.\n"
        "Everything behind the peer belongs to the command. Ctrl-C cancels it there; a second one does not wait.\n"
        "With --on, --all or --label it runs on several machines, and no peer is named before the command: each line\n"
        "of output stands behind its machine's name, and the exit status is the highest of all.",
        "loopsy exec kai uname -a\n"
        "loopsy exec --timeout 5m --cwd ~/src/site kai make test\n"
        "loopsy exec kai -- sh -c 'df -h | tail -1'\n"
        "tar c . | loopsy exec -i kai -- tar x -C /tmp/site\n"
        "loopsy exec -t kai -- htop\n"
        "loopsy exec . true                  # on this machine\n"
        "loopsy exec --on kai,leo,. -- uname -a\n"
        "loopsy exec --all --forks 4 --stop-on-error -- sh -c 'cd app && git pull'\n"
        "loopsy exec --label gpu --json nvidia-smi",
        run,
    )
    parser.usage = (
        "loopsy exec [options] <peer> [--] <command> [argument …]\n"
        "       loopsy exec [options] --on A,B | --all | --label LABEL [--] <command> [argument …]"
    )
    parser.set_defaults(failed=FAILED)
    parser.split = split
    arguments.complete_peers(
        parser.add_argument("peer", nargs="?", help="a name, a node id, or address[:port]; . is this machine")
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    parser.add_argument("--timeout", type=arguments.milliseconds, metavar="TIME", help="end it after 90, 90s, 5m, 2h")
    parser.add_argument("--cwd", metavar="DIR", help="where to run it (there; default: the home directory)")
    parser.add_argument(
        "--env", type=arguments.variable, action="append", metavar="K=V", help="set a variable there (repeatable)"
    )
    parser.add_argument("-i", "--input", action="store_true", help="send our standard input to it, byte for byte")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal, as for an editor or top")
    parser.add_argument("--detach", action="store_true", help="print the job id and leave it running")
    parser.add_argument(
        "--key",
        help="the key to present there, this once; - reads it from stdin (or set LOOPSY_PEER_KEY: a key given here "
        "can be seen by others on this machine)",
    )
    arguments.add_many(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run it.

    :raises LoopsyError: it could not be started, or the connection was lost.
    """
    if arguments.wants_many(args):
        return on_many(args)
    if args.peer is None:
        raise UsageError("a peer is required, and a command", hint="loopsy exec <peer> <command> [argument …]")
    if not args.command:
        raise UsageError(f"what should run on {args.peer}?", hint=f"loopsy exec {args.peer} <command> [argument …]")
    peer = arguments.peer_of(args.peer)
    body, headers = request_body(args), key_header(args.key, peer)
    daemon = arguments.daemon_of(args)
    if args.tty:
        from loopsy.cli.shell import through_terminal

        return through_terminal(args, peer)
    if args.input:
        from loopsy.cli.exec_input import follow

        if args.detach or arguments.wants_json(args):
            raise UsageError("-i does not go with --detach or --json: its output comes while its input goes")
        if args.key == "-":
            raise UsageError("standard input is the command's with -i", hint="give the key in LOOPSY_PEER_KEY")
        return follow(daemon, peer, args.peer, body, headers)
    if args.detach:
        return detach(daemon, peer, body, headers, arguments.wants_json(args))
    if arguments.wants_json(args):
        return collect(daemon, peer, body, headers)
    return RemoteRun(daemon, peer, args.peer, args.timeout).follow(body, headers)


def on_many(args: argparse.Namespace) -> int:
    """On several machines.

    :raises UsageError: a peer is named, too, or no command.
    """
    if args.peer is not None:
        raise UsageError(f"{args.peer}: --on, --all and --label stand before the command, and no peer with them")
    if not args.command:
        raise UsageError("what should run there?", hint="loopsy exec --all -- <command> [argument …]")
    from loopsy.cli.exec_many import run as run_many

    return run_many(args)


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """Our own words (options and the peer), and the command's.

    Options may also stand between the peer and the command (``exec kai --timeout 5 make``): no program's name starts
    with a dash. The command begins at the second other word, or behind ``--``; at the first, if several machines were
    chosen by an option before it. Argparse has no words for this, and
    what it makes of ``--`` differs between versions of Python.
    """
    at = 0
    options: list[str] = []
    peer: list[str] = []
    is_many = False
    while at < len(words):
        word = words[at]
        is_many = is_many or word.partition("=")[0] in arguments.MANY
        if word == "--" and (peer or is_many):
            at += 1
            break
        if word.startswith("-"):
            length = 2 if word in VALUED else 1
            options += words[at : at + length]
            at += length
        elif peer or is_many:
            break
        else:
            peer = [word]
            at += 1
    return options + peer, words[at:]


def request_body(args: argparse.Namespace) -> dict[str, Any]:
    """The JSON of ``POST /execute``."""
    body: dict[str, Any] = {"command": args.command[0], "args": args.command[1:]}
    if args.cwd is not None:
        body["cwd"] = args.cwd
    if args.env:
        body["env"] = dict(args.env)
    if args.timeout is not None:
        body["timeout"] = args.timeout
    return body


def key_header(option: str | None, peer: str | None) -> dict[str, str]:
    """The key to present to the peer this once, for our daemon to take along.

    :raises UsageError: it can't be a key, or this machine was asked for.
    """
    key = sys.stdin.readline().strip() if option == "-" else option or os.environ.get("LOOPSY_PEER_KEY")
    if not key:
        return {}
    if peer is None:
        if option is None:
            return {}
        raise UsageError("--key is for another machine; this one is asked with its own key")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UsageError("the key holds characters that no key has")
    return {PEER_KEY: key}


# -- three ways to run ------------------------------------------------------------------------------------------------
def detach(daemon: LocalDaemon, peer: str | None, body: dict[str, Any], headers: dict[str, str], as_json: bool) -> int:
    """Start it, print its job id, and leave it running."""
    path = urls.on_peer(urls.EXECUTE_STREAM, peer)
    asked = {**body, "detach": True, "encoding": "base64"}
    with daemon.stream("POST", path, asked, {"Accept": ACCEPT, **headers}) as response:
        job_id = CommandOutput(response).wait_for_job_id()
    print(json.dumps({"jobId": job_id}) if as_json else clean(job_id))
    return 0


def collect(daemon: LocalDaemon, peer: str | None, body: dict[str, Any], headers: dict[str, str]) -> int:
    """Run it to its end and print the whole result as JSON."""
    from loopsy.cli.render import print_json

    result = daemon.ask("POST", urls.on_peer(urls.EXECUTE, peer), body, headers)
    print_json(result)
    return exit_status(result)


class RemoteRun:
    """A command that runs while we pass on its output."""

    def __init__(self, daemon: LocalDaemon, peer: str | None, label: str, timeout_ms: int | None) -> None:
        self._daemon = daemon
        self._peer = peer
        self._label = label
        self._timeout_ms = timeout_ms
        self._output: CommandOutput | None = None
        self._interrupts = Interrupts(daemon, peer, lambda: self._output.job_id if self._output is not None else "")

    def follow(self, body: dict[str, Any], headers: dict[str, str]) -> int:
        """Run it to its end; returns the exit status.

        :raises LoopsyError: it was refused, or the connection was lost.
        """
        path = urls.on_peer(urls.EXECUTE_STREAM, self._peer)
        try:
            asked = {**body, "encoding": "base64"}
            with self._interrupts, self._daemon.stream("POST", path, asked, {"Accept": ACCEPT, **headers}) as response:
                self._output = CommandOutput(response)
                return self._pass_on(self._output)
        except BrokenPipeError:
            return PIPE_CLOSED

    def _pass_on(self, output: CommandOutput) -> int:
        try:
            for kind, payload in output.parts():
                if kind == frames.OUT:
                    write_all(1, payload)
                elif kind == frames.ERR:
                    write_all(2, payload)
                else:
                    return self._ended(kind, json.loads(bytes(payload)))
        except (ConnectionBroken, ValueError):
            pass  # cut, or not frames: either way there is no end to report
        raise self._interrupts.lost(self._label)

    def _ended(self, kind: int, payload: Any) -> int:
        if kind == frames.ERROR:
            raise from_wire(0, payload)
        if self._interrupts.by:
            return BY_SIGNAL + self._interrupts.by
        ended_words(payload, self._timeout_ms)
        return exit_status(payload)


# -- what comes -------------------------------------------------------------------------------------------------------
def ended_words(payload: dict[str, Any], timeout_ms: int | None = None) -> None:
    """Say why a command ended, where it did not end by itself."""
    reason = payload.get("reason")
    if reason == "timeout":
        from loopsy.cli.render import span

        after = timeout_ms or payload.get("duration") or 0
        print(f"loopsy: timed out after {span(after / 1000).replace(' ', '')}", file=sys.stderr)
    elif reason == "cancelled":
        print("loopsy: the command was cancelled", file=sys.stderr)
    elif reason == "stopped":
        print("loopsy: the command was ended: the daemon was stopped", file=sys.stderr)


def exit_status(result: dict[str, Any]) -> int:
    """Our exit status for how a command ended (an Outcome or ExecuteResult of the wire)."""
    if result.get("reason") == "timeout":
        return TIMED_OUT
    code, name = result.get("exitCode"), result.get("signal")
    if isinstance(code, int):
        return code & 0xFF
    number = getattr(signal, str(name), None)
    if number is None:
        return BY_SIGNAL + 9 if result.get("killed") else FAILED
    return BY_SIGNAL + int(number)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Every byte at once, past any text layer; waits where the descriptor doesn't block."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            import select

            select.select([], [descriptor], [])
