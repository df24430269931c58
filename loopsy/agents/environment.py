"""The environment that an agent starts with: the daemon's own, without what isn't the agent's business."""

from __future__ import annotations

import re
from collections.abc import Mapping

from loopsy.wire.tasks import CLAUDE, CODEX, GEMINI

TASK_ID = "LOOPSY_TASK"
"""The one variable of ours that the child sees: with it set, nobody approves anything."""

OURS = re.compile(r"LOOPSY_")
SUPERVISOR = re.compile(r"(NOTIFY_SOCKET|LISTEN_(PID|FDS|FDNAMES)|WATCHDOG_\w+|MAINPID|INVOCATION_ID|JOURNAL_STREAM)$")
"""Of the service manager: with these the child could speak to it as if it were the daemon."""

OWN = {
    CLAUDE: re.compile(r"ANTHROPIC_|CLAUDE"),
    CODEX: re.compile(r"OPENAI_|CODEX_"),
    GEMINI: re.compile(r"GEMINI_|GOOGLE_(API_KEY|GEMINI_|GENAI_)"),
}
"""Settings and credentials of each; the others don't get them. Those of a cloud (AWS_…, GOOGLE_CLOUD_…) are for many
programs of the user's, and stay."""

NESTING = {
    CLAUDE: re.compile(
        r"CLAUDE(?!_CONFIG_DIR$|_CODE_(OAUTH_|API_|USE_|SKIP_|DISABLE_|ENABLE_|MAX_|CLIENT_|CERT|SHELL|GIT_BASH_PATH$))"
    ),
    CODEX: re.compile(r"CODEX_(?!HOME$|API_KEY$|ACCESS_TOKEN$|CA_CERTIFICATE$)"),
    GEMINI: re.compile(r"GEMINI_(CLI$|CLI_(?!HOME$|SYSTEM_)|PTY_INFO$|SANDBOX_)"),
}
"""What an agent sets for its children: one that is started among them would think itself nested, or another session."""


def cleaned(environment: Mapping[str, str], agent: str) -> dict[str, str]:
    """What the child of an agent gets of this environment."""
    return {name: value for name, value in environment.items() if name == TASK_ID or not _dropped(name, agent)}


def _dropped(name: str, agent: str) -> bool:
    foreign = any(own.match(name) for other, own in OWN.items() if other != agent)
    return bool(foreign or OURS.match(name) or SUPERVISOR.match(name) or NESTING[agent].match(name))
