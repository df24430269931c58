"""``loopsy doctor``: everything that can be wrong on this machine, each with its remedy."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from loopsy.cli import arguments, render
from loopsy.cli.checks import agents, daemon, discovery, files, system, trust
from loopsy.cli.checks.finding import FAIL, PASS, WARN, Check, Look, Patient, title
from loopsy.errors import LoopsyError
from loopsy.store import pidfile
from loopsy.store.layout import Layout

MARKS = {PASS: "✓", WARN: "!", FAIL: "✗"}
CHECKS: tuple[Look, ...] = (
    files.permissions, daemon.daemon, daemon.port, daemon.database, daemon.audit_log, trust.tls, trust.keys,
    trust.peers, trust.clock, discovery.mdns, system.service, system.sessions, agents.agents, agents.mcp, files.disk,
)  # fmt: skip
"""In the order in which they are told."""


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``doctor``."""
    arguments.describe(
        parser,
        "Check the configuration, permissions, daemon, port, database, audit log, certificate, keys, peers and their\n"
        "clocks, discovery, service, sessions, AI agents and disk. Exit status 1 if anything failed.",
        "loopsy doctor\nloopsy doctor --fix        # closes files that others may read",
        run,
    )
    parser.add_argument("--fix", action="store_true", help="mend file permissions")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Look at everything."""
    found = list(examine(arguments.layout_of(args), args.fix))
    if arguments.wants_json(args):
        render.print_json({"checks": [check._asdict() for check in found]})
    else:
        print(report(found))
    return 1 if any(check.level == FAIL for check in found) else 0


def report(found: list[Check]) -> str:
    """For a person."""
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        lines.append(f"{MARKS[check.level]} {check.name.ljust(width)}  {render.clean(check.text)}")
        if check.remedy:
            lines.append(f"  {' ' * width}  {render.clean(check.remedy)}")
    counts = {level: sum(check.level == level for check in found) for level in (FAIL, WARN)}
    if any(counts.values()):
        told = [render.count(n, word) for n, word in ((counts[FAIL], "failure"), (counts[WARN], "warning")) if n]
        return "\n".join([*lines, "", ", ".join(told)])
    return "\n".join([*lines, "", "all is well"])


def examine(layout: Layout, fix: bool) -> Iterator[Check]:
    """Each check in turn. One that breaks is itself a failure, and does not keep the others from being made."""
    if not layout.root.is_dir():
        yield Check("data directory", FAIL, f"there is no {layout.root}", "make one with: loopsy init")
        return
    config, check = files.config(layout)
    yield check
    patient = Patient(layout, config, pidfile.running(layout.pid), fix)
    for look in CHECKS:
        try:
            yield from look(patient)
        except LoopsyError as error:
            yield Check(title(look), FAIL, error.message, error.hint or f"see {layout.daemon_log}")
        except OSError as error:
            yield Check(title(look), FAIL, str(error).lower(), "is that file there, and yours?")
