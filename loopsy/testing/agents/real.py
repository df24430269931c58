"""A real agent CLI, ready to run: a HOME of its own, the scripted model API, a dummy key, and nothing of the user's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from attrs import frozen

from loopsy.testing.agents import packages

DUMMY_KEY = "scripted-model-api-needs-no-key"
RUN_S = 300.0
"""Gemini takes 3 s to start, the others less than one; only a run that hangs meets this."""
SERVER_S = 120
"""What an agent is to allow an MCP server to start. Its own limit, a few seconds, is met on a busy machine."""


@frozen(kw_only=True)
class Ran:
    """How a run ended."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout; others are left out."""
        lines = (line for line in self.stdout.splitlines() if line.startswith(b"{"))
        return [json.loads(line) for line in lines]


@frozen(kw_only=True)
class Cli:
    """What is particular about one CLI."""

    name: str
    headless: tuple[str, ...]
    """Before the prompt."""
    options: tuple[str, ...]
    """Behind the prompt: its events as JSON lines."""
    unasked: tuple[str, ...]
    """Lets it use every tool without asking."""
    awaiting: Callable[[str], tuple[str, ...]]
    """Makes its first question to the model wait for an MCP server, by the server's name."""
    variables: Callable[[str], Mapping[str, str]]
    """By the URL of the model API."""
    files: Callable[[str], Mapping[str, str]]
    """What its HOME must hold, by the same."""


def _claude_variables(url: str) -> Mapping[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": DUMMY_KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ENABLE_TOOL_SEARCH": "false",  # a scripted model does not look for tools: it is to be offered all of them
        "MCP_CONNECTION_NONBLOCKING": "0",  # nor ask again once a server has started: its first turn waits for them
        "MCP_CONNECT_TIMEOUT_MS": str(SERVER_S * 1000),
        "MCP_TIMEOUT": str(SERVER_S * 1000),
        "IS_SANDBOX": "1",  # as root it refuses to work unasked without this
    }


def _codex_files(url: str) -> Mapping[str, str]:
    lines = (
        'model = "scripted"',
        'model_provider = "scripted"',
        "[model_providers.scripted]",
        'name = "scripted"',
        f'base_url = "{url}/v1"',
        'wire_api = "responses"',
        'env_key = "SCRIPTED_KEY"',
        "",
    )
    return {".codex/config.toml": "\n".join(lines)}


def _gemini_files(url: str) -> Mapping[str, str]:
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "privacy": {"usageStatisticsEnabled": False},  # reporting them costs 3 s of each run without a network
    }
    return {".gemini/settings.json": json.dumps(settings)}


CLIS = {
    cli.name: cli
    for cli in (
        Cli(
            name="claude",
            headless=("-p",),
            options=("--output-format", "stream-json", "--verbose"),
            unasked=("--permission-mode", "bypassPermissions"),
            awaiting=lambda server: (),
            variables=_claude_variables,
            files=lambda url: {},
        ),
        Cli(
            name="codex",
            headless=("exec",),
            options=("--json", "--skip-git-repo-check"),
            unasked=("--dangerously-bypass-approvals-and-sandbox",),
            # else it asks without the tools of a server that takes longer than a second to start
            awaiting=lambda server: (
                "-c",
                f"mcp_servers.{server}.required=true",
                "-c",
                f"mcp_servers.{server}.startup_timeout_sec={SERVER_S}",
            ),
            variables=lambda url: {"SCRIPTED_KEY": DUMMY_KEY},
            files=_codex_files,
        ),
        Cli(
            name="gemini",
            headless=("-p",),
            options=("--output-format", "stream-json", "--skip-trust"),
            unasked=("--yolo",),
            awaiting=lambda server: (),
            variables=lambda url: {"GEMINI_API_KEY": DUMMY_KEY, "GOOGLE_GEMINI_BASE_URL": url},
            files=_gemini_files,
        ),
    )
}


@frozen(kw_only=True)
class RealAgent:
    """One CLI in a HOME of its own."""

    cli: Cli
    commands: Path
    """The folder with the command."""
    home: Path
    url: str
    """Of the model API."""

    @property
    def name(self) -> str:
        """claude, codex or gemini."""
        return self.cli.name

    @property
    def path(self) -> str:
        """PATH: the command, node, and the system's own."""
        return os.pathsep.join([str(self.commands), os.path.dirname(packages.node()), "/usr/bin", "/bin"])

    @property
    def environment(self) -> dict[str, str]:
        """All that it sees of ours. A daemon that is to start the CLI takes this over its own."""
        return {"HOME": str(self.home), "PATH": self.path, "LANG": "C.UTF-8", **self.cli.variables(self.url)}

    @property
    def work(self) -> Path:
        """An empty directory to work in."""
        made = self.home / "work"
        made.mkdir(exist_ok=True)
        return made

    def argv(self, prompt: str, *options: str, ask: bool = False, awaits: str | None = None) -> list[str]:
        """A headless run that prints JSON lines. ``ask``: tools need a permission, as they do by default. ``awaits``:
        an MCP server whose tools the first turn needs."""
        own = () if ask else self.cli.unasked
        waiting = self.cli.awaiting(awaits) if awaits else ()
        return [self.name, *self.cli.headless, prompt, *self.cli.options, *own, *waiting, *options]

    def run(
        self, prompt: str, *options: str, ask: bool = False, awaits: str | None = None, timeout: float = RUN_S
    ) -> Ran:
        """One headless run, to its end; see ``argv``.

        :raises subprocess.TimeoutExpired: it took longer; all of its processes have been ended.
        """
        return self.command(*self.argv(prompt, *options, ask=ask, awaits=awaits)[1:], timeout=timeout)

    def command(self, *words: str, timeout: float = RUN_S) -> Ran:
        """The CLI with those words.

        :raises subprocess.TimeoutExpired: it took longer; all of its processes have been ended.
        """
        process = subprocess.Popen(
            [self.commands / self.name, *words],
            env=self.environment,
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            end_tree(process.pid)
            process.communicate()
            raise
        return Ran(status=process.returncode, stdout=stdout, stderr=stderr)


def end_tree(pid: int) -> None:
    """Kill a process and all that came of it: gemini runs as two processes, and the shell tool of claude starts each
    command in a process group of its own."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        root.suspend()  # else it may start another while we look
        for process in (*root.children(recursive=True), root):
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def real_agent(name: str, url: str) -> Iterator[RealAgent]:
    """An agent for as long as ``with`` lasts. ``url``: of the model API; its HOME goes with it.

    The HOME lies under the cache, since codex wants it to be elsewhere than under /tmp.

    :raises packages.Unavailable: it isn't installed, or can't run here.
    """
    commands = packages.find(name)
    homes = packages.cache() / "homes"
    homes.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=homes))
    try:
        for path, text in CLIS[name].files(url).items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text(text)
        yield RealAgent(cli=CLIS[name], commands=commands, home=home, url=url)
    finally:
        shutil.rmtree(home, ignore_errors=True)
