"""The agents that there are, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from loopsy.agents.adapter import Run, Session
from loopsy.agents.claude import ClaudeSession
from loopsy.agents.codex import CodexSession
from loopsy.agents.gemini import GeminiSession
from loopsy.wire.tasks import CLAUDE, CODEX, GEMINI

AGENTS: Mapping[str, Callable[[Run], Session]] = MappingProxyType(
    {CLAUDE: ClaudeSession, CODEX: CodexSession, GEMINI: GeminiSession}
)
"""Each makes a session of a run, or raises ``InvalidRequest``."""
