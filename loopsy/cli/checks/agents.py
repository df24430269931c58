"""The AI agents of this machine, and whether they know of us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from loopsy.cli import render
from loopsy.cli.checks.finding import FAIL, PASS, WARN, Check, Patient
from loopsy.wire.tasks import CLAUDE, CODEX, GEMINI

if TYPE_CHECKING:
    from loopsy.agents.registration import Standing

AGENTS = (CLAUDE, CODEX, GEMINI)


def agents(patient: Patient) -> Iterator[Check]:
    """Which are here; each is asked for its version, which takes seconds."""
    from loopsy.agents import finding

    found = {agent: path for agent in AGENTS if (path := finding.find(agent, os.environ))}
    if not found:
        yield Check("agents", PASS, f"none is here ({', '.join(AGENTS)})")
        return
    with ThreadPoolExecutor(max_workers=len(found)) as pool:
        versions = pool.map(lambda path: finding.version(path, os.environ), found.values())
    for (agent, path), version in zip(found.items(), versions, strict=True):
        if version is None:
            yield Check(f"agent {agent}", WARN, f"{path} does not tell its version", f"see: {path} --version")
        else:
            yield Check(f"agent {agent}", PASS, f"{version}, at {path}")


def mcp(patient: Patient) -> Iterator[Check]:
    from loopsy.agents import registrars, registration

    command = registrars.server_command(str(patient.layout.root))
    found = registration.installed(registration.chosen())
    for standing in registration.each(lambda registrar: registration.standing(registrar, command), found):
        yield _agent(standing)


def _agent(standing: Standing) -> Check:
    name, renew = f"mcp {standing.agent}", "loopsy mcp add"
    if standing.state == "not registered":
        return Check(name, WARN, "it is here, but does not know of loopsy", f"tell it with: {renew}")
    if standing.state == "unknown":
        return Check(
            name, WARN, f"it does not say whether it knows of loopsy: {standing.error}", "try: loopsy mcp status"
        )
    if not standing.connects:
        return Check(name, FAIL, f"registered, but does not connect: {standing.error}", f"renew it with: {renew}")
    if not standing.current:
        return Check(name, WARN, f"it starts another one than this: {standing.command}", f"renew it with: {renew}")
    return Check(name, PASS, f"connects, {render.count(standing.tools or 0, 'tool')}")
