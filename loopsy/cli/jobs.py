"""``loopsy jobs``: what runs on a machine, and ending it."""

from __future__ import annotations

import argparse
import shlex
import time
from typing import Any

from loopsy.cli import arguments, render
from loopsy.errors import UsageError
from loopsy.wire import urls


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``jobs``. ``cancel`` is told from a peer's name in ``run``: both stand in the same place."""
    arguments.describe(
        parser,
        "List the jobs that run on a machine (default: this one), or cancel one of them.\n"
        "Of another machine you see the jobs that were started from here.",
        "loopsy jobs kai\nloopsy jobs cancel 7d0c2f6e-3b1a-4c55-9e6f-0a4e5b1c2d3f --peer kai",
        run,
    )
    parser.usage = "loopsy jobs [<peer>] [--json]\n       loopsy jobs cancel <job id> [--peer PEER]"
    arguments.complete_peers(parser.add_argument("peer_or_cancel", nargs="?", metavar="peer", help="whose jobs"))
    parser.add_argument("job_id", nargs="?", metavar="job id", help="which job to cancel")
    arguments.add_peer(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List or cancel.

    :raises LoopsyError: the daemon's.
    """
    if args.peer_or_cancel == "cancel":
        return cancel(args)
    if args.job_id is not None:
        raise UsageError(
            f"unexpected: {args.job_id}", hint="to cancel a job: loopsy jobs cancel <job id> [--peer PEER]"
        )
    return show(args)


def cancel(args: argparse.Namespace) -> int:
    """End a job: TERM to its process group, KILL five seconds later."""
    if args.job_id is None:
        raise UsageError("which job?", hint="see: loopsy jobs [<peer>]")
    peer = arguments.peer_of(args.peer)
    path = urls.on_peer(urls.fill(urls.JOB, job_id=args.job_id), peer)
    answer = arguments.daemon_of(args).ask("DELETE", path)
    if arguments.wants_json(args):
        render.print_json(answer)
    else:
        print(f"cancelled {render.clean(args.job_id)}")
    return 0


def show(args: argparse.Namespace) -> int:
    """The list."""
    word = args.peer_or_cancel or args.peer
    answer = arguments.daemon_of(args).ask("GET", urls.on_peer(urls.JOBS, arguments.peer_of(word)))
    jobs: list[dict[str, Any]] = answer["jobs"]
    if arguments.wants_json(args):
        render.print_json(answer)
    elif not jobs:
        print(f"no jobs of yours run on {render.clean(word)}" if arguments.peer_of(word) else "no jobs run here")
    else:
        now = time.time() * 1000
        print(render.table(("job", "started", "pid", "from", "command"), [_row(job, now) for job in jobs]))
    return 0


def _row(job: dict[str, Any], now_ms: float) -> tuple[object, ...]:
    command = shlex.join([str(job.get("command", "")), *map(str, job.get("args") or [])])
    short = command if len(command) <= 80 else command[:79] + "…"
    detached = " (detached)" if job.get("detached") else ""
    started = render.ago(job.get("startedAt") or 0, now_ms)
    return job.get("jobId"), started, job.get("pid") or "", str(job.get("fromNodeId", ""))[:8], short + detached
