"""``loopsy send --on|--all|--label``: the same files to several machines, a transfer of our daemon for each."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from typing import Any

from loopsy.cli import arguments, many
from loopsy.cli.following import BAR_AFTER_S, INTERRUPTED, Follower, failure, sentence, summary
from loopsy.cli.render import clean
from loopsy.client.local import LocalDaemon
from loopsy.errors import LoopsyError
from loopsy.wire import urls


def send(args: argparse.Namespace, body: dict[str, Any]) -> int:
    """Send to all of them; ``body`` is that of ``POST /transfers``, but for the peer.

    :raises PeerNotFound: nobody is meant.
    """
    daemon = arguments.daemon_of(args)
    hosts = many.chosen(args, daemon)
    bars = Bars() if sys.stderr.isatty() and not args.detach else None
    jobs = [Sending(host, daemon.another(), body, args.detach, bars) for host in hosts]
    widest, speaks = many.width(hosts), bars is None and not arguments.wants_json(args)

    def show(job: Sending) -> None:
        if bars is not None:
            bars.drop(job.host)
        if job.line and (speaks or args.detach):
            print(f"{clean(job.host.name).ljust(widest)}  {job.line}", flush=True)

    return many.finish(many.Crew(jobs, args, show), jobs, args, Sending.told)


class Bars:
    """A bar for each transfer under way, once the whole takes long enough."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._bar: Any = None
        self._under_way: set[str] = set()

    def show(self, host: many.Host, info: dict[str, Any]) -> None:
        """A snapshot, from the host's thread."""
        if info["state"] != "running" or time.monotonic() - self._began < BAR_AFTER_S:
            return
        with self._lock:
            if self._bar is None:
                from loopsy.cli.bar import Bar

                self._bar = Bar()
            self._under_way.add(host.name)
            self._bar.show(info, host.name)

    def drop(self, host: many.Host) -> None:
        """It has ended there."""
        with self._lock:
            if host.name not in self._under_way:
                return
            self._bar.drop(host.name)
            self._under_way.remove(host.name)
            if not self._under_way:
                self._bar.stop()
                self._bar = None


class Sending(many.Job):
    """The transfer to one machine."""

    def __init__(
        self, host: many.Host, daemon: LocalDaemon, body: dict[str, Any], detached: bool, bars: Bars | None
    ) -> None:
        super().__init__(host, daemon)
        self._body = {**body, "peer": host.peer or "."}
        self._detached, self._bars = detached, bars
        self._transfer_id = ""
        self._follower: Follower | None = None
        self._info: dict[str, Any] = {}
        self.line = ""
        """What there is to say once it has ended well."""

    def run(self) -> int:
        """Send, or with --detach begin to."""
        self._transfer_id = self.daemon.ask("POST", urls.TRANSFERS, self._body)["transferId"]
        if self._detached:
            self.line = self._transfer_id
            return 0
        self._follower = Watched(self.daemon, self._transfer_id, self.host, self._bars)
        if self.cancelled:
            self.cancel()
        self._info = self._follower.follow()
        return self._ended()

    def _ended(self) -> int:
        state = self._info["state"]
        if state == "completed":
            self.line = sentence(self._info, self._body["dryRun"])
            self.problem = self.line if self._bars is not None else ""
            return 0
        if state == "cancelled":
            self.problem = "cancelled"
            return INTERRUPTED
        raise failure(self._info)

    def cancel(self) -> None:
        """What has arrived is kept."""
        try:
            if self._follower is not None:
                self._follower.cancel()
        except LoopsyError:
            self.daemon.break_off()

    def told(self) -> dict[str, Any]:
        """For programs."""
        if self._info:
            told = summary(self._info)
            told.pop("error", None)
            told.pop("code", None)
            return {**told, **super().told(), "seconds": told["seconds"]}
        return {**super().told(), **({"transferId": self._transfer_id} if self._transfer_id else {})}


class Watched(Follower):
    """One of several transfers: its bar is one of many."""

    def __init__(self, daemon: LocalDaemon, transfer_id: str, host: many.Host, bars: Bars | None) -> None:
        super().__init__(daemon, transfer_id)
        self._host, self._bars = host, bars

    def show(self, info: dict[str, Any]) -> None:
        """A snapshot came."""
        if self._bars is not None:
            self._bars.show(self._host, info)
