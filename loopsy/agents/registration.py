"""Making the MCP server known to the agents of this machine, taking that back, and seeing whether it works.

Each agent is asked and told by its own command; we neither read nor write its files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

from attrs import evolve, frozen

from loopsy.agents import environment, finding, handshake
from loopsy.agents.calling import Called, CallFailed, call
from loopsy.agents.registrars import REGISTRARS, Registered, Registrar
from loopsy.errors import LoopsyError

Done = Literal["added", "replaced", "unchanged", "removed", "absent", "not installed", "failed"]
State = Literal["not installed", "not registered", "registered", "unknown"]
T = TypeVar("T")


@frozen(kw_only=True)
class Outcome:
    """What came of telling one agent."""

    agent: str
    done: Done
    text: str | None = None
    """Why it failed; what stood there before."""


@frozen(kw_only=True)
class Standing:
    """How it stands with one agent."""

    agent: str
    state: State
    command: str | None = None
    """What the agent starts."""
    current: bool | None = None
    """Whether that is what we would register now."""
    connects: bool | None = None
    tools: int | None = None
    says: str | None = None
    """The agent's own word on the connection, from the one that has it (claude)."""
    error: str | None = None

    @property
    def broken(self) -> bool:
        """Whether the agent has the server, but not its tools; or can't say."""
        return self.state == "unknown" or (self.state == "registered" and not self.connects)


def chosen(agents: Sequence[str] = ()) -> list[Registrar]:
    """The agents named; all, if none is."""
    return [registrar for registrar in REGISTRARS.values() if not agents or registrar.agent in agents]


def installed(registrars: Iterable[Registrar]) -> list[Registrar]:
    """Those that are on this machine."""
    return [registrar for registrar in registrars if _command(registrar)]


def each(work: Callable[[Registrar], T], registrars: Sequence[Registrar]) -> list[T]:
    """The work for all of them at once, since each agent takes seconds to start; answers in their order."""
    with ThreadPoolExecutor(max_workers=max(len(registrars), 1)) as pool:
        return list(pool.map(work, registrars))


# -- add and remove ---------------------------------------------------------------------------------------------------
def add(registrar: Registrar, command: Sequence[str]) -> Outcome:
    """Let an agent start ``command`` as its server; what stands there under our name gives way."""
    return _outcome(registrar, lambda: _add(registrar, command))


def remove(registrar: Registrar) -> Outcome:
    """Take that back."""
    return _outcome(registrar, lambda: _remove(registrar))


def _outcome(registrar: Registrar, work: Callable[[], Outcome]) -> Outcome:
    if _command(registrar) is None:
        return Outcome(agent=registrar.agent, done="not installed")
    try:
        return work()
    except (LoopsyError, OSError) as error:
        return Outcome(agent=registrar.agent, done="failed", text=str(error))


def _add(registrar: Registrar, command: Sequence[str]) -> Outcome:
    before = _registered(registrar)
    if before is not None and before.starts(command) and before.enabled:
        return Outcome(agent=registrar.agent, done="unchanged")
    if before is not None and not registrar.replaces:
        _tell(registrar, registrar.remove)
    _tell(registrar, (*registrar.add, *command))
    if before is None:
        return Outcome(agent=registrar.agent, done="added")
    return Outcome(agent=registrar.agent, done="replaced", text=before.text)


def _remove(registrar: Registrar) -> Outcome:
    before = _registered(registrar)
    if before is None:
        return Outcome(agent=registrar.agent, done="absent")
    _tell(registrar, registrar.remove)
    return Outcome(agent=registrar.agent, done="removed", text=before.text)


def _registered(registrar: Registrar) -> Registered | None:
    return registrar.read(_call(registrar, registrar.show))


def _tell(registrar: Registrar, words: Sequence[str]) -> None:
    called = _call(registrar, words)
    if called.status:
        lines = called.text.strip().splitlines() or ["nothing"]
        raise CallFailed(f"{registrar.agent} {' '.join(words[:2])} failed (status {called.status}): {lines[-1][:200]}")


def _call(registrar: Registrar, words: Sequence[str]) -> Called:
    executable = _command(registrar)
    if executable is None:
        raise CallFailed(f"{registrar.agent} is not installed")
    seen = finding.with_neighbours(environment.cleaned(os.environ, registrar.agent), executable)
    return call([executable, *words], {**seen, "NO_COLOR": "1", **registrar.environment})


def _command(registrar: Registrar) -> str | None:
    return finding.find(registrar.agent, os.environ)


# -- status -----------------------------------------------------------------------------------------------------------
def standing(registrar: Registrar, command: Sequence[str], *, connect: bool = True) -> Standing:
    """How it stands; with ``connect`` the server is started as the agent would start it. ``command`` is what we would
    register now."""
    agent = registrar.agent
    if _command(registrar) is None:
        return Standing(agent=agent, state="not installed")
    try:
        found = _registered(registrar)
    except (LoopsyError, OSError) as error:
        return Standing(agent=agent, state="unknown", error=str(error))
    if found is None:
        return Standing(agent=agent, state="not registered")
    current = found.starts(command)
    stands = Standing(agent=agent, state="registered", command=found.text, current=current, says=found.says)
    if not found.enabled:
        return evolve(stands, connects=False, error="it is disabled there")
    return _connected(stands, command if current else found.words) if connect else stands


def _connected(stands: Standing, words: Sequence[str]) -> Standing:
    try:
        return evolve(stands, connects=True, tools=handshake.count_tools(words))
    except LoopsyError as error:
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        return evolve(stands, connects=False, error=text)
