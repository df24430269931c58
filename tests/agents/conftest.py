"""A machine with an empty HOME and a PATH of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loopsy.agents import calling, handshake
from tests.agents.fakes import fake_agent
from tests.waiting import PATIENCE_S


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No agent of this machine is found, and none of its settings."""
    made = tmp_path / "home"
    made.mkdir()
    monkeypatch.setenv("HOME", str(made))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr("loopsy.agents.finding.USUAL", ())
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME"):
        monkeypatch.delenv(name, raising=False)
    for asked in (calling.call, handshake.count_tools):
        monkeypatch.setattr(asked, "__defaults__", (PATIENCE_S,))  # a busy machine may take longer to start even a fake
    return made


@pytest.fixture
def fake(home: Path, tmp_path: Path) -> Callable[..., Path]:
    """Puts a fake agent on the PATH."""
    return lambda name, **mode: fake_agent(tmp_path / "bin", name, **mode)
