"""Answering what tasks ask, and the rules that answer for a person."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from loopsy.cli import arguments, render
from loopsy.cli.task_asking import Question, edited, inside_of, terminal
from loopsy.cli.task_book import SHORT, Task, address_of, ask_everywhere, find, on, tell_silent
from loopsy.cli.task_follow import may_not
from loopsy.cli.task_screen import Screen
from loopsy.client.local import LocalDaemon
from loopsy.errors import Forbidden, NoPendingApproval, UsageError
from loopsy.wire import urls

Approval = dict[str, Any]


def refuse_agents() -> None:
    """A task doesn't approve itself, an agent no task, and neither changes what is approved.

    :raises Forbidden: we run inside one.
    """
    if where := inside_of():
        raise Forbidden(
            f"this runs inside of {where}, which answers nothing",
            hint="answer in a terminal of your own, or in the dashboard",
        )


# -- what waits -------------------------------------------------------------------------------------------------------
def approvals(args: argparse.Namespace) -> int:
    """All that waits, whole."""
    daemon = arguments.daemon_of(args)
    if args.all:
        found = ask_everywhere(daemon, urls.TASK_APPROVALS)
    else:
        found = [(args.on or ".", daemon.ask("GET", urls.on_peer(urls.TASK_APPROVALS, arguments.peer_of(args.on))))]
    if arguments.wants_json(args):
        alone = found[0][1]
        render.print_json({"machines": [{"machine": n, **a} for n, a in found]} if args.all else alone)
        return 0
    waiting = [(arguments.peer_of(name), one) for name, answer in found for one in answer.get("approvals", ())]
    print("\n".join(_shown(peer, one) for peer, one in waiting).rstrip("\n") or "nothing waits")
    tell_silent(found)
    return 0


def _shown(peer: str | None, waiting: Mapping[str, Any]) -> str:
    approval, name = waiting["approval"], f"{waiting['taskId'][:SHORT]}{on(peer)}"
    head = f"task {name} of {waiting['agent']}, from {waiting['from']}: {waiting['title']}"
    request = render.clean(approval["requestId"])
    return (
        f"{render.clean(head)}\n{Screen(waiting['agent'], colour=sys.stdout.isatty()).approval(approval)}"
        f"  loopsy task approve {name} --request {request}\n"
    )


# -- answering --------------------------------------------------------------------------------------------------------
def approve(args: argparse.Namespace) -> int:
    """Allow it: one that is named at once, else what the person at the terminal is shown.

    :raises UsageError: none is named, and there is nobody to show it to.
    """
    refuse_agents()
    if args.task and args.always:
        raise UsageError("--task and --always: choose one")
    if args.rule is not None and not (args.task or args.always):
        raise UsageError("--rule is for --task or --always")
    daemon, peer = arguments.daemon_of(args), arguments.peer_of(args.on)
    task = find(daemon, args.id, peer)
    if args.request is None:
        return _asked(args, daemon, task, peer)
    approval = wanted(_waiting(daemon, task, peer), args.request)
    more = {"remember": "task" if args.task else "always" if args.always else None, "rule": args.rule}
    given = {name: value for name, value in more.items() if value is not None}
    return _answer(args, daemon, task, peer, {"requestId": approval["requestId"], "approved": True, **given})


def _asked(args: argparse.Namespace, daemon: LocalDaemon, task: Task, peer: str | None) -> int:
    place = terminal()
    if place is None:
        raise UsageError(
            "which request? (there is no terminal to show it on)",
            hint=f"see: loopsy task approvals{on(peer)}, then name it: --request R",
        )
    approval = wanted(_waiting(daemon, task, peer), None)
    place.write(Screen(task["agent"], colour=True).approval(approval))
    question = Question(approval, may_always=peer is None)
    place.forget_typed()
    answer = None
    while answer is None:
        place.write(question.prompt)
        line = place.line()
        if line is None:
            return 1
        answer = question.take(line, place)
    if answer["approved"] and (args.task or args.always) and "remember" not in answer:
        answer["remember"] = "task" if args.task else "always"
        answer["rule"] = args.rule or edited(str(approval["suggestedRule"]), place)
    return _answer(args, daemon, task, peer, answer)


def deny(args: argparse.Namespace) -> int:
    """Deny it."""
    refuse_agents()
    daemon, peer = arguments.daemon_of(args), arguments.peer_of(args.on)
    task = find(daemon, args.id, peer)
    approval = wanted(_waiting(daemon, task, peer), args.request)
    message = {"message": args.message} if args.message else {}
    return _answer(args, daemon, task, peer, {"requestId": approval["requestId"], "approved": False, **message})


def _waiting(daemon: LocalDaemon, task: Task, peer: str | None) -> list[Approval]:
    found = daemon.ask("GET", urls.on_peer(urls.TASK_APPROVALS, peer))["approvals"]
    return [one["approval"] for one in found if one["taskId"] == task["taskId"]]


def wanted(waiting: Sequence[Approval], word: str | None) -> Approval:
    """The approval that is meant: the one whose id begins so, or the only one.

    :raises NoPendingApproval: there is none. :raises UsageError: there are several.
    """
    exact = [one for one in waiting if one["requestId"] == word]
    found = exact or [one for one in waiting if word is None or one["requestId"].startswith(word)]
    if not found:
        raise NoPendingApproval("no such request waits in this task" if word else "the task asks nothing now")
    if len(found) > 1:
        several = "\n".join(f"--request {one['requestId']}  {one['toolName']}" for one in found)
        raise UsageError(f"{len(found)} requests wait in this task: which?", hint=several)
    return found[0]


def _answer(
    args: argparse.Namespace, daemon: LocalDaemon, task: Task, peer: str | None, answer: Mapping[str, Any]
) -> int:
    try:
        said = daemon.ask("POST", address_of(task, peer, urls.TASK_APPROVE), answer)
    except Forbidden as error:
        if peer is not None and answer.get("remember") != "always":
            raise Forbidden(f"{peer} doesn't let this machine answer", hint=may_not(peer, task["taskId"])) from None
        raise error
    if arguments.wants_json(args):
        render.print_json(said)
    elif sys.stdout.isatty():
        print("allowed" if answer["approved"] else "denied")
    return 0


# -- rules ------------------------------------------------------------------------------------------------------------
def rules(args: argparse.Namespace) -> int:
    """List them, or one more or less."""
    refuse_agents()
    if (args.change is None) != (args.rule is None):
        raise UsageError("which rule?", hint="loopsy task rules add|remove 'allow|deny [agent:]Tool(pattern)'")
    method = {None: "GET", "add": "POST", "remove": "DELETE"}[args.change]
    body = None if args.rule is None else {"rule": args.rule}
    answer = arguments.daemon_of(args).ask(method, urls.TASK_RULES, body)
    if arguments.wants_json(args):
        render.print_json(answer)
    elif args.change is None or sys.stdout.isatty():
        print("\n".join(map(render.clean, answer["rules"])) or "no rules: everything is asked")
    return 0
