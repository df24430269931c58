"""Following a transfer of the daemon: the bar, the end, Ctrl-C."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from loopsy.cli import arguments, render
from loopsy.cli.transfer import address_of, path_for_people, wire_name
from loopsy.client.local import LocalDaemon
from loopsy.errors import ConnectionBroken, LoopsyError, from_wire
from loopsy.wire import sse, urls

BAR_AFTER_S = 1.0
"""Shorter transfers need no bar, and the import of rich would take longer than many of them."""
INTERRUPTED = 130
CANCEL_S = 10.0
AGAIN = "run the same command again to continue"


def start_and_follow(args: argparse.Namespace, body: dict[str, Any]) -> int:
    """Start a transfer and follow it to its end.

    :raises LoopsyError: it was refused, or failed.
    """
    daemon = arguments.daemon_of(args)
    started = daemon.ask("POST", urls.TRANSFERS, body)
    if args.detach:
        print(json.dumps(started) if arguments.wants_json(args) else started["transferId"])
        return 0
    info = follow(daemon, started["transferId"])
    if info.get("unreadable") and can_stand_in(args):
        return stand_in(args, daemon, body)
    return tell_end(info, args, body["dryRun"])


def follow(daemon: LocalDaemon, transfer_id: str) -> dict[str, Any]:
    """A transfer's last snapshot; Ctrl-C cancels it."""
    follower = Follower(daemon, transfer_id)
    before = signal.signal(signal.SIGINT, follower.interrupt)
    try:
        return follower.follow()
    finally:
        signal.signal(signal.SIGINT, before)


def can_stand_in(args: argparse.Namespace) -> bool:
    """Whether what the operating system keeps from the daemon is one plain file that this process can read."""
    source = args.places[0]
    alone = len(args.places) == 2 and not args.dry_run
    return alone and args.direction == "send" and os.path.isfile(source) and os.access(source, os.R_OK)


def stand_in(args: argparse.Namespace, daemon: LocalDaemon, body: dict[str, Any]) -> int:
    """Send the file through this process, unless the daemon's path policy denies the place that it really lies in,
    which the daemon could not see where a symlink led there.

    :raises LoopsyError: it is denied, or failed.
    """
    source, destination = args.places
    real = [wire_name(os.path.realpath(source))]
    if real != body["sources"]:
        asked = {**body, "sources": real, "dryRun": True, "checksum": False}
        info = follow(daemon, daemon.ask("POST", urls.TRANSFERS, asked)["transferId"])
        if info["state"] != "completed" and not info.get("unreadable"):
            return tell_end(info, args, dry=True)
    from loopsy.cli.piping import pipe

    if destination.endswith("/"):
        destination += os.path.basename(source)
    return pipe(args, source, destination)


class Follower:
    """One transfer, watched."""

    def __init__(self, daemon: LocalDaemon, transfer_id: str) -> None:
        self._daemon, self._id = daemon, transfer_id
        self._began = time.monotonic()
        self._bar: Any = None
        self._interrupted = False

    def follow(self) -> dict[str, Any]:
        """Its last snapshot.

        :raises ConnectionBroken: the daemon went away.
        """
        last: dict[str, Any] = {}
        try:
            for last in self._snapshots():
                self.show(last)
        except ConnectionBroken:
            if not self._interrupted:
                raise gone() from None
        finally:
            if self._bar is not None:
                self._bar.stop()
        if last.get("state", "running") == "running" and not self._interrupted:
            raise gone()
        return {**last, "state": "cancelled"} if self._interrupted and last.get("state") != "completed" else last

    def _snapshots(self) -> Iterator[dict[str, Any]]:
        decoder = sse.Decoder()
        path = urls.fill(urls.TRANSFER_EVENTS, transfer_id=self._id)
        with self._daemon.stream("GET", path) as response:
            for piece in response.stream():
                for text in decoder.feed(piece):
                    yield json.loads(text)

    def show(self, info: dict[str, Any]) -> None:
        """A snapshot came."""
        if self._bar is None and self._wants_bar(info):
            from loopsy.cli.bar import Bar

            self._bar = Bar()
        if self._bar is not None:
            self._bar.show(info)

    def _wants_bar(self, info: dict[str, Any]) -> bool:
        late = time.monotonic() - self._began > BAR_AFTER_S
        return late and info["state"] == "running" and sys.stderr.isatty()

    def interrupt(self, number: int, _: FrameType | None) -> None:
        """The first Ctrl-C cancels the job and waits for its end; the second leaves at once."""
        if self._interrupted:
            raise KeyboardInterrupt
        try:
            self.cancel()
        except LoopsyError:
            raise KeyboardInterrupt from None

    def cancel(self) -> None:
        """End it; ``follow`` comes back with its last state.

        :raises LoopsyError: the daemon's.
        """
        self._interrupted = True
        self._daemon.ask("DELETE", address_of(self._id), timeout=CANCEL_S)


def gone() -> LoopsyError:
    """The daemon ended in the middle."""
    return ConnectionBroken("the daemon went away in mid-transfer; what has arrived is kept", hint=AGAIN)


def tell_end(info: dict[str, Any], args: argparse.Namespace, dry: bool) -> int:
    """Say how it ended; the exit status.

    :raises LoopsyError: it failed.
    """
    state = info["state"]
    if arguments.wants_json(args):
        render.print_json(summary(info))
    elif state == "completed" and (dry or sys.stdout.isatty()):
        print(sentence(info, dry))
    if state == "completed":
        return 0
    if state == "cancelled":
        print(f"loopsy: cancelled; {AGAIN}", file=sys.stderr)
        return INTERRUPTED
    raise failure(info)


def failure(info: dict[str, Any]) -> LoopsyError:
    """Why it failed."""
    hint = info.get("hint") or (AGAIN if info.get("bytesSent") else None)
    details = {"hint": hint} if hint else {}
    error = {"code": info.get("errorCode"), "message": info.get("error"), "details": details}
    return from_wire(0, {"error": error})


def seconds(info: dict[str, Any]) -> float:
    """How long it took."""
    ended = float(info.get("finishedAt") or time.time() * 1000)
    return max(0.0, ended - float(info["startedAt"])) / 1000


def summary(info: dict[str, Any]) -> dict[str, Any]:
    """For programs."""
    return {
        "transferId": info["transferId"],
        "state": info["state"],
        "direction": info["direction"],
        "peer": info["peer"],
        "sources": info["sources"],
        "destination": info["destination"],
        "bytes": info.get("bytesTotal") or 0,
        "bytesSent": info.get("bytesSent", 0),
        "files": info.get("filesDone", 0),
        "total": info.get("filesTotal") or 0,
        "skipped": info.get("filesSkipped", 0),
        "deleted": info.get("filesDeleted", 0),
        "seconds": round(seconds(info), 3),
        "sha256": info.get("checksum"),
        **({"error": info["error"], "code": info.get("errorCode")} if info.get("error") else {}),
    }


def sentence(info: dict[str, Any], dry: bool) -> str:
    """For people: ``sent 3 files, 1.2 GiB in 2.1 s (590 MiB/s); 5 were there``."""
    sends = info["direction"] == "send"
    skipped, deleted = info.get("filesSkipped", 0), info.get("filesDeleted", 0)
    if dry:
        verb, files = ("would send" if sends else "would pull"), (info.get("filesTotal") or 0) - skipped
        text = f"{verb} {render.count(files, 'file')}, {render.size((info.get('bytesTotal') or 0) - info['bytesDone'])}"
    else:
        took, sent = seconds(info), info.get("bytesSent", 0)
        rate = f" ({render.size(sent / took)}/s)" if took and sent else ""
        verb, files = ("sent" if sends else "pulled"), info.get("filesDone", 0)
        text = f"{verb} {render.count(files, 'file')}, {render.size(sent)} in {render.span(took)}{rate}"
    text += f"; {skipped} {'was' if skipped == 1 else 'were'} there already" if skipped else ""
    return text + (f"; {'would delete' if dry else 'deleted'} {deleted}" if deleted else "")


def title(info: dict[str, Any]) -> str:
    """What is moved, in short."""
    names = [path_for_people(source) for source in info["sources"]]
    first = names[0].rstrip("/").rpartition("/")[2] or names[0]
    return render.clean(first) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
