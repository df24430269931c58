"""``additionalArgs``: which words a task may add to a CLI's command line.

What is listed can't undo the approvals or our streams; all else is refused, also what a later version may bring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from loopsy.errors import InvalidRequest

NONE, ONE, MANY = 0, 1, 2
"""How many values an option takes."""

CLAUDE_OPTIONS: Mapping[str, int] = {
    "--add-dir": MANY,
    "--agent": ONE,
    "--append-system-prompt": ONE,
    "--autocompact": ONE,
    "--bare": NONE,
    "--betas": MANY,
    "--disable-slash-commands": NONE,
    "--effort": ONE,
    "--exclude-dynamic-system-prompt-sections": NONE,
    "--fallback-model": ONE,
    "--fork-session": NONE,
    "--max-turns": ONE,
    "--mcp-config": MANY,
    "--name": ONE,
    "--no-session-persistence": NONE,
    "--restricted": NONE,
    "--safe-mode": NONE,
    "--setting-sources": ONE,
    "--strict-mcp-config": NONE,
    "--system-prompt": ONE,
    "--tools": MANY,
}
CODEX_OPTIONS: Mapping[str, int] = {"-c": ONE, "--config": ONE}
CODEX_SETTINGS = frozenset(
    {
        "developer_instructions",
        "hide_agent_reasoning",
        "model_context_window",
        "model_provider",
        "model_reasoning_effort",
        "model_reasoning_summary",
        "model_verbosity",
        "project_doc_max_bytes",
        "show_raw_agent_reasoning",
        "web_search",
    }
)
"""What ``-c`` may set; its other settings reach approvals, the sandbox and hooks."""
GEMINI_OPTIONS: Mapping[str, int] = {
    "--allowed-mcp-server-names": MANY,
    "--extensions": MANY,
    "--include-directories": MANY,
    "--sandbox": NONE,
}


def checked(words: Sequence[str], options: Mapping[str, int]) -> tuple[str, ...]:
    """The words, if each is an option that is listed, or a value of one.

    :raises InvalidRequest: one isn't.
    """
    room, due = NONE, False
    for word in words:
        name, equals, _ = word.partition("=")
        if not word.startswith("-"):
            if room == NONE:
                raise _refusal(word)
            room, due = MANY if room == MANY else NONE, False
        elif due or name not in options or (equals and options[name] == NONE):
            raise _refusal(word)
        else:
            room = NONE if equals else options[name]
            due = room != NONE
    if due:  # it would take what we say behind it for its value
        raise _refusal(words[-1])
    return tuple(words)


def checked_codex(words: Sequence[str]) -> tuple[str, ...]:
    """The same for Codex, whose one option sets anything.

    :raises InvalidRequest: it sets what isn't listed.
    """
    checked(words, CODEX_OPTIONS)
    for word in words:
        setting = word.split("=", 1)[1] if word.startswith("--config=") else word
        if setting not in CODEX_OPTIONS and setting.partition("=")[0].strip() not in CODEX_SETTINGS:
            raise _refusal(setting)
    return tuple(words)


def plain(field: str, values: Iterable[str | None]) -> None:
    """See that no value of a field would be read as an option.

    :raises InvalidRequest: one would; names the field.
    """
    for value in values:
        if value is not None and value.startswith("-"):
            raise InvalidRequest(f"{field}: {value[:80]!r} begins with a dash", details={"field": field})


def unknown_to(agent: str, **fields: object) -> None:
    """See that a task asks nothing of an agent that it doesn't know.

    :raises InvalidRequest: it does; names the field.
    """
    for field, value in fields.items():
        if value:
            raise InvalidRequest(f"{field}: {agent} knows no such thing", details={"field": field})


def _refusal(word: str) -> InvalidRequest:
    return InvalidRequest(
        f"additionalArgs: {word[:80]!r} may not be given",
        hint="only options that leave the approvals and the output as they are: docs/agents.md lists them",
        details={"field": "additionalArgs"},
    )
