"""``loopsy mcp``: the server that agents start, and making it known to them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from loopsy.cli import arguments, render

if TYPE_CHECKING:
    from loopsy.agents.registrars import Registrar
    from loopsy.agents.registration import Outcome, Standing

AGENTS = ("claude", "codex", "gemini")
"""The same as those of agents.registrars (a test says so), which ``serve`` has no time to import."""
SENTENCES = {
    "added": "registered",
    "replaced": "registered; before, it started: {}",
    "unchanged": "registered already",
    "removed": "no longer registered",
    "absent": "was not registered",
    "not installed": "not installed",
    "failed": "failed: {}",
}


def fill(parser: arguments.Parser, name: str) -> None:
    """The parser of ``mcp``."""
    arguments.describe(
        parser,
        "Let AI agents use your machines: the MCP server, and making it known to Claude Code, Codex and Gemini CLI.",
        "loopsy mcp add\nloopsy mcp status",
    )
    actions = parser.add_subparsers(metavar="<action>", required=True)
    serving = actions.add_parser("serve", help="be the MCP server, on stdin and stdout (agents start it)")
    arguments.describe(
        serving,
        "Be the MCP server, on stdin and stdout. Agents start it; there is nothing to see for a person.",
        "loopsy mcp serve",
        serve,
    )
    _fill_action(actions, "add", "make the server known to agents", add, ADDING)
    _fill_action(actions, "remove", "take that back", remove, "Take the server from the agents that know it.")
    _fill_action(actions, "status", "show which agents have it, and whether it starts", status, STATUS)


ADDING = (
    "Register the MCP server with the agents of this machine, by each one's own command.\n"
    "What stands there under the name loopsy gives way. Exit status 1 if an agent could not be told."
)
STATUS = (
    "Show for each agent whether it has the MCP server, and start that once to see whether it works.\n"
    "Exit status 1 if it is registered somewhere and does not."
)


def _fill_action(actions: Any, name: str, short: str, run: arguments.Run, text: str) -> None:
    parser = actions.add_parser(name, help=short)
    arguments.describe(parser, text, f"loopsy mcp {name}\nloopsy mcp {name} --agent claude", run)
    parser.add_argument(
        "--agent", action="append", choices=AGENTS, default=[], help="only this one; may be given several times"
    )
    arguments.add_json(parser)


# -- serve ------------------------------------------------------------------------------------------------------------
def serve(args: argparse.Namespace) -> int:
    """Be the server until stdin ends."""
    from loopsy.mcp.server import serve as run_server

    return run_server(arguments.directory_of(args))


# -- add and remove ---------------------------------------------------------------------------------------------------
def add(args: argparse.Namespace) -> int:
    """Register with the agents that are there."""
    from loopsy.agents import registrars, registration

    command = registrars.server_command(arguments.directory_of(args))
    outcomes = _each_found(args, lambda registrar: registration.add(registrar, command))
    chosen = registration.chosen(args.agent)
    failed = {outcome.agent for outcome in outcomes if outcome.done == "failed"}
    left = [r for r in chosen if r.agent in failed] if registration.installed(chosen) else chosen
    if arguments.wants_json(args):
        render.print_json({"command": command, "agents": [_plain(outcome) for outcome in outcomes]})
    else:
        print(told(outcomes))
        if left:
            print(by_hand(left, command))
    return _status_of(args, outcomes)


def remove(args: argparse.Namespace) -> int:
    """Take it back."""
    from loopsy.agents import registration

    outcomes = _each_found(args, registration.remove)
    if arguments.wants_json(args):
        render.print_json({"agents": [_plain(outcome) for outcome in outcomes]})
    else:
        print(told(outcomes))
    return _status_of(args, outcomes)


def _each_found(args: argparse.Namespace, work: Callable[[Registrar], Outcome]) -> list[Outcome]:
    from loopsy.agents import registration

    return registration.each(work, registration.chosen(args.agent))


def _status_of(args: argparse.Namespace, outcomes: Sequence[Outcome]) -> int:
    """An agent that isn't there is a failure only if it was asked for."""
    bad = ("failed", "not installed") if args.agent else ("failed",)
    return int(any(outcome.done in bad for outcome in outcomes))


def told(outcomes: Sequence[Outcome]) -> str:
    """A line for each agent."""
    return render.facts((outcome.agent, SENTENCES[outcome.done].format(outcome.text)) for outcome in outcomes)


def by_hand(registrars: Sequence[Registrar], command: Sequence[str]) -> str:
    """How a person registers it."""
    entry = {"mcpServers": {"loopsy": {"command": command[0], "args": list(command[1:])}}}
    lines = (*(registrar.manual(command) for registrar in registrars), "", "any other agent, in its settings:")
    return "\nby hand:\n" + "\n".join(f"  {render.clean(line)}".rstrip() for line in (*lines, json.dumps(entry)))


def _plain(value: Any) -> dict[str, Any]:
    """The fields of a value that are known."""
    import attrs

    return {name: field for name, field in attrs.asdict(value).items() if field is not None}


# -- status -----------------------------------------------------------------------------------------------------------
def status(args: argparse.Namespace) -> int:
    """Look at each agent."""
    from loopsy.agents import registrars, registration

    command = registrars.server_command(arguments.directory_of(args))
    chosen = registration.chosen(args.agent)
    stands = registration.each(lambda registrar: registration.standing(registrar, command), chosen)
    if arguments.wants_json(args):
        render.print_json({"command": command, "agents": [_plain(standing) for standing in stands]})
    else:
        print("\n".join(line for standing in stands for line in shown(standing)))
    return int(any(standing.broken for standing in stands))


def shown(standing: Standing) -> list[str]:
    """The lines for one agent."""
    told: list[str] = [standing.state]
    if standing.state == "registered":
        told = [f"registered, {_connection(standing)}"]
        told.append(f"starts: {standing.command}")
        if not standing.current:
            told.append("this installation would register another command: loopsy mcp add")
    if standing.says:
        told.append(f"it says itself: {standing.says}")
    if standing.error:
        told.append(standing.error)
    width = max(map(len, AGENTS))
    first, *more = map(render.clean, told)
    return [f"{standing.agent.ljust(width)}  {first}", *(f"{' ' * width}  {line}" for line in more)]


def _connection(standing: Standing) -> str:
    if standing.connects:
        return f"connects ({render.count(standing.tools or 0, 'tool')})"
    return "does not connect"


# -- for loopsy init --------------------------------------------------------------------------------------------------
def introduce(directory: str) -> str:
    """Register with the agents that are there, and say how that went; never fails."""
    from loopsy.agents import registrars, registration

    found = registration.installed(registration.chosen())
    if not found:
        return "\nno AI agent (Claude Code, Codex, Gemini CLI) is here; once there is one: loopsy mcp add"
    command = registrars.server_command(directory)
    outcomes = registration.each(lambda registrar: registration.add(registrar, command), found)
    retry = "\n  try again with: loopsy mcp add" if any(outcome.done == "failed" for outcome in outcomes) else ""
    return f"\nthe MCP server, for AI agents:\n{told(outcomes)}{retry}"
