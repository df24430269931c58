"""How each agent CLI is told of an MCP server, by its own command, and how its answers are read."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import field, frozen

from loopsy.agents.calling import Called, CallFailed

SERVER = "loopsy"
"""What the server is called at the agents; their models see it in the tools' names."""
DEFAULT_DATA_DIR = "~/.loopsy"


@frozen(kw_only=True)
class Registered:
    """What an agent says it starts."""

    words: tuple[str, ...]
    """Where the agent shows them joined by blanks, words that hold a blank are divided here."""
    says: str | None = None
    """The agent's own word on whether that works, if it has one."""
    enabled: bool = True

    @property
    def text(self) -> str:
        """As one line."""
        return " ".join(self.words)

    def starts(self, command: Sequence[str]) -> bool:
        """Whether it is that command."""
        return self.text == " ".join(command)


@frozen(kw_only=True)
class Registrar:
    """One agent CLI."""

    agent: str
    """Also its command."""
    title: str
    add: tuple[str, ...]
    """The server's words follow."""
    remove: tuple[str, ...]
    show: tuple[str, ...]
    read: Callable[[Called], Registered | None]
    """What ``show`` answered; None: not registered. Raises CallFailed if that can't be told."""
    replaces: bool
    """Whether ``add`` takes the place of what is there."""
    environment: Mapping[str, str] = field(factory=dict)

    def manual(self, command: Sequence[str]) -> str:
        """The line with which a person registers the server."""
        return shlex.join([self.agent, *self.add, *command])


def read_claude(called: Called) -> Registered | None:
    """``claude mcp get``: names and values below each other."""
    if called.status and "No MCP server" in called.text:
        return None
    fields = dict(re.findall(r"^\s*(Scope|Status|Command|Args): ?(.*?)\s*$", called.text, re.MULTILINE))
    if called.status or "Command" not in fields:
        raise unreadable("claude", called)
    if not fields.get("Scope", "User").startswith("User"):
        return None  # of one project only
    words = (fields["Command"], *fields.get("Args", "").split(" "))
    return Registered(words=tuple(filter(None, words)), says=fields.get("Status"))


def read_codex(called: Called) -> Registered | None:
    """``codex mcp get --json``."""
    if called.status and "No MCP server" in called.text:
        return None
    try:
        answer = json.loads(called.stdout)
        transport = answer["transport"]
        words = (transport["command"], *transport.get("args", ()))
        return Registered(words=tuple(map(str, words)), enabled=bool(answer.get("enabled", True)))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise unreadable("codex", called) from None


def read_gemini(called: Called) -> Registered | None:
    """``gemini mcp list``: one line each, ``✓ NAME: COMMAND (stdio) - Connected``."""
    if called.status or "MCP servers" not in called.text:
        raise unreadable("gemini", called)
    text = re.sub(r"\x1b\[[0-9;]*m", "", called.text)
    found = re.search(rf"^\W*{SERVER}(?: \(from [^)]*\))?: (.*) \(\w+\) - ", text, re.MULTILINE)
    return Registered(words=tuple(found[1].split(" "))) if found else None


def unreadable(agent: str, called: Called) -> CallFailed:
    """An answer that says nothing to us; shows its last line."""
    lines = called.text.strip().splitlines() or ["nothing"]
    return CallFailed(f"{agent} (status {called.status}) said: {lines[-1][:200]}")


REGISTRARS = {
    registrar.agent: registrar
    for registrar in (
        Registrar(
            agent="claude",
            title="Claude Code",
            add=("mcp", "add", SERVER, "--scope", "user", "--"),
            remove=("mcp", "remove", SERVER, "--scope", "user"),
            show=("mcp", "get", SERVER),
            read=read_claude,
            replaces=False,
            environment={"MCP_TIMEOUT": "10000"},  # showing a server starts it; a dead one would take 30 s
        ),
        Registrar(
            agent="codex",
            title="Codex",
            add=("mcp", "add", SERVER, "--"),
            remove=("mcp", "remove", SERVER),
            show=("mcp", "get", SERVER, "--json"),
            read=read_codex,
            replaces=True,
        ),
        Registrar(
            agent="gemini",
            title="Gemini CLI",
            add=("mcp", "add", "--scope", "user", SERVER),
            remove=("mcp", "remove", "--scope", "user", SERVER),
            show=("mcp", "list"),
            read=read_gemini,
            replaces=True,
        ),
    )
}


def server_command(directory: str) -> tuple[str, ...]:
    """What agents are to start for this data directory: absolute, and the same after an upgrade in place.

    The interpreter's path is not resolved: in a virtual environment that would lead out of it.
    """
    script = Path(os.path.abspath(sys.executable)).with_name("loopsy")
    start = (str(script),) if script.exists() else (os.path.abspath(sys.executable), "-P", "-m", "loopsy.cli.main")
    chosen = os.path.abspath(directory)
    default = os.path.abspath(os.path.expanduser(DEFAULT_DATA_DIR))
    return (*start, "mcp", "serve", *(() if chosen == default else ("--data-dir", chosen)))
