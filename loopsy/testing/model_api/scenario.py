"""What a scripted model says, turn by turn, whichever agent asks it.

A scenario is a Python value, or a YAML file of the same shape::

    when: count the files        # optional: only for conversations whose prompt holds this text
    turns:
      - say: I'll look.          # a turn says something, or calls tools, or both
        shell: ls | wc -l        # by the agent's own shell tool
      - mcp: {server: loopsy, tool: loopsy_list_peers}
      - tool: {name: Write, input: {file_path: /w/a, content: b}}    # one agent's own tool, by its name
      - say: "x"
        repeat: 2000000          # one text of 2 MB
      - say: "tick "
        pieces: 50000            # said 50,000 times, an event each
        pace: 0.001              # seconds between them
      - hold: true               # answer only when the test calls ModelApi.release()
        wait: 0.5                # seconds before the answer begins
      - say: half a sen
        crash: true              # the connection breaks in the middle of the answer
      - status: 529              # refuse with that HTTP status

The next turn is the one after those that the conversation already shows, so conversations may run side by side, and a
session that is resumed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from attrs import field, frozen
from cattrs import Converter
from cattrs.errors import BaseValidationError

SHELL = "shell"


@frozen(kw_only=True)
class McpTool:
    """A tool of an MCP server, by the server's name at the agent."""

    server: str
    tool: str
    input: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class OwnTool:
    """A tool of one agent, by the name that the agent gives it."""

    name: str
    input: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class ShellCommand:
    """A command for the agent's own shell tool."""

    command: str


Call = McpTool | OwnTool | ShellCommand


@frozen(kw_only=True)
class Turn:
    """One answer of the model."""

    say: str = ""
    repeat: int = 1
    """How often ``say`` stands in one event."""
    pieces: int = 1
    """How many such events there are."""
    pace: float = 0.0
    """Seconds between two of them."""
    shell: str | None = None
    mcp: McpTool | None = None
    tool: OwnTool | None = None
    wait: float = 0.0
    """Seconds before the answer begins."""
    hold: bool = False
    crash: bool = False
    status: int = 200

    @property
    def calls(self) -> tuple[Call, ...]:
        """The tools that it calls, all at once."""
        shell = ShellCommand(command=self.shell) if self.shell is not None else None
        return tuple(call for call in (shell, self.mcp, self.tool) if call is not None)

    @property
    def text(self) -> str:
        """One piece of what it says."""
        return self.say * self.repeat


@frozen(kw_only=True)
class Scenario:
    """Turns in their order."""

    turns: tuple[Turn, ...]
    when: str = ""
    """What the first prompt must hold; everything holds nothing."""


OVER = Turn(say="The scenario has no more turns.")
"""What is said behind the end: agents may always ask once more."""


def scenario(*turns: Turn, when: str = "") -> Scenario:
    """The same, shorter."""
    return Scenario(turns=turns, when=when)


def say(text: str, **more: Any) -> Turn:
    """A turn that says something; ``more`` are other fields of it."""
    return Turn(say=text, **more)


def shell(command: str, **more: Any) -> Turn:
    """A turn that calls the agent's own shell."""
    return Turn(shell=command, **more)


def mcp(server: str, tool: str, given: Mapping[str, Any] | None = None, **more: Any) -> Turn:
    """A turn that calls a tool of an MCP server."""
    return Turn(mcp=McpTool(server=server, tool=tool, input=given or {}), **more)


def load(path: Path) -> Scenario:
    """Read a scenario file.

    :raises ValueError: it can't be understood; says what, and where.
    """
    try:
        return _CONVERTER.structure(yaml.safe_load(path.read_text()), Scenario)
    except (BaseValidationError, yaml.YAMLError, TypeError, AttributeError) as error:
        from cattrs import transform_error

        said = "; ".join(transform_error(error)) if isinstance(error, BaseValidationError) else str(error)
        raise ValueError(f"{path}: {said}") from None


_CONVERTER = Converter(forbid_extra_keys=True)
Dialect = Literal["anthropic", "openai", "gemini"]
