"""One thing on several machines at once: on which, how many at a time, what became of each, and Ctrl-C.

Imported only where several are asked for: ``exec kai true`` does not pay for threads.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Generic, NamedTuple, TypeVar

from loopsy.cli import arguments, render
from loopsy.cli.exec import BY_SIGNAL, PIPE_CLOSED
from loopsy.cli.interrupts import catch, put_back
from loopsy.client.local import LocalDaemon
from loopsy.errors import LoopsyError, PeerNotFound, UsageError
from loopsy.wire import urls

LOOK_S = 1.0
"""Where a wait for a lock can't be interrupted (Windows), Ctrl-C is seen after so long."""
WIDEST = 24
"""Characters of a name that the others' lines are aligned with."""


class Host(NamedTuple):
    """One of the machines."""

    name: str
    """What people read."""
    peer: str | None
    """What the gateway is asked for; None is this machine."""
    is_away: bool = False
    """It did not answer lately."""


# -- which ------------------------------------------------------------------------------------------------------------
def chosen(args: argparse.Namespace, daemon: LocalDaemon) -> list[Host]:
    """Those that --on names, and the trusted peers that --all or --label choose; each once.

    :raises UsageError: --on names none. :raises PeerNotFound: none fits.
    """
    words = [word.strip() for text in args.on or () for word in text.split(",")]
    hosts = [Host(word, arguments.peer_of(word)) for word in words if word]
    if args.on and not hosts:
        raise UsageError("--on names no machine", hint="--on kai,leo (and . for this machine)")
    if args.all or args.label:
        hosts += fitting(daemon.ask("GET", urls.PEERS)["peers"], args.label or ())
    unique = {host.name if host.peer is not None else ".": host for host in reversed(hosts)}
    return list(reversed(unique.values()))


def fitting(peers: Iterable[dict[str, Any]], labels: Sequence[str]) -> list[Host]:
    """The trusted peers that have all the labels.

    :raises PeerNotFound: there are none.
    """
    found = [
        Host(str(peer.get("name") or peer.get("hostname")), str(peer.get("name") or peer["nodeId"]), is_away(peer))
        for peer in peers
        if peer.get("trusted") and set(labels) <= set(peer.get("labels") or ())
    ]
    if found:
        return found
    if not labels:
        raise PeerNotFound("no peer is paired with this machine", hint="loopsy pair")
    what = "the label" if len(labels) == 1 else "all the labels"
    raise PeerNotFound(
        f"no paired peer has {what} {', '.join(labels)}", hint="loopsy peers label PEER LABEL; loopsy peers shows them"
    )


def is_away(peer: dict[str, Any]) -> bool:
    """Whether it was not there when it was last asked."""
    return peer.get("status") == "offline"


# -- one of them ------------------------------------------------------------------------------------------------------
class Job:
    """What is done with one machine, in a thread."""

    def __init__(self, host: Host, daemon: LocalDaemon) -> None:
        self.host, self.daemon = host, daemon
        self.status: int | None = None
        """As an exit status; None until it has ended, and if it was never begun."""
        self.seconds = 0.0
        self.error: LoopsyError | None = None
        """Why loopsy itself failed."""
        self.problem = ""
        """What went wrong, for the table."""
        self.is_under_way = False
        self.cancelled = False

    def run(self) -> int:
        """Do it; its exit status.

        :raises LoopsyError: loopsy itself failed.
        """
        raise NotImplementedError

    def cancel(self) -> None:
        """From another thread: end it, there too."""
        raise NotImplementedError

    @property
    def state(self) -> str:
        """For programs: ``ended``, ``failed`` (``error`` says why), ``cancelled`` or ``skipped``."""
        if self.cancelled:
            return "cancelled"
        return "failed" if self.error is not None else "skipped" if self.status is None else "ended"

    def told(self) -> dict[str, Any]:
        """For programs: what all kinds of them have."""
        told = {"peer": self.host.name, "state": self.state, "status": self.status, "seconds": round(self.seconds, 3)}
        return told if self.error is None else {**told, "error": error_of(self.error)}

    def work(self, failed: int) -> None:
        """``run``, with its end noted. ``failed`` is the status of loopsy's own failures."""
        begin = time.monotonic()
        try:
            self.status = self.run()
        except LoopsyError as error:
            self.status = failed
            if not self.cancelled:
                self.error, self.problem = error, error.message
        finally:
            self.seconds = time.monotonic() - begin
        if self.cancelled:
            self.problem = "cancelled"


def error_of(error: LoopsyError) -> dict[str, Any]:
    """For programs."""
    told = {"code": error.code, "message": error.message}
    return told if error.hint is None else {**told, "hint": error.hint}


# -- all of them ------------------------------------------------------------------------------------------------------
J = TypeVar("J", bound=Job)


class Crew(Generic[J]):
    """The jobs of one command. Those on machines that seem to be away begin last, so that they hold up nobody."""

    def __init__(self, jobs: Sequence[J], args: argparse.Namespace, ended: Callable[[J], None] = lambda job: None):
        """``ended`` is called in the main thread."""
        self._jobs, self._ended = jobs, ended
        self._waiting = sorted(jobs, key=lambda job: job.host.is_away)[::-1]  # taken from its end
        self._threads = min(args.forks, len(jobs))
        self._stops_on_error: bool = args.stop_on_error
        self._failed_status: int = getattr(args, "failed", 1)
        self._lock = threading.Lock()
        self._news: SimpleQueue[J | int | Exception | None] = SimpleQueue()
        self._interrupted_by = 0
        self._stops = False
        self._fault: Exception | None = None

    def run(self) -> int:
        """Do them all: the highest of their statuses; 128+n after signal n, as one command has it.

        :raises BrokenPipeError: nobody reads our output.
        """
        before = catch(self._signalled)
        try:
            for _ in range(self._threads):
                threading.Thread(target=self._work, daemon=True).start()
            self._see_to_the_end()
        finally:
            put_back(before)
        if self._fault is not None:
            raise self._fault
        if self._interrupted_by:
            return BY_SIGNAL + self._interrupted_by
        return max(job.status for job in self._jobs if job.status is not None)

    # -- in threads -------------------------------------------------------------------------------------------------
    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job.work(self._failed_status)
            except Exception as fault:
                self._stops = True
                self._news.put(fault)
            with self._lock:
                job.is_under_way = False
                self._stops = self._stops or (self._stops_on_error and job.status != 0)
            self._news.put(job)
        self._news.put(None)

    def _next(self) -> J | None:
        with self._lock:
            if self._stops or not self._waiting:
                return None
            job = self._waiting.pop()
            job.is_under_way = True
            return job

    # -- in the main thread -----------------------------------------------------------------------------------------
    def _see_to_the_end(self) -> None:
        left = self._threads
        while left:
            try:
                news = self._news.get(timeout=LOOK_S)
            except Empty:
                continue
            if news is None:
                left -= 1
            elif isinstance(news, Job):
                self._ended(news)
            else:
                self._fault = self._fault or (news if isinstance(news, Exception) else None)
                self._cancel_all()

    def _cancel_all(self) -> None:
        """In a thread each: one that does not answer must not hold up the others' end."""
        with self._lock:
            self._stops = True
            under_way = [job for job in self._jobs if job.is_under_way and not job.cancelled]
        for job in under_way:
            job.cancelled = True
            threading.Thread(target=job.cancel, daemon=True).start()

    def _signalled(self, number: int, _: FrameType | None) -> None:
        """The first signal cancels them all and waits for their ends; the second leaves at once."""
        if self._interrupted_by:
            os._exit(BY_SIGNAL + number)
        self._interrupted_by = number
        self._news.put(number)


# -- the end ----------------------------------------------------------------------------------------------------------
def finish(crew: Crew[J], jobs: Sequence[J], args: argparse.Namespace, told: Callable[[J], dict[str, Any]]) -> int:
    """Do them all and say what became of each: as JSON, or as a table on standard error, where that is a terminal or
    not all went well. Returns the exit status."""
    try:
        status = crew.run()
    except BrokenPipeError:
        return PIPE_CLOSED
    if arguments.wants_json(args):
        render.print_json({"status": status, "results": [told(job) for job in jobs]})
    elif status or sys.stderr.isatty():
        sys.stdout.flush()
        print(table(jobs), file=sys.stderr)
    return status


def table(jobs: Sequence[Job]) -> str:
    """What became of each."""
    rows = [(job.host.name, shown_status(job), shown_time(job), job.problem) for job in jobs]
    return render.table(("host", "exit", "time", ""), rows)


def shown_status(job: Job) -> str:
    """Its status, where it has one of its own."""
    return job.state if job.error is not None or job.status is None else str(job.status)


def shown_time(job: Job) -> str:
    """How long it took."""
    return "" if job.status is None else render.span(job.seconds)


def width(hosts: Iterable[Host]) -> int:
    """Of the names, so that what stands behind them is aligned."""
    return min(WIDEST, max((len(render.clean(host.name)) for host in hosts), default=0))
