"""Shell completion, by argcomplete; and the version, which needs no daemon either."""

from __future__ import annotations

import argparse
from typing import Any

from loopsy.cli import arguments
from loopsy.client.local import LocalDaemon
from loopsy.errors import LoopsyError
from loopsy.store.layout import data_dir
from loopsy.wire import urls

PROMPT_S = 0.5
"""Whoever presses Tab does not wait longer for names."""


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``completion`` or ``version``."""
    if name == "version":
        arguments.describe(parser, "Print the version.", "loopsy version", version)
        return
    arguments.describe(
        parser,
        "Print the set-up that lets your shell complete loopsy's commands, options and peers.",
        'bash:  eval "$(loopsy completion bash)"                        # in ~/.bashrc\n'
        'zsh:   eval "$(loopsy completion zsh)"                         # in ~/.zshrc, behind compinit\n'
        "fish:  loopsy completion fish > ~/.config/fish/completions/loopsy.fish",
        completion,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def completion(args: argparse.Namespace) -> int:
    """Print the shell's code."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["loopsy"], shell=args.shell))
    return 0


def version(_: argparse.Namespace) -> int:
    """Print the version."""
    from loopsy._version import VERSION

    print(f"loopsy {VERSION}")
    return 0


def known_messages(directory: str | None) -> list[str]:
    """The ids of the last messages of both boxes, or nothing when the daemon can't say."""
    try:
        daemon = LocalDaemon(data_dir(directory))
        pages = [daemon.ask("GET", f"{path}?newest=1", timeout=PROMPT_S) for path in (urls.INBOX, urls.OUTBOX)]
        return sorted({str(message["id"]) for page in pages for message in page["messages"]})
    except (LoopsyError, KeyError, TypeError):
        return []


def several_peers(args: argparse.Namespace, prefix: str) -> list[str]:
    """Peers behind those that stand there already: ``kai,l`` → ``kai,leo``."""
    before, comma, _ = prefix.rpartition(",")
    names = [*known_peers(getattr(args, "data_dir", None)), "."]
    return [f"{before}{comma}{name}" for name in names if name not in before.split(",")]


def known_labels(args: argparse.Namespace, _: str) -> list[str]:
    """All that some peer has."""
    return sorted({str(label) for peer in _asked(args, urls.PEERS, "peers") for label in peer.get("labels") or ()})


def known_jobs(args: argparse.Namespace, _: str) -> list[str]:
    """The ids of a machine's jobs; those that ran detached and are over, too."""
    path = urls.on_peer(urls.JOBS, arguments.peer_of(getattr(args, "peer", None)))
    return sorted({str(job["jobId"]) for job in _asked(args, f"{path}?all=1", "jobs", "detached")})


def known_terminals(args: argparse.Namespace, _: str) -> list[str]:
    """The ids of a machine's terminals."""
    path = urls.on_peer(urls.TERMINALS, arguments.peer_of(getattr(args, "peer", None) or "."))
    return sorted({str(terminal["terminalId"]) for terminal in _asked(args, path, "terminals")})


def _asked(args: argparse.Namespace, path: str, *lists: str) -> list[dict[str, Any]]:
    """What the daemon's answer has in these lists; nothing when it can't say."""
    try:
        answer = arguments.daemon_of(args).ask("GET", path, timeout=PROMPT_S)
        return [item for name in lists for item in answer[name]]
    except (LoopsyError, KeyError, TypeError):
        return []


def known_tasks(directory: str | None, _: str) -> list[str]:
    """The ids of the newest tasks of this machine."""
    try:
        answer = LocalDaemon(data_dir(directory)).ask("GET", urls.TASKS, timeout=PROMPT_S)
        return sorted({str(task["taskId"]) for task in answer["tasks"]})
    except (LoopsyError, KeyError, TypeError):
        return []


def known_rules(directory: str | None, _: str) -> list[str]:
    """The rules of this machine."""
    try:
        answer = LocalDaemon(data_dir(directory)).ask("GET", urls.TASK_RULES, timeout=PROMPT_S)
        return [str(rule) for rule in answer["rules"]]
    except (LoopsyError, KeyError, TypeError):
        return []


def known_peers(directory: str | None) -> list[str]:
    """The names of the peers, or nothing when the daemon can't say."""
    try:
        answer = LocalDaemon(data_dir(directory)).ask("GET", urls.PEERS, timeout=PROMPT_S)
        known = [peer for peer in answer["peers"] if peer["trusted"] or peer["manuallyAdded"]]
        return sorted({str(peer.get("name") or peer["hostname"]) for peer in known})
    except (LoopsyError, KeyError, TypeError):
        return []
