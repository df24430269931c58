"""``loopsy task``: the words of the command line. What they do is in ``task_book.py``, ``task_answers.py`` and
``task_follow.py``, which are imported when they are needed."""

from __future__ import annotations

import argparse

from loopsy.cli import arguments
from loopsy.cli.message import run_of

AGENTS = ("claude", "codex", "gemini")
MODES = ("default", "acceptEdits", "bypassPermissions", "dontAsk")
STATUSES = ("pending", "running", "waiting_approval", "completed", "failed", "cancelled")
"""The same as in ``wire.tasks`` (a test says so), whose import would cost more than the request."""
ENDS = "Exit status: 0 completed, 1 failed, 130 cancelled, or left by Ctrl-C (the task goes on)."


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``task``."""
    arguments.describe(
        parser,
        "Hand work to an agent (Claude Code, Codex, Gemini CLI) on this machine or another, watch it, answer what it\n"
        "asks, get the result. An id's first characters will do.",
        "loopsy task run --on kai --cwd ~/src/app --follow 'make the tests pass'\nloopsy task approvals\n"
        "loopsy task follow 3f9a01bc --on kai",
    )
    actions = parser.add_subparsers(metavar="<action>", required=True)
    for fill_one, word, text in (
        (_fill_run, "run", "give an agent something to do"),
        (_fill_list, "list", "list tasks, the newest first"),
        (_fill_show, "show", "show one"),
        (_fill_follow, "follow", "watch one, and answer what it asks"),
        (_fill_approvals, "approvals", "show what waits for an answer"),
        (_fill_approve, "approve", "allow what one asks"),
        (_fill_deny, "deny", "deny what one asks, with a word to the agent"),
        (_fill_cancel, "cancel", "end one"),
        (_fill_resume, "resume", "go on where one ended"),
        (_fill_patch, "patch", "print what one changed"),
        (_fill_remove, "remove", "forget one that is over"),
        (_fill_rules, "rules", "what is allowed and denied without asking"),
    ):
        fill_one(actions.add_parser(word, help=text))


def _fill_run(parser: arguments.Parser) -> None:
    parser.is_intermixed = True
    arguments.describe(
        parser,
        "Give an agent something to do, and print the task's id; with --follow watch it and answer what it asks.\n"
        f"With --follow: {ENDS}",
        "loopsy task run 'what does this directory hold?'\n"
        "loopsy task run --on kai --agent codex --cwd ~/src/app --worktree --follow 'make the tests pass'\n"
        "loopsy task run --follow - < prompt.md        # - reads the prompt from stdin",
        run_of("task_book", "run"),
    )
    parser.add_argument("prompt", nargs="*", help="what to do; - (or none, behind a pipe) reads it from stdin")
    _add_on(parser)
    parser.add_argument("--agent", choices=AGENTS, help="which one (default: claude)")
    parser.add_argument("--cwd", metavar="DIR", help="where it works, there (default: the home directory)")
    parser.add_argument("-f", "--follow", action="store_true", help="watch it to its end")
    parser.add_argument("--model", help="which model")
    parser.add_argument("--mode", choices=MODES, help="what goes through unasked (default: default, that is little)")
    parser.add_argument("--budget", type=_dollars, metavar="USD", help="end it when it has cost that much (claude)")
    parser.add_argument("--timeout", type=arguments.milliseconds, metavar="TIME", help="end it after 90 (s), 5m, 2h")
    parser.add_argument("--queue", action="store_true", help="wait for a free slot, if there is none")
    parser.add_argument("--worktree", action="store_true", help="work in a fresh git worktree of cwd's repository")
    parser.add_argument("--title", help="what lists call it")
    _add_json(parser)


def _fill_list(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "List tasks, the newest first. Of another machine you see those started from here.",
        "loopsy task list\nloopsy task list --all --status active",
        run_of("task_book", "show_list"),
    )
    _add_on(parser, every=True)
    parser.add_argument("--status", choices=(*STATUSES, "active"), help="only those (active: that aren't over)")
    parser.add_argument("--agent", choices=AGENTS, help="only those of one")
    parser.add_argument("--limit", type=_count, default=20, metavar="N", help="so many a machine (default: 20)")
    arguments.add_json(parser)


def _fill_show(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "Show a task, and its result.",
        "loopsy task show 3f9a01bc --on kai",
        run_of("task_book", "show"),
    )
    _add_task(parser)
    arguments.add_json(parser)


def _fill_follow(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        f"Watch a task from its beginning to its end, and answer what it asks. Ctrl-C leaves it alone.\n{ENDS}",
        "loopsy task follow 3f9a01bc --on kai\nloopsy task follow 3f9a01bc --json | jq .type",
        run_of("task_book", "follow"),
    )
    _add_task(parser)
    _add_json(parser)


def _fill_approvals(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "Show whole what waits for an answer, the oldest first.",
        "loopsy task approvals --all",
        run_of("task_answers", "approvals"),
    )
    _add_on(parser, every=True)
    arguments.add_json(parser)


def _fill_approve(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "Allow what a task asks. Without --request it is shown and you are asked, so that nothing goes through unseen.",
        "loopsy task approve 3f9a01bc\n"
        "loopsy task approve 3f9a01bc --request 5b1c --task     # the same again, in this task\n"
        "loopsy task approve 3f9a01bc --request 5b1c --always --rule 'allow Bash(npm test *)'",
        run_of("task_answers", "approve"),
    )
    _add_task(parser)
    _add_request(parser)
    parser.add_argument("--task", action="store_true", help="and the same again, for as long as the task lasts")
    parser.add_argument("--always", action="store_true", help="and write a rule, so that it is never asked again")
    parser.add_argument("--rule", metavar="TEXT", help="the rule (default: the one that was suggested)")
    arguments.add_json(parser)


def _fill_deny(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "Deny what a task asks.",
        "loopsy task deny 3f9a01bc 'use the staging database'",
        run_of("task_answers", "deny"),
    )
    _add_task(parser)
    parser.add_argument("message", nargs="?", help="a word to the agent")
    _add_request(parser)
    arguments.add_json(parser)


def _fill_cancel(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "End a task, with all that its agent has started.",
        "loopsy task cancel 3f9a01bc",
        run_of("task_book", "cancel"),
    )
    _add_task(parser)
    arguments.add_json(parser)


def _fill_resume(parser: arguments.Parser) -> None:
    parser.is_intermixed = True
    arguments.describe(
        parser,
        f"Go on in the session of a task that is over, as a new task. With --follow: {ENDS}",
        "loopsy task resume 3f9a01bc --follow 'and now the documentation'",
        run_of("task_book", "resume"),
    )
    _add_task(parser)
    parser.add_argument("prompt", nargs="*", help="what to do; - (or none, behind a pipe) reads it from stdin")
    parser.add_argument("-f", "--follow", action="store_true", help="watch it to its end")
    parser.add_argument("--timeout", type=arguments.milliseconds, metavar="TIME", help="end it after 90 (s), 5m, 2h")
    parser.add_argument("--queue", action="store_true", help="wait for a free slot, if there is none")
    _add_json(parser)


def _fill_patch(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "Print what a task changed in its git repository, for `git apply`.",
        "loopsy task patch 3f9a01bc --on kai | git apply",
        run_of("task_book", "patch"),
    )
    _add_task(parser)


def _fill_remove(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "Forget a task that is over, with its events, its patch and its worktree.",
        "loopsy task remove 3f9a01bc",
        run_of("task_book", "remove"),
    )
    _add_task(parser)
    arguments.add_json(parser)


def _fill_rules(parser: arguments.Parser) -> None:
    arguments.describe(
        parser,
        "What agents on this machine may and may not do without asking: the first rule that fits decides. * stands\n"
        "for any characters. A command with ; & | < > and the like fits an allow rule only if it is the same text.",
        "loopsy task rules\n"
        "loopsy task rules add 'allow Bash(git status)'\n"
        "loopsy task rules add 'deny claude:WebFetch'\n"
        "loopsy task rules remove 'allow Bash(git status)'",
        run_of("task_answers", "rules"),
    )
    parser.add_argument("change", nargs="?", choices=("add", "remove"))
    arguments.complete(parser.add_argument("rule", nargs="?", help="allow|deny [agent:]Tool(pattern)"), "known_rules")
    arguments.add_json(parser)


# -- what several have ------------------------------------------------------------------------------------------------
def _add_on(parser: argparse.ArgumentParser, every: bool = False) -> None:
    place = parser.add_mutually_exclusive_group() if every else parser
    arguments.complete_peers(place.add_argument("--on", metavar="PEER", help="on that machine (default: this one)"))
    if every:
        place.add_argument("--all", action="store_true", help="on this machine and every peer")


def _add_task(parser: argparse.ArgumentParser) -> None:
    arguments.complete(parser.add_argument("id", help="its id, or so much of its beginning as is clear"), "known_tasks")
    _add_on(parser)


def _add_request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--request", metavar="R", help="which of its requests (its id, or the beginning of it)")


def _add_json(parser: argparse.ArgumentParser) -> None:
    text = "print the task as JSON; when following, each event, one a line"
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=text)


def _dollars(text: str) -> float:
    try:
        value = float(text.removeprefix("$"))
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount from 0.01 to 10000 (USD)")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)
