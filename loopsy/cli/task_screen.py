"""A task's events as a person reads them: text whole, tool calls in a line each, their results cut, and what the agent
wants to do whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from loopsy.cli import render
from loopsy.client.tasks import FINAL

Event = Mapping[str, Any]
MAIN = ("command", "file_path", "path", "notebook_path", "pattern", "url", "query", "prompt", "description")
"""Of a tool's arguments, the one that says most."""
RESULT_LINES, RESULT_WIDTH = 8, 200
"""Of a tool's output: the rest is in the task (``--json``)."""
THOUGHT_LINES = 3
RED, GREEN, CYAN, DIM, BOLD = "31", "32", "36", "2", "1"
TOLD = (
    *("thinking", "tool_use", "tool_result", "permission_request", "permission_answer"),
    *("system", "status", "error", "result"),
)
HOW = {
    "rule": "by a rule",
    "task": "as before in this task",
    "timeout": "nobody answered in time",
    "withdrawn": "the agent no longer asks",
    "cancelled": "the task was cancelled",
    "disconnect": "the agent is gone, or the daemon stopped",
    "limit": "it is more than a person can judge",
}


class Screen:
    """One task's events → text. It remembers what it must to join pieces and to sum up at the end."""

    def __init__(self, agent: str, colour: bool = False, width: int = 100) -> None:
        self._in_pieces = agent == "gemini"  # it tells what the model says as the model says it; the others, blocks
        self._colour = colour
        self._width = max(width, 40)
        self._open = False
        """A text waits for its next piece."""
        self._said = ""
        self._spent: list[str] = []
        self.status = ""
        self._reason = ""
        self._diff: Mapping[str, Any] = {}

    @property
    def has_patch(self) -> bool:
        """Whether what changed can be had."""
        return bool(self._diff.get("patch"))

    def paint(self, text: str, *codes: str) -> str:
        """With colours, where there are any."""
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self._colour and text else text

    def feed(self, event: Event) -> str:
        """What an event adds."""
        data, kind = event.get("data") or {}, event["type"]
        if kind == "text":
            return self._text(str(data.get("text", "")))
        tell = getattr(self, f"_{kind}", None) if kind in TOLD else None
        told: str = tell(data) if tell is not None else ""
        return self._break() + told

    def _break(self) -> str:
        was, self._open = self._open, False
        return "\n" if was else ""

    def _text(self, text: str) -> str:
        if self._in_pieces:
            self._said = self._said + text if self._open else text
            self._open = True
            return render.clean_text(text)
        self._said = text
        return f"{render.clean_text(text)}\n"

    # -- one event each ---------------------------------------------------------------------------------------------
    def _thinking(self, data: Event) -> str:
        return self._cut(str(data.get("text", "")), THOUGHT_LINES, DIM)

    def _tool_use(self, data: Event) -> str:
        name, argument = render.clean(data.get("toolName", "?")), main_argument(data.get("input"))
        line = one_line(argument, self._width - len(name) - 4)
        return f"{self.paint('*', CYAN)} {self.paint(name, BOLD)}  {line}".rstrip() + "\n"

    def _tool_result(self, data: Event) -> str:
        return self._cut(str(data.get("output", "")), RESULT_LINES, RED if data.get("isError") else DIM)

    def _cut(self, text: str, most: int, colour: str) -> str:
        lines = text.rstrip("\n").split("\n") if text.strip() else []
        shown = [one_line(line, RESULT_WIDTH, join=False) for line in lines[:most]]
        if len(lines) > most:
            shown.append(f"… {render.count(len(lines) - most, 'more line')}")
        return "".join(f"  {self.paint('| ' + line, colour)}\n" for line in shown)

    def _permission_request(self, data: Event) -> str:
        return "\n" + self.approval(data)

    def _permission_answer(self, data: Event) -> str:
        approved, by, how = bool(data.get("approved")), str(data.get("by", "?")), str(data.get("how", ""))
        word = self.paint("allowed", GREEN) if approved else self.paint("denied", RED)
        what = f"{render.clean(data['toolName'])}: " if data.get("toolName") else ""
        who = f" by {render.clean(by)}" if how == "answer" else f" ({HOW.get(how, render.clean(how))})"
        rule = f": {render.clean(data['rule'])}" if data.get("rule") else ""
        message = f"\n  {render.clean(data['message'])}" if how == "answer" and data.get("message") else ""
        return f"  {what}{word}{who}{rule}{message}\n"

    def _system(self, data: Event) -> str:
        if data.get("subtype") == "init":
            model = f" ({render.clean(data['model'])})" if data.get("model") else ""
            where = f" in {render.clean(data['cwd'])}" if data.get("cwd") else ""
            return self.paint(f"the agent is up{model}{where}", DIM) + "\n"
        return self.paint(f"note: {render.clean_text(str(data.get('text', '')))}", DIM) + "\n"

    def _status(self, data: Event) -> str:
        self.status = str(data.get("status", ""))
        self._reason = str(data.get("reason") or "")
        self._diff = data.get("diff") or self._diff
        return self.paint("it waits for a free slot", DIM) + "\n" if self.status == "pending" else ""

    def _error(self, data: Event) -> str:
        return self.paint(f"error: {render.clean_text(str(data.get('message', '')))}", RED) + "\n"

    def _result(self, data: Event) -> str:
        """Mostly the same as the text before it."""
        self._spent = spent(data)
        text = str(data.get("text", ""))
        return "" if self._said.strip().endswith(text.strip()) else f"{render.clean_text(text)}\n"

    # -- what it wants to do ----------------------------------------------------------------------------------------
    def approval(self, asked: Event) -> str:
        """Whole: whoever answers must have seen all of it. Each line stands behind a mark, so that no text of an agent
        looks like a question of ours."""
        tool, kind = render.clean(asked.get("toolName", "?")), asked.get("kind")
        verbs = {"command": "run a command", "edit": "change a file", "read": "read", "network": "use the network"}
        head = f"{self.paint(tool, BOLD)} wants to {verbs.get(str(kind), 'be used')}, in {render.clean(asked['cwd'])}:"
        lines = [self.paint("?", CYAN) + " " + head]
        if asked.get("description"):
            lines += self._marked(str(asked["description"]), DIM)
        lines += [line for text in self._whole(asked) for line in text]
        return "\n".join(lines) + "\n"

    def _whole(self, asked: Event) -> Iterable[list[str]]:
        command, path, diff = asked.get("command"), asked.get("path"), asked.get("diff")
        if command is not None:
            yield self._marked(str(command), BOLD)
        if diff is not None:
            yield [self._diff_line(line) for line in str(diff).rstrip("\n").split("\n")]
        elif path is not None:
            yield self._marked(str(path), BOLD)
        told = {command, path, asked.get("description")} - {None}
        given = dict(asked.get("toolInput") or {})
        rest = given if diff is None else {}  # what the diff was made of needn't be told again
        for name, value in rest.items():
            if not (isinstance(value, str) and value in told):
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
                yield self._marked(f"{name}: {text}")

    def _marked(self, text: str, *codes: str) -> list[str]:
        return [f"  | {self.paint(line, *codes)}" for line in render.clean_text(text).split("\n")]

    def _diff_line(self, line: str) -> str:
        return f"  | {paint_diff(line, self.paint)}"

    # -- the end ----------------------------------------------------------------------------------------------------
    def end(self) -> str:
        """What became of it; nothing, if that isn't known yet."""
        if self.status not in FINAL:
            return self._break()
        colour = GREEN if self.status == "completed" else RED
        facts = [fact for fact in (self._reason, *self._spent, changed(self._diff)) if fact]
        line = self.paint(self.status, colour) + (": " if facts else "") + render.clean(", ".join(facts))
        return f"{self._break()}{line}\n"


def paint_diff(line: str, paint: Any) -> str:
    """A line of a diff."""
    colour = {"+": GREEN, "-": RED, "@": CYAN}.get(line[:1])
    if line.startswith(("+++ ", "--- ")):
        colour = BOLD
    text = render.clean_text(line)
    return str(paint(text, colour)) if colour else text


def main_argument(given: Any) -> str:
    """What of a tool's input tells the call apart."""
    if not isinstance(given, Mapping):
        return "" if given is None else str(given)
    for name in MAIN:
        if isinstance(given.get(name), str) and given[name]:
            return str(given[name])
    return json.dumps(given, ensure_ascii=False) if given else ""


def one_line(text: str, room: int, join: bool = True) -> str:
    """Its beginning, in one line that a terminal may get."""
    room = max(room, 10)
    line = " ".join(text[: 4 * room].split()) if join else text[: 4 * room]
    short = line if len(line) <= room and len(text) <= 4 * room else line[: room - 1] + "…"
    return render.clean_text(short)


def spent(result: Event) -> list[str]:
    """What it took."""
    facts = [render.span(result["durationMs"] / 1000)] if result.get("durationMs") else []
    if result.get("turns"):
        facts.append(render.count(result["turns"], "turn"))
    if result.get("inputTokens") or result.get("outputTokens"):
        facts.append(f"{result.get('inputTokens') or 0:,} tokens in, {result.get('outputTokens') or 0:,} out")
    if result.get("costUsd") is not None:
        facts.append(f"${result['costUsd']:.2f}" if result["costUsd"] >= 0.01 else f"${result['costUsd']:.4f}")
    return facts


def changed(diff: Event) -> str:
    """What it changed."""
    if not diff:
        return ""
    return f"{render.count(diff['files'], 'file')} changed (+{diff['insertions']} -{diff['deletions']})"
