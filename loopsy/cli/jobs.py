"""``loopsy jobs``: what runs on a machine and what ran detached; its output, its end, and ending it."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from typing import Any

from loopsy.cli import arguments, render
from loopsy.errors import InvalidRequest, UsageError
from loopsy.wire import urls

VERBS = ("logs", "wait", "cancel")
UUID = 36
"""Characters of a whole id."""
STILL_RUNNING = 124
"""As timeout(1): the wait was over first."""


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``jobs``. A verb is told from a peer's name in ``run``: both stand in the same place."""
    arguments.describe(
        parser,
        "List the jobs that run on a machine (default: this one); with --all the detached ones that are over, too.\n"
        "Show the kept output of a detached job, wait for its end (its exit status is then ours), or cancel a job.\n"
        "The first characters of a job's id are enough. Of another machine you see the jobs started from here.",
        "loopsy jobs kai --all\nloopsy jobs logs -f 7d0c --peer kai\nloopsy jobs wait 7d0c --peer kai && echo done\n"
        "loopsy jobs cancel 7d0c --peer kai",
        run,
    )
    parser.is_intermixed = True
    parser.usage = "loopsy jobs [<peer>] [--all] [--json]\n       loopsy jobs logs|wait|cancel <job id> [--peer PEER]"
    arguments.complete_peers(parser.add_argument("peer_or_verb", nargs="?", metavar="peer", help="whose jobs"))
    arguments.complete(parser.add_argument("job_id", nargs="?", metavar="job id", help="which job"), "known_jobs")
    parser.add_argument("-a", "--all", action="store_true", help="detached jobs that are over, too")
    parser.add_argument("-f", "--follow", action="store_true", help="with logs: go on as more is printed, to its end")
    parser.add_argument("--timeout", type=arguments.milliseconds, metavar="TIME", help="with wait: no longer than this")
    arguments.add_peer(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List, or do what the verb says.

    :raises LoopsyError: the daemon's.
    """
    verb = args.peer_or_verb
    if verb not in VERBS:
        if args.job_id is not None:
            raise UsageError(f"unexpected: {args.job_id}", hint="loopsy jobs logs|wait|cancel <job id> [--peer PEER]")
        return show(args)
    if args.job_id is None:
        raise UsageError("which job?", hint="see: loopsy jobs [<peer>] --all")
    peer = arguments.peer_of(args.peer)
    job_id = one(args, peer, args.job_id)
    actions = {"logs": logs, "wait": wait, "cancel": cancel}
    return actions[verb](args, peer, job_id)


def address(rule: str, peer: str | None, job_id: str) -> str:
    """A job's address on a machine."""
    return urls.on_peer(urls.fill(rule, job_id=job_id), peer)


def one(args: argparse.Namespace, peer: str | None, word: str) -> str:
    """The id that begins so; what is whole already, or no begin of one, is not asked for.

    :raises InvalidRequest: none does, or several do.
    """
    if len(word) >= UUID or not set(word) <= set("0123456789abcdef-"):
        return word
    answer = arguments.daemon_of(args).ask("GET", urls.on_peer(urls.JOBS, peer) + "?all=1")
    jobs = [*answer["jobs"], *answer.get("detached", ())]
    found = {str(job["jobId"]) for job in jobs if str(job["jobId"]).startswith(word)}
    if len(found) != 1:
        what = "no job has" if not found else "several jobs have"
        raise InvalidRequest(f"{what} an id that begins with {word!r}", hint="loopsy jobs --all shows them")
    return found.pop()


# -- verbs ------------------------------------------------------------------------------------------------------------
def cancel(args: argparse.Namespace, peer: str | None, job_id: str) -> int:
    """End a job: TERM to its process group, KILL five seconds later."""
    answer = arguments.daemon_of(args).ask("DELETE", address(urls.JOB, peer, job_id))
    if arguments.wants_json(args):
        render.print_json(answer)
    else:
        print(f"cancelled {render.clean(job_id)}")
    return 0


def logs(args: argparse.Namespace, peer: str | None, job_id: str) -> int:
    """The kept output, byte for byte; with --follow to the job's end, whose status is then ours."""
    from loopsy.cli.exec import PIPE_CLOSED, write_all
    from loopsy.client.output import CommandOutput
    from loopsy.wire import frames

    path = address(urls.JOB_OUTPUT, peer, job_id) + ("?follow=1" if args.follow else "")
    status = 0
    try:
        with arguments.daemon_of(args).stream("GET", path) as response:
            for kind, payload in CommandOutput(response).parts():
                if kind in (frames.OUT, frames.ERR):
                    write_all(1 if kind == frames.OUT else 2, payload)
                elif kind == frames.EXIT and args.follow:
                    status = exit_of(json.loads(bytes(payload)))
    except BrokenPipeError:
        return PIPE_CLOSED
    return status


def exit_of(outcome: dict[str, Any]) -> int:
    """Our exit status for how a job ended; says why, where it did not end by itself."""
    from loopsy.cli.exec import ended_words, exit_status

    ended_words(outcome)
    return exit_status(outcome)


def wait(args: argparse.Namespace, peer: str | None, job_id: str) -> int:
    """Wait for its end: its exit status; 124 if the time was over first, 1 if its end was not seen."""
    end = None if args.timeout is None else time.monotonic() + args.timeout / 1000
    record: dict[str, Any] = {}
    while True:
        left = 300.0 if end is None else min(300.0, max(0.0, end - time.monotonic()))
        path = address(urls.JOB_WAIT, peer, job_id) + f"?timeout={left:g}"
        record = arguments.daemon_of(args).ask("GET", path)
        if record["status"] != "running" or (end is not None and time.monotonic() >= end):
            break
    if arguments.wants_json(args):
        render.print_json(record)
    if record["status"] == "running":
        return STILL_RUNNING
    if record["status"] == "lost":
        if not arguments.wants_json(args):
            print(fate(record))
        return 1
    return exit_of(record["outcome"])


# -- the list ---------------------------------------------------------------------------------------------------------
def show(args: argparse.Namespace) -> int:
    """What runs, and with --all what ran detached."""
    word = args.peer_or_verb or args.peer
    peer = arguments.peer_of(word)
    query = "?all=1" if args.all else ""
    answer = arguments.daemon_of(args).ask("GET", urls.on_peer(urls.JOBS, peer) + query)
    jobs: list[dict[str, Any]] = answer["jobs"]
    over = [job for job in answer.get("detached", ()) if job["status"] != "running"]
    if arguments.wants_json(args):
        render.print_json(answer)
    elif not jobs and not over:
        print(f"no jobs of yours run on {render.clean(word)}" if peer else "no jobs run here")
    else:
        now = time.time() * 1000
        rows = [_row(job, now, "running" if args.all else None) for job in jobs]
        rows += [_row(job, now, fate(job)) for job in over]
        head = ("job", "started", "pid", "from", *(("end",) if args.all else ()), "command")
        print(render.table(head, rows))
    return 0


def fate(job: dict[str, Any]) -> str:
    """How a detached job ended, in a word or two."""
    if job["status"] == "lost":
        return "not known: the daemon was killed" + (" (it still runs)" if job.get("stillRuns") else "")
    outcome = job.get("outcome") or {}
    how = outcome.get("signal") or f"exit {outcome.get('exitCode')}"
    reason = str(outcome.get("reason") or "")
    if not reason:
        return how
    return f"{how}, the daemon was stopped" if reason == "stopped" else f"{how}, {reason}"


def _row(job: dict[str, Any], now_ms: float, end: str | None) -> tuple[object, ...]:
    command = shlex.join([str(job.get("command", "")), *map(str, job.get("args") or [])])
    short = command if len(command) <= 80 else command[:79] + "…"
    detached = " (detached)" if job.get("detached") else ""
    started = render.ago(job.get("startedAt") or 0, now_ms)
    ends = () if end is None else (end,)
    return job.get("jobId"), started, job.get("pid") or "", str(job.get("fromNodeId", ""))[:8], *ends, short + detached
