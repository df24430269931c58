"""Telling agents, by tiny scripts that behave as the real ones do, and worse."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from loopsy.agents import calling, registration
from loopsy.agents.registrars import REGISTRARS
from loopsy.agents.registration import Outcome
from tests.agents.fakes import server, server_script
from tests.waiting import wait_until

AGENTS = tuple(REGISTRARS)
COMMAND = ("/v/bin/loopsy", "mcp", "serve", "--data-dir", "/x/z")
OLD = ("/old/bin/loopsy", "mcp", "serve")
Fake = Callable[..., Path]
FAULTS = [("claude", "hangs"), *((agent, how) for agent in AGENTS for how in ("fails", "garbage"))]
"""One is enough to see that hanging ends."""


@pytest.fixture(autouse=True)
def _quick(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs is given up soon, and any other is waited for."""
    collect = calling._collect

    def collected(process: subprocess.Popen[bytes], name: str, timeout: float) -> tuple[bytes, bytes]:
        hangs = home / f"{name}.hangs"
        wait_until(lambda: hangs.exists() or process.poll() is not None, f"{name} in mid-call, or its end")
        return collect(process, name, 1.0 if hangs.exists() else timeout)

    monkeypatch.setattr(calling, "ENDING_S", 0.2)
    monkeypatch.setattr(calling, "_collect", collected)


def calls(home: Path, agent: str) -> list[str]:
    """The verbs that an agent was called with."""
    return [json.loads(line)[0][1] for line in (home / f"{agent}.calls").read_text().splitlines()]


def has(home: Path, agent: str) -> tuple[str, ...] | None:
    store = home / f"{agent}.registered"
    return tuple(store.read_text().splitlines()) if store.exists() else None


def add(agent: str, command: tuple[str, ...] = COMMAND) -> Outcome:
    return registration.add(REGISTRARS[agent], command)


@pytest.mark.parametrize("agent", AGENTS)
def test_from_nothing_to_registered_and_back(agent: str, home: Path, fake: Fake) -> None:
    fake(agent)
    assert add(agent).done == "added"
    assert has(home, agent) == COMMAND
    assert registration.remove(REGISTRARS[agent]) == Outcome(agent=agent, done="removed", text=" ".join(COMMAND))
    assert has(home, agent) is None
    assert registration.remove(REGISTRARS[agent]).done == "absent"


@pytest.mark.parametrize("agent", AGENTS)
def test_what_is_registered_already_is_left_alone(agent: str, home: Path, fake: Fake) -> None:
    fake(agent)
    add(agent)
    assert add(agent).done == "unchanged"
    assert calls(home, agent).count("add") == 1


@pytest.mark.parametrize("agent", AGENTS)
def test_another_command_gives_way(agent: str, home: Path, fake: Fake) -> None:
    fake(agent)
    add(agent, OLD)
    assert add(agent) == Outcome(agent=agent, done="replaced", text=" ".join(OLD))
    assert has(home, agent) == COMMAND


def test_one_that_is_switched_off_is_registered_anew(home: Path, fake: Fake) -> None:
    fake("codex", disabled=("yes",))
    add("codex")
    assert add("codex").done == "replaced"


@pytest.mark.parametrize("agent", AGENTS)
def test_one_that_is_not_there(agent: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    assert add(agent).done == "not installed"
    assert registration.remove(REGISTRARS[agent]).done == "not installed"
    assert registration.standing(REGISTRARS[agent], COMMAND).state == "not installed"


@pytest.mark.parametrize(("agent", "how"), FAULTS)
def test_one_that_cannot_show_what_it_has_is_told_nothing(agent: str, how: str, home: Path, fake: Fake) -> None:
    show = REGISTRARS[agent].show[1]
    fake(agent, **{how: (show,)})
    outcome = add(agent)
    assert (outcome.done, has(home, agent)) == ("failed", None)
    assert agent in str(outcome.text)
    assert "add" not in calls(home, agent)


@pytest.mark.parametrize(
    ("agent", "how", "why"),
    [
        ("claude", "hangs", "did not end within 1 s"),
        *((agent, "fails", "failed.*the disk is full") for agent in AGENTS),
    ],
)
def test_one_that_fails_at_adding(agent: str, how: str, why: str, home: Path, fake: Fake) -> None:
    fake(agent, **{how: ("add",)})
    outcome = add(agent)
    assert outcome.done == "failed"
    assert re.search(why, str(outcome.text))


def test_the_agents_see_nothing_of_ours(home: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPSY_API_KEY", "secret")
    fake("claude")
    add("claude")
    seen = {name for line in (home / "claude.calls").read_text().splitlines() for name in json.loads(line)[1]}
    assert "HOME" in seen
    assert not [name for name in seen if name.startswith("LOOPSY_")]


def test_one_agent_that_hangs_does_not_keep_the_others_waiting(home: Path, fake: Fake) -> None:
    for agent in AGENTS:
        fake(agent, hangs=("get",) if agent == "claude" else ())
    outcomes = registration.each(lambda registrar: registration.add(registrar, COMMAND), registration.chosen())
    assert [(outcome.agent, outcome.done) for outcome in outcomes] == [
        ("claude", "failed"), ("codex", "added"), ("gemini", "added")
    ]  # fmt: skip


# -- standing ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("agent", AGENTS)
def test_a_server_that_connects(agent: str, home: Path, fake: Fake, tmp_path: Path) -> None:
    folder = tmp_path / "with a blank"
    folder.mkdir()
    command = server_script(folder / "server")
    fake(agent)
    add(agent, command)
    standing = registration.standing(REGISTRARS[agent], command)
    assert (standing.state, standing.current, standing.connects, standing.tools) == ("registered", True, True, 2)
    assert standing.says == ("✔ Connected" if agent == "claude" else None)
    assert not standing.broken


@pytest.mark.parametrize("agent", AGENTS)
def test_a_server_that_is_gone(agent: str, home: Path, fake: Fake) -> None:
    fake(agent)
    add(agent, OLD)
    standing = registration.standing(REGISTRARS[agent], COMMAND)
    assert (standing.state, standing.current, standing.connects) == ("registered", False, False)
    assert standing.command == " ".join(OLD)
    assert "/old/bin/loopsy can't be started" in str(standing.error)
    assert standing.broken


def test_one_that_is_switched_off_does_not_connect(home: Path, fake: Fake) -> None:
    fake("codex", disabled=("yes",))
    add("codex", server())
    standing = registration.standing(REGISTRARS["codex"], server())
    assert standing.broken
    assert standing.error == "it is disabled there"


@pytest.mark.parametrize("agent", AGENTS)
def test_nothing_registered_is_nothing_broken(agent: str, home: Path, fake: Fake) -> None:
    fake(agent)
    standing = registration.standing(REGISTRARS[agent], COMMAND)
    assert (standing.state, standing.broken) == ("not registered", False)


@pytest.mark.parametrize(("agent", "how"), FAULTS)
def test_one_that_cannot_say_is_broken(agent: str, how: str, home: Path, fake: Fake) -> None:
    fake(agent, **{how: (REGISTRARS[agent].show[1],)})
    standing = registration.standing(REGISTRARS[agent], COMMAND)
    assert (standing.state, standing.broken) == ("unknown", True)
    assert agent in str(standing.error)
