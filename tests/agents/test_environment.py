"""What an agent's environment holds, and what not."""

from __future__ import annotations

import pytest

from loopsy.agents.environment import cleaned
from loopsy.wire.tasks import AGENTS

USERS = ("HOME", "PATH", "LANG", "SSH_AUTH_SOCK", "GIT_AUTHOR_NAME", "AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS",
         "GOOGLE_CLOUD_PROJECT", "HTTPS_PROXY")  # fmt: skip
OWN = {
    "claude": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL", "CLAUDE_CODE_OAUTH_TOKEN",
               "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"),
    "codex": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_HOME", "CODEX_API_KEY"),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GEMINI_MODEL", "GEMINI_CLI_HOME"),
}  # fmt: skip
MARKERS = ("CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SESSION_ID", "CLAUDE_CODE_SSE_PORT", "CLAUDE_PID",
           "CLAUDE_CODE_CHILD_SESSION", "CODEX_SANDBOX", "CODEX_THREAD_ID", "CODEX_CI", "GEMINI_CLI",
           "GEMINI_PTY_INFO")  # fmt: skip
OURS = ("LOOPSY_KEY", "LOOPSY_DATA_DIR", "LOOPSY_", "NOTIFY_SOCKET", "LISTEN_FDS", "INVOCATION_ID")
EVERYTHING = dict.fromkeys((*USERS, *(n for own in OWN.values() for n in own), *MARKERS, *OURS, "LOOPSY_TASK"), "x")


@pytest.mark.parametrize("agent", AGENTS)
def test_it_holds_what_is_the_users_and_the_agents_own(agent: str) -> None:
    assert set(cleaned(EVERYTHING, agent)) == {*USERS, *OWN[agent], "LOOPSY_TASK"}
