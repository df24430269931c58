"""AI tasks: asking for one, looking at them, ending and forgetting them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from loopsy.cli import arguments, render
from loopsy.cli.mailbox import first_words, query
from loopsy.cli.message import text_of
from loopsy.client.local import LocalDaemon
from loopsy.errors import LoopsyError, TaskNotFound, UsageError
from loopsy.wire import urls

Task = dict[str, Any]
UUID = 36
"""Characters of a whole id."""
SHORT = 8
LATEST = 1000
"""Tasks among which the beginning of an id is looked for: as many as a list may have."""
PEER_S = 10.0
"""For the list of one machine, where all are asked: one that is away must not hold up the others' for long."""


# -- asking for one ---------------------------------------------------------------------------------------------------
def run(args: argparse.Namespace) -> int:
    """A new task."""
    body = {
        "prompt": text_of(args.prompt),
        "agent": args.agent,
        "cwd": args.cwd if args.cwd is None or arguments.peer_of(args.on) else os.path.abspath(args.cwd),
        "model": args.model,
        "permissionMode": args.mode,
        "maxBudgetUsd": args.budget,
        "timeout": args.timeout,
        "queue": args.queue or None,
        "worktree": args.worktree or None,
        "title": args.title,
    }
    return _begin(args, urls.TASKS, body)


def resume(args: argparse.Namespace) -> int:
    """A new task that goes on where one ended."""
    task = find(arguments.daemon_of(args), args.id, arguments.peer_of(args.on))
    body = {"prompt": text_of(args.prompt), "timeout": args.timeout, "queue": args.queue or None}
    return _begin(args, urls.fill(urls.TASK_RESUME, task_id=task["taskId"]), body)


def _begin(args: argparse.Namespace, path: str, body: dict[str, Any]) -> int:
    daemon, peer = arguments.daemon_of(args), arguments.peer_of(args.on)
    given = {name: value for name, value in body.items() if value is not None}
    try:
        task: Task = daemon.ask("POST", urls.on_peer(path, peer), given)
    except KeyboardInterrupt:
        print(f"loopsy: whether it began isn't known; see: loopsy task list{on(peer)}", file=sys.stderr)
        raise
    if args.follow:
        return _follow(args, daemon, task, peer)
    if arguments.wants_json(args):
        render.print_json(task)
    elif sys.stdout.isatty():
        print(f"{_begun(task, peer)}\nwatch it: loopsy task follow {task['taskId'][:SHORT]}{on(peer)}")
    else:
        print(task["taskId"])
    return 0


def _begun(task: Task, peer: str | None) -> str:
    where = f" on {render.clean(peer)}" if peer else ""
    place = f", number {task['queuePosition']} in the queue" if task.get("queuePosition") else ""
    return f"task {task['taskId'][:SHORT]} of {task['agent']}{where}{place}"


def follow(args: argparse.Namespace) -> int:
    """Watch one to its end."""
    daemon, peer = arguments.daemon_of(args), arguments.peer_of(args.on)
    return _follow(args, daemon, find(daemon, args.id, peer), peer)


def _follow(args: argparse.Namespace, daemon: LocalDaemon, task: Task, peer: str | None) -> int:
    from loopsy.cli.task_follow import Follower

    if not arguments.wants_json(args) and sys.stdout.isatty():
        print(_begun(task, peer))
    return Follower(daemon, task, peer, arguments.wants_json(args)).follow()


# -- looking ----------------------------------------------------------------------------------------------------------
def show_list(args: argparse.Namespace) -> int:
    """The newest ones."""
    asked = query({"status": args.status, "agent": args.agent, "limit": args.limit})
    daemon = arguments.daemon_of(args)
    if args.all:
        return _list_all(args, daemon, asked)
    tasks = daemon.ask("GET", urls.on_peer(urls.TASKS, arguments.peer_of(args.on)) + asked)["tasks"]
    if arguments.wants_json(args):
        render.print_json({"tasks": tasks})
    elif not tasks:
        print("no tasks")
    else:
        now = time.time() * 1000
        print(render.table(HEAD, [row_of(task, now) for task in tasks]))
    return 0


def _list_all(args: argparse.Namespace, daemon: LocalDaemon, asked: str) -> int:
    found = ask_everywhere(daemon, urls.TASKS + asked)
    if arguments.wants_json(args):
        render.print_json({"machines": [{"machine": name, **answer} for name, answer in found]})
        return 0
    now = time.time() * 1000
    rows = [(name, *row_of(task, now)) for name, answer in found for task in answer.get("tasks", ())]
    print(render.table(("machine", *HEAD), rows) if rows else "no tasks")
    tell_silent(found)
    return 0


def tell_silent(found: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Which machines could not be asked."""
    for name, answer in found:
        if "error" in answer:
            print(f"loopsy: {render.clean(name)}: {render.clean(answer['error'])}", file=sys.stderr)


def ask_everywhere(daemon: LocalDaemon, path: str) -> list[tuple[str, dict[str, Any]]]:
    """The answers of this machine (``.``) and all trusted peers, by name; of one that gave none, ``error``."""
    from threading import Thread

    peers = [peer for peer in daemon.ask("GET", urls.PEERS)["peers"] if peer["trusted"]]
    names = sorted({str(peer.get("name") or peer["nodeId"]) for peer in peers})
    answers: dict[str, dict[str, Any]] = {}

    def ask(name: str, client: LocalDaemon) -> None:
        try:
            answers[name] = client.ask("GET", urls.on_peer(path, arguments.peer_of(name)), timeout=PEER_S)
        except LoopsyError as error:
            answers[name] = {"error": error.message}

    threads = [Thread(target=ask, args=(name, daemon.another()), daemon=True) for name in (".", *names)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [(name, answers[name]) for name in (".", *names)]


HEAD = ("id", "status", "agent", "asked", "from", "title")


def row_of(task: Task, now_ms: float) -> tuple[object, ...]:
    """In a list."""
    status = str(task["status"]) + (f" (number {task['queuePosition']})" if task.get("queuePosition") else "")
    asked = render.ago(task["startedAt"], now_ms)
    return task["taskId"][:SHORT], status, task["agent"], asked, task["from"], first_words(task["title"], 50)


def show(args: argparse.Namespace) -> int:
    """One, with its result."""
    from loopsy.cli.task_screen import Screen, changed, spent

    task = find(arguments.daemon_of(args), args.id, arguments.peer_of(args.on))
    if arguments.wants_json(args):
        render.print_json(task)
        return 0
    result, now = task.get("result") or {}, time.time() * 1000
    facts = [
        ("id", task["taskId"]),
        ("status", task["status"] + (f": {task['error']}" if task.get("error") else "")),
        ("agent", " ".join(str(word) for word in (task["agent"], task.get("model")) if word)),
        ("works in", task.get("worktree") or task["cwd"]),
        ("mode", task["permissionMode"]),
        ("asked", f"{render.ago(task['startedAt'], now)}, by {task['from']}"),
        ("goes on with", task.get("resumes")),
        ("took", ", ".join(spent(result))),
        ("changed", changed(result.get("diff") or {})),
    ]
    print(render.facts([(name, value) for name, value in facts if value]))
    print(f"\n{render.clean_text(task['prompt'])}")
    if task.get("pendingApproval"):
        print(f"\n{Screen(task['agent']).approval(task['pendingApproval'])}", end="")
    if result.get("text"):
        print(f"\n{render.clean_text(result['text'])}")
    return 0


def patch(args: argparse.Namespace) -> int:
    """What it changed, byte for byte; coloured on a terminal."""
    daemon, peer = arguments.daemon_of(args), arguments.peer_of(args.on)
    with daemon.stream("GET", address_of(find(daemon, args.id, peer), peer, urls.TASK_PATCH)) as response:
        if sys.stdout.isatty():
            from loopsy.cli.task_screen import Screen, paint_diff

            text = response.read().decode("utf-8", "replace")
            print("\n".join(paint_diff(line, Screen("", colour=True).paint) for line in text.split("\n")), end="")
            return 0
        for piece in response.stream():
            sys.stdout.buffer.write(piece)
    return 0


# -- ending and forgetting --------------------------------------------------------------------------------------------
def cancel(args: argparse.Namespace) -> int:
    """End it.

    :raises TaskIsOver: it is.
    """
    return _end(args, "cancel", "is being ended")


def remove(args: argparse.Namespace) -> int:
    """Forget it.

    :raises InvalidRequest: it isn't over.
    """
    return _end(args, "remove", "is forgotten")


def _end(args: argparse.Namespace, only: str, told: str) -> int:
    daemon, peer = arguments.daemon_of(args), arguments.peer_of(args.on)
    task = find(daemon, args.id, peer)
    answer = daemon.ask("DELETE", address_of(task, peer) + query({"only": only}))
    if arguments.wants_json(args):
        render.print_json(answer)
    elif sys.stdout.isatty():
        print(f"task {task['taskId'][:SHORT]} {told}")
    return 0


# -- ids --------------------------------------------------------------------------------------------------------------
def find(daemon: LocalDaemon, word: str, peer: str | None) -> Task:
    """The task with this id, or the one whose id begins so.

    :raises TaskNotFound: there is none. :raises UsageError: there are several.
    """
    if len(word) == UUID:
        task: Task = daemon.ask("GET", urls.on_peer(urls.fill(urls.TASK, task_id=word), peer))
        return task
    page = daemon.ask("GET", urls.on_peer(urls.TASKS, peer) + query({"limit": LATEST}))["tasks"]
    found = [task for task in page if task["taskId"].startswith(word.lower())] if word else []
    if not found:
        raise TaskNotFound(f"there is no task {word!r} {'on ' + peer if peer else 'here'}", hint=_see(peer))
    if len(found) > 1:
        several = "\n".join(f"{task['taskId']}  {first_words(task['title'], 50)}" for task in found[:10])
        raise UsageError(f"{word!r} may mean {len(found)} tasks", hint=several)
    return dict(found[0])


def _see(peer: str | None) -> str:
    return f"see: loopsy task list{on(peer)}" + ("" if peer else ", or with --on PEER, or --all")


def on(peer: str | None) -> str:
    """As an option, for hints."""
    return f" --on {render.clean(peer)}" if peer else ""


def address_of(task: Task, peer: str | None, rule: str = urls.TASK) -> str:
    """Where it is asked for."""
    return urls.on_peer(urls.fill(rule, task_id=task["taskId"]), peer)
