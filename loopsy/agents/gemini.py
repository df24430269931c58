"""Gemini CLI: ``gemini --acp``, the Agent Client Protocol (JSON-RPC) on its pipes; it asks as requests to us.

Seen with 0.61.0. Its other way to run without a terminal, ``gemini -p``, can't ask: there it doesn't even offer its
model the tools that would. A request that is never answered lets nothing run: it fails closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from loopsy.agents import diffs, options
from loopsy.agents.adapter import Asked, Began, Ended, Launch, Run, Step
from loopsy.agents.jsonrpc import RpcSession, key
from loopsy.agents.session import Draft, texts, whole
from loopsy.wire.tasks import BYPASS, GEMINI

INITIALIZE = {"protocolVersion": 1, "clientCapabilities": {"fs": {"readTextFile": False, "writeTextFile": False}}}
KINDS = {
    "execute": "command",
    "edit": "edit",
    "delete": "edit",
    "move": "edit",
    "read": "read",
    "search": "read",
    "fetch": "network",
}
"""The rest are ``tool``."""
NAMES = {"command": "Bash", "edit": "Edit", "network": "WebFetch"}
"""What Claude calls tools of these kinds, so that one rule fits both. The others keep Gemini's own names."""
STOPPED = {
    "cancelled": "interrupted",
    "max_tokens": "its answer took more tokens than it may",
    "max_turn_requests": "it took as many turns as it may, or went round in a circle",
    "refusal": "the model refuses to go on",
}
SHELL = "run_shell_command"
CUT = re.compile(r'\.\.\."?$')
OMITTED = "[Payload omitted"
"""What stands for an MCP tool's arguments that are longer than 500 characters."""
REJECTED = {"outcome": {"outcome": "cancelled"}}


class GeminiSession(RpcSession):
    """One run of Gemini."""

    agent = GEMINI
    head = {"jsonrpc": "2.0"}
    noise = re.compile(
        r"^\s|^[{}]|\[STARTUP\]|Ripgrep is not available|256-color|YOLO mode is enabled|find promptId in context"
        r"|^Error handling request"
    )

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        options.checked(run.additional_args, options.GEMINI_OPTIONS)
        options.unknown_to(
            GEMINI,
            maxBudgetUsd=run.max_budget_usd,
            allowedTools=run.allowed_tools,
            disallowedTools=run.disallowed_tools,
        )
        self._session: str | None = None
        self._prompted = False
        self._interrupted = False
        self._used: set[str] = set()
        self._unsaid: list[str] = []
        """Words for the agent that a denial has no room for."""
        self._last_text: list[str] = []
        self._input = self._output = 0

    def launch(self) -> Launch:
        """The process to start."""
        draft = Draft()
        self._call(draft, "initialize", INITIALIZE, self._initialized)
        mode = "yolo" if self.run.permission_mode == BYPASS else "default"
        model = [f"--model={self.run.model}"] if self.run.model else []
        return Launch(
            argv=(self.run.executable, "--acp", f"--approval-mode={mode}", *model, *self.run.additional_args),
            # In a terminal of its own making, a command's output would not be told to us
            environment=self._environment(GEMINI_PTY_INFO="child_process"),
            first=bytes(draft.write),
        )

    def interrupt(self) -> Step:
        """Ask it to stop. It waits for what it asked, so that is answered first."""
        self._interrupted = True
        draft = Draft()
        for request_id in tuple(self._waiting):
            waiting = self._waiting[request_id]
            self._withdraw(request_id, draft)
            waiting.tell(draft, False, None)
        if self._session and self._prompted:
            self._notify(draft, "session/cancel", {"sessionId": self._session})
        else:
            draft.close_stdin = True
        return draft.step()

    # -- answers to us ------------------------------------------------------------------------------------------------
    def _initialized(self, draft: Draft, result: dict[str, Any]) -> None:
        where = {"cwd": self.run.cwd, "mcpServers": []}
        if self.run.resume_session_id:
            self._session = self.run.resume_session_id
            self._call(draft, "session/load", {"sessionId": self._session, **where}, self._loaded)
        else:
            self._call(draft, "session/new", where, self._began)

    def _loaded(self, draft: Draft, result: dict[str, Any]) -> None:
        # It tells the old conversation behind its answer; what comes before the answer to one more question is that
        mode = "yolo" if self.run.permission_mode == BYPASS else "default"
        again = partial(self._began_again, result)
        self._call(draft, "session/set_mode", {"sessionId": self._session, "modeId": mode}, again)

    def _began_again(self, loaded: dict[str, Any], draft: Draft, result: dict[str, Any]) -> None:
        self._began(draft, {**loaded, "sessionId": self._session})

    def _began(self, draft: Draft, result: dict[str, Any]) -> None:
        self._session = str(result["sessionId"])
        model = (result.get("models") or {}).get("currentModelId")
        draft.happenings.append(Began(session_id=self._session, model=model))
        self._prompt(draft, as_text(self.run.prompt))

    def _prompt(self, draft: Draft, text: str) -> None:
        self._prompted = True
        params = {"sessionId": self._session, "prompt": [{"type": "text", "text": text}]}
        self._call(draft, "session/prompt", params, self._answered)

    def _answered(self, draft: Draft, result: dict[str, Any]) -> None:
        count = ((result.get("_meta") or {}).get("quota") or {}).get("token_count") or {}
        self._input += whole(count.get("input_tokens")) or 0
        self._output += whole(count.get("output_tokens")) or 0
        stopped = str(result.get("stopReason"))
        if stopped == "end_turn" and self._unsaid and not self._interrupted:
            said, self._unsaid = "\n".join(self._unsaid), []
            self._last_text.clear()
            self._prompt(draft, f"The user denied what you asked for, and says:\n{said}")
            return
        self._end(draft, self._ending(None if stopped == "end_turn" else STOPPED.get(stopped, stopped)))

    def _failed(self, draft: Draft, why: str) -> None:
        self._end(draft, self._ending(why))

    # -- its notifications --------------------------------------------------------------------------------------------
    def _told(self, method: str, params: dict[str, Any], draft: Draft) -> None:
        if method != "session/update":
            self._once(draft, f"gemini: {method}")
        elif self._prompted:
            self._update(params["update"], draft)

    def _update(self, update: dict[str, Any], draft: Draft) -> None:
        match update["sessionUpdate"]:
            case "agent_message_chunk":
                said = texts(update["content"])
                self._last_text.append(said)
                draft.text(said)
            case "agent_thought_chunk":
                draft.thinking(texts(update["content"]))
            case "tool_call" | "tool_call_update":
                self._tool(update, draft)

    def _tool(self, update: dict[str, Any], draft: Draft) -> None:
        tool_id, status = str(update["toolCallId"]), update.get("status")
        self._use(tool_id, update, draft)
        if status in ("completed", "failed"):
            self._used.discard(tool_id)
            draft.tool_result(tool_id, _output(update), status == "failed")

    def _use(self, tool_id: str, call: Mapping[str, Any], draft: Draft) -> None:
        if tool_id not in self._used:
            self._used.add(tool_id)
            self._last_text.clear()
            draft.tool_use(tool_id, _name(tool_id, call), _input(call))

    # -- its requests -------------------------------------------------------------------------------------------------
    def _request(self, method: str, message_id: int | str, params: Any, draft: Draft) -> bool:
        if method != "session/request_permission":
            return False
        call = params["toolCall"]
        allow = _option(params["options"], "allow_once")
        asked = _asked(key(message_id), call)
        self._use(str(call["toolCallId"]), call, draft)
        self._ask(draft, asked, partial(self._decide, message_id, str(call["toolCallId"]), allow))
        return True

    def _deny(self, draft: Draft, method: str, message_id: int | str) -> None:
        if method == "session/request_permission":  # the model is told of an error as "[object Object]"
            self._reply(draft, message_id, REJECTED)
        else:
            super()._deny(draft, method, message_id)

    def _decide(
        self, message_id: int | str, tool_id: str, allow: str, draft: Draft, approved: bool, message: str | None
    ) -> None:
        if approved:
            self._reply(draft, message_id, {"outcome": {"outcome": "selected", "optionId": allow}})
            return
        self._reply(draft, message_id, REJECTED)
        self._used.discard(tool_id)
        draft.tool_result(tool_id, message or "denied", True)  # it doesn't tell so itself
        if message:
            self._unsaid.append(message)

    # -- its end ------------------------------------------------------------------------------------------------------
    def _unfinished(self, why: str) -> Ended:
        return self._ending(why)

    def _ending(self, error: str | None) -> Ended:
        return Ended(
            text="".join(self._last_text),
            is_error=error is not None,
            error=error,
            input_tokens=self._input or None,
            output_tokens=self._output or None,
        )


def as_text(prompt: str) -> str:
    """A prompt that begins with ``/`` or ``$`` would be a command of the CLI's, which can install extensions without
    asking. Behind a word it is text."""
    return f"Task: {prompt}" if prompt.lstrip().startswith(("/", "$")) else prompt


# -- its tools --------------------------------------------------------------------------------------------------------
def _kind(call: Mapping[str, Any]) -> str:
    kind = KINDS.get(str(call.get("kind")), "tool")
    # Of its shell alone we know that the title is the command
    return "tool" if kind == "command" and _own_name(str(call["toolCallId"])) != SHELL else kind


def _own_name(tool_id: str) -> str:
    """It tells no names, but an id begins with one: ``read_file__read_file_1795352181982_0``."""
    return tool_id.partition("__")[0]


def _name(tool_id: str, call: Mapping[str, Any]) -> str:
    return NAMES.get(_kind(call)) or _own_name(tool_id)


def _input(call: Mapping[str, Any]) -> dict[str, Any]:
    """It tells no input, but a title: of a command the command itself, of an MCP tool its arguments."""
    title = "command" if _kind(call) == "command" else "title"
    given = {title: call.get("title"), "path": next(_paths(call), None), "details": _details(call) or None}
    return {name: value for name, value in given.items() if value is not None}


def _paths(call: Mapping[str, Any]) -> Iterator[str]:
    for place in [*(call.get("locations") or ()), *_diffs(call)]:
        yield str(place["path"])


def _diffs(call: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for part in call.get("content") or () if part.get("type") == "diff"]


def _details(call: Mapping[str, Any]) -> str:
    return texts([part.get("content") for part in call.get("content") or () if part.get("type") == "content"])


def _diff(call: Mapping[str, Any]) -> str:
    return "".join(
        diffs.unified(str(part["path"]), part.get("oldText") or "", part.get("newText") or "") for part in _diffs(call)
    )


def _output(update: Mapping[str, Any]) -> str:
    return "\n".join(filter(None, (_details(update), _diff(update))))


def _option(given: Any, kind: str) -> str:
    found = [option["optionId"] for option in given if option["kind"] == kind]
    return str(found[0])


def _asked(request_id: str, call: Mapping[str, Any]) -> Asked:
    kind, title, diff = _kind(call), call["title"], _diff(call)
    paths = tuple(dict.fromkeys(_paths(call)))
    if not isinstance(title, str) or not title:
        raise ValueError("what it wants is missing")
    if kind == "edit" and not diff:
        raise ValueError("the change is missing")
    if (kind == "network" and CUT.search(title)) or _details(call).startswith(OMITTED):
        raise ValueError("gemini does not show it whole")
    return Asked(
        request_id=request_id,
        tool_name=_name(str(call["toolCallId"]), call),
        tool_input={**_input(call), "content": call.get("content") or []},
        kind=kind,
        description=_details(call) or (title if kind != "command" else None),
        command=title if kind == "command" else None,
        path=paths[0] if len(paths) == 1 and kind in ("edit", "read") else None,
        paths=paths if kind in ("edit", "read") else (),
        diff=diff or None,
    )
