"""``loopsy exec --on|--all|--label``: a command on several machines, each line of output behind its machine's name."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from typing import Any

from loopsy.cli import arguments, many
from loopsy.cli.exec import exit_status, request_body, write_all
from loopsy.cli.render import clean, clean_text
from loopsy.client.local import LocalDaemon
from loopsy.client.output import ACCEPT, CommandOutput
from loopsy.errors import ConnectionBroken, JobNotFound, LoopsyError, UsageError, from_wire
from loopsy.wire import frames, urls

START_S = 60.0
"""For a machine to say that the command runs. With one machine a person waits as long as they like; one of many that
hangs must not keep the others' result from them."""
CANCEL_S = 5.0
LONGEST_LINE = 64 * 1024
"""Bytes; a longer line is broken, since it can't be held until it ends."""
KEEP = 10 * 1024 * 1024
"""Bytes of each output in the JSON, as a daemon keeps by default. The rest is thrown away, and said to be."""
COLOURS = (36, 33, 35, 32, 34, 31)
"""As numbers of the SGR sequence: cyan, yellow, magenta, green, blue, red."""


def run(args: argparse.Namespace) -> int:
    """Run it on all of them.

    :raises UsageError: an option is for one machine only. :raises PeerNotFound: nobody is meant.
    """
    for option in ("input", "tty", "key"):
        if getattr(args, option):
            raise UsageError(f"--{option} is for one machine")
    daemon = arguments.daemon_of(args)
    hosts = many.chosen(args, daemon)
    body = request_body(args)
    if args.detach:
        return start_all(args, daemon, hosts, body)
    is_json = arguments.wants_json(args)
    stages = (Stage(1), Stage(2))
    widest = many.width(hosts)
    jobs = []
    for at, host in enumerate(hosts):
        sinks = (Kept(), Kept()) if is_json else tuple(Lines(stage, host.name, widest, at) for stage in stages)
        jobs.append(Command(host, daemon.another(), body, *sinks))
    return many.finish(many.Crew(jobs, args), jobs, args, Command.told)


def start_all(args: argparse.Namespace, daemon: LocalDaemon, hosts: list[many.Host], body: dict[str, Any]) -> int:
    """Start it on all of them, print where it runs by which id, and leave it running."""
    widest, is_json = many.width(hosts), arguments.wants_json(args)
    jobs = [Start(host, daemon.another(), body) for host in hosts]

    def show(job: Start) -> None:
        if job.job_id and not is_json:
            print(f"{clean(job.host.name).ljust(widest)}  {clean(job.job_id)}", flush=True)

    return many.finish(many.Crew(jobs, args, show), jobs, args, Start.told)


# -- on one of them ---------------------------------------------------------------------------------------------------
class Command(many.Job):
    """It runs on one machine."""

    def __init__(self, host: many.Host, daemon: LocalDaemon, body: dict[str, Any], out: Sink, err: Sink) -> None:
        super().__init__(host, daemon)
        self._body = {**body, "encoding": "base64"}
        self._out, self._err = out, err
        self._output: CommandOutput | None = None
        self._outcome: dict[str, Any] = {}

    def run(self) -> int:
        """Run it to its end."""
        path = urls.on_peer(urls.EXECUTE_STREAM, self.host.peer)
        try:
            with self.daemon.stream("POST", path, self._body, {"Accept": ACCEPT}, START_S) as response:
                response.wait_at_most(None)
                self._output = CommandOutput(response)
                if self.cancelled:
                    self.cancel()
                self._outcome = self._pass_on(self._output)
        finally:
            self._out.end()
            self._err.end()
        self.problem = problem_of(self._outcome)
        return exit_status(self._outcome)

    def _pass_on(self, output: CommandOutput) -> dict[str, Any]:
        try:
            for kind, payload in output.parts():
                if kind in (frames.OUT, frames.ERR):
                    (self._out if kind == frames.OUT else self._err).feed(bytes(payload))
                    continue
                ended = json.loads(bytes(payload))
                if kind == frames.ERROR:
                    raise from_wire(0, ended)
                return dict(ended)
        except ConnectionBroken:
            pass
        except ValueError as error:
            raise ConnectionBroken("what came is no output of a command") from error
        raise ConnectionBroken("the connection was lost; whether the command ended well is not known")

    def cancel(self) -> None:
        """Its process group ends; where it is not known to run yet, the connection does, which ends it too."""
        job_id = "" if self._output is None else self._output.job_id
        if not job_id:
            self.daemon.break_off()
            return
        path = urls.on_peer(urls.fill(urls.JOB, job_id=job_id), self.host.peer)
        try:
            self.daemon.another().ask("DELETE", path, timeout=CANCEL_S)
        except JobNotFound:
            pass  # it ended by itself in this moment
        except LoopsyError:
            self.daemon.break_off()

    def told(self) -> dict[str, Any]:
        """For programs."""
        told = super().told()
        if self._output is not None:
            told["jobId"] = self._output.job_id
        if self._outcome:
            known = ("exitCode", "signal", "reason", "killed", "duration")
            told |= {name: self._outcome[name] for name in known if name in self._outcome}
        if isinstance(self._out, Kept) and isinstance(self._err, Kept) and self.status is not None:
            truncated = self._out.truncated or self._err.truncated
            told |= {"stdout": self._out.text, "stderr": self._err.text, "truncated": truncated}
        return told


class Start(many.Job):
    """It is started on one machine, and left running."""

    def __init__(self, host: many.Host, daemon: LocalDaemon, body: dict[str, Any]) -> None:
        super().__init__(host, daemon)
        self._body = {**body, "detach": True, "encoding": "base64"}
        self.job_id = ""

    def run(self) -> int:
        """Start it."""
        path = urls.on_peer(urls.EXECUTE_STREAM, self.host.peer)
        with self.daemon.stream("POST", path, self._body, {"Accept": ACCEPT}, START_S) as response:
            self.job_id = CommandOutput(response).wait_for_job_id()
        return 0

    def cancel(self) -> None:
        """What has not begun does not begin; what has, runs on: it is detached."""
        self.daemon.break_off()

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {**super().told(), **({"jobId": self.job_id} if self.job_id else {})}


def problem_of(outcome: dict[str, Any]) -> str:
    """Why a command ended, where it did not end by itself."""
    reason, name = outcome.get("reason"), outcome.get("signal")
    words = {"timeout": "timed out", "cancelled": "cancelled", "stopped": "the daemon was stopped"}
    return words.get(str(reason), "") or (str(name) if name else "")


# -- what it prints ---------------------------------------------------------------------------------------------------
class Sink:
    """Takes one output of one machine."""

    def feed(self, data: bytes) -> None:
        """More of it."""
        raise NotImplementedError

    def end(self) -> None:
        """There is no more."""


class Kept(Sink):
    """In memory, for the JSON."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.truncated = False

    def feed(self, data: bytes) -> None:
        """As much as there is room for."""
        room = KEEP - len(self._data)
        self._data += data[:room]
        self.truncated = self.truncated or len(data) > room

    @property
    def text(self) -> str:
        """With a replacement for what is no UTF-8."""
        return self._data.decode("utf-8", "replace")


class Stage:
    """Our standard output or error, which all machines share: a line of one never cuts that of another."""

    lock = threading.Lock()
    """One for both: they may be the same terminal."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.is_terminal = os.isatty(descriptor)
        self.is_coloured = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.encoding = (sys.stdout if descriptor == 1 else sys.stderr).encoding or "utf-8"

    def write(self, lines: bytes) -> None:
        """Whole lines."""
        with self.lock:
            write_all(self.descriptor, lines)


class Lines(Sink):
    """A machine's output as lines behind its name. To a terminal they go without what it would obey, else byte for
    byte."""

    def __init__(self, stage: Stage, name: str, widest: int, at: int) -> None:
        """``at``: which of the machines it is, for the colour."""
        self._stage = stage
        prefix = f"{clean(name).ljust(widest)} | "
        if stage.is_coloured:
            prefix = f"\x1b[{COLOURS[at % len(COLOURS)]}m{prefix}\x1b[0m"
        self._prefix = prefix.encode(stage.encoding, "backslashreplace")
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        """Pass on the lines that are whole now."""
        end = data.rfind(b"\n")
        if end >= 0:
            self._pass_on(bytes(self._rest) + data[:end])
            self._rest.clear()
        self._rest += data[end + 1 :]
        if len(self._rest) >= LONGEST_LINE:
            self.end()

    def end(self) -> None:
        """A line that is not whole is one too."""
        if self._rest:
            self._pass_on(bytes(self._rest))
            self._rest.clear()

    def _pass_on(self, lines: bytes) -> None:
        if self._stage.is_terminal:
            text = clean_text(lines.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\r"))
            lines = text.encode(self._stage.encoding, "backslashreplace")
        self._stage.write(self._prefix + lines.replace(b"\n", b"\n" + self._prefix) + b"\n")
