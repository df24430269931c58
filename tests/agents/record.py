"""``python -m tests.agents.record``: records the real CLIs against the scripted model API, into ``recorded/``.

To be run when a CLI's pinned version changes; then read what ``git diff`` says about its protocol. Paths and long lists
are scrubbed, so that a recording is short and holds nothing of the machine where it was made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loopsy.testing.agents import AGENTS, RealAgent, real_agent
from loopsy.testing.agents.driving import Driven, run_of
from loopsy.testing.model_api import ModelApi, OwnTool, Turn, say, scenario, shell

FOLDER = Path(__file__).parent / "recorded"
HOME = "/home/leo"
LIST_MAX = 5
OF_THE_MACHINE = frozenset({"serverName", "installationId", "messaging_socket_path", "userAgent", "memory_paths"})
PATCH = "*** Begin Patch\n*** Add File: p.txt\n+one\n*** Update File: e.txt\n@@\n-two\n+three\n*** End Patch\n"


def edit(agent: RealAgent) -> list[Turn]:
    """Turns that change e.txt, by the agent's own tool."""
    path = str(agent.work / "e.txt")
    match agent.name:
        case "claude":
            change = {"file_path": path, "old_string": "two", "new_string": "three"}
            return [_tool("Read", file_path=path), _tool("Edit", **change)]
        case "codex":
            return [shell(f"apply_patch <<'EOF'\n{PATCH}EOF")]
    return [_tool("replace", file_path=path, old_string="two", new_string="three", instruction="change it")]


def _tool(name: str, **given: Any) -> Turn:
    return Turn(tool=OwnTool(name=name, input=given))


def tools(driven: Driven) -> None:
    """A command and an edit approved, a second command denied with a message."""
    for number, (approved, message) in enumerate(((True, None), (True, None), (False, "use make")), start=1):
        driven.answer(driven.until_asked(number), approved, message)


def interrupted(driven: Driven) -> None:
    """Stopped while it asks."""
    driven.until_asked()
    driven.interrupt()


def alone(_: Driven) -> None:
    """Nothing is asked."""


def cases(agent: RealAgent) -> dict[str, tuple[list[Turn], Callable[[Driven], None]]]:
    """What is recorded of each."""
    used = [shell("echo hi > a.txt; echo hi"), *edit(agent), shell("touch no"), say("Done.")]
    return {
        "tools": (used, tools),
        "interrupted": ([shell("touch no"), say("Done.")], interrupted),
        "refused": ([say("no", status=400)], alone),
    }


def main() -> None:
    """Record all, or those that are named."""
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or AGENTS:
        for case in ("tools", "interrupted", "refused"):
            _record(name, case)


def _record(name: str, case: str) -> None:
    with ModelApi() as api, real_agent(name, api.url) as agent:
        (agent.work / "e.txt").write_text("one\ntwo\n")
        turns, act = cases(agent)[case]
        api.scenarios = (scenario(*turns),)
        with Driven(name, run_of(agent, "please")) as driven:
            act(driven)
            driven.to_the_end()
        assert api.faults == [], api.faults
        lines = list(_lines(driven, str(agent.home)))
    head = {"exit": driven.exit_code}
    (FOLDER / f"{name}-{case}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [head, *lines]))
    print(f"{name} {case}: {len(lines)} lines, exit {driven.exit_code}", flush=True)


def _lines(driven: Driven, home: str) -> Iterator[list[str]]:
    """What came and went, line by line."""
    open_ends = {"out": b"", "err": b"", "in": b""}
    for name, data in driven.recorded:
        *whole, open_ends[name] = (open_ends[name] + data).split(b"\n")
        yield from ([name, _scrubbed(line.decode(), home)] for line in whole)


def _scrubbed(line: str, home: str) -> str:
    line = line.replace(home.replace("/", "-").replace(".", "-"), HOME.replace("/", "-")).replace(home, HOME)
    line = line.replace(f"{Path.home()}/", "/home/")
    try:
        return json.dumps(_short(json.loads(line)), separators=(",", ":"))
    except ValueError:
        return line[:200]


def _short(value: Any) -> Any:
    match value:
        case list():
            return [_short(inner) for inner in value[: 1 if len(value) > LIST_MAX else LIST_MAX]]
        case dict():
            return {name: _short(inner) for name, inner in value.items() if name not in OF_THE_MACHINE}
    return value


if __name__ == "__main__":
    main()
