"""Claude Code: ``claude -p`` with lines of JSON both ways; what it wants to be asked comes on the same pipe.

Seen with 2.1.330. As its input stays open until the result, nobody's going makes it go on: it fails closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopsy.agents import diffs, options
from loopsy.agents.adapter import Asked, Began, Ended, Launch, Run, Step
from loopsy.agents.session import Draft, LineSession, cut, line_of, texts, whole
from loopsy.agents.trust import trusted
from loopsy.wire.tasks import BYPASS, CLAUDE, DONT_ASK, ERROR

KINDS = {
    "Bash": "command",
    "PowerShell": "command",
    "Monitor": "command",
    "Edit": "edit",
    "MultiEdit": "edit",
    "NotebookEdit": "edit",
    "Write": "edit",
    "Glob": "read",
    "Grep": "read",
    "LS": "read",
    "NotebookRead": "read",
    "Read": "read",
    "WebFetch": "network",
    "WebSearch": "network",
}
"""The rest are ``tool``."""
PATHS = ("file_path", "notebook_path", "path")
ENDINGS = {
    "error_max_budget_usd": "the budget is used up",
    "error_max_turns": "it took as many turns as it may",
    "error_max_structured_output_retries": "it could not give the answer its form",
}
SILENT = frozenset({"stream_event", "keep_alive", "control_response", "prompt_suggestion", "tool_use_summary"})
SILENT_SYSTEM = frozenset({"status", "hook_started", "hook_progress", "hook_response", "task_progress"})
NO_ANSWER = "the user denied this"


class ClaudeSession(LineSession):
    """One run of Claude Code."""

    agent = CLAUDE

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        options.checked(run.additional_args, options.CLAUDE_OPTIONS)
        options.plain("allowedTools", run.allowed_tools)
        options.plain("disallowedTools", run.disallowed_tools)
        self._interrupted = False
        self._began = False
        self._last_text = ""

    def launch(self) -> Launch:
        """The process to start."""
        # A file that a prompt mentions as @path would be read without asking, wherever it lies
        more = {"CLAUDE_CODE_DISABLE_ATTACHMENTS": "1"} if "@" in self.run.prompt else {}
        message = {"role": "user", "content": as_text(self.run.prompt)}
        return Launch(
            argv=(self.run.executable, *self._words()),
            environment=self._environment(**more),
            first=line_of({"type": "user", "message": message}),
        )

    def _words(self) -> list[str]:
        run = self.run
        mode = run.permission_mode if run.permission_mode in (BYPASS, DONT_ASK) else "default"
        words = ["-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
        words += ["--permission-prompt-tool", "stdio", "--permission-mode", mode]
        words += [] if self._takes_project() else ["--setting-sources", "user"]
        words += [f"--model={run.model}"] if run.model else []
        words += [f"--max-budget-usd={run.max_budget_usd}"] if run.max_budget_usd else []
        words += [f"--resume={run.resume_session_id}"] if run.resume_session_id else []
        words += ["--allowedTools", *run.allowed_tools] if run.allowed_tools else []
        words += ["--disallowedTools", *run.disallowed_tools] if run.disallowed_tools else []
        return [*words, *run.additional_args]

    def _takes_project(self) -> bool:
        """Whether the directory's own settings, hooks and servers count (and its CLAUDE.md, which goes with them)."""
        chosen = any(word.startswith("--setting-sources") for word in self.run.additional_args)
        return chosen or trusted(self.run.trusted_as or self.run.cwd, self.run.environment)

    def interrupt(self) -> Step:
        """Ask it to stop: what waits is withdrawn, and a result comes."""
        self._interrupted = True
        draft = Draft()
        draft.send({"type": "control_request", "request_id": "loopsy", "request": {"subtype": "interrupt"}})
        return draft.step()

    # -- its lines ----------------------------------------------------------------------------------------------------
    def _value(self, value: dict[str, Any], draft: Draft) -> None:
        kind = value["type"]
        match kind:
            case "assistant":
                self._assistant(value, draft)
            case "user":
                self._user(value["message"], draft)
            case "system":
                self._system(value, draft)
            case "result":
                self._end(draft, self._result(value))
            case "control_request":
                self._control(value, draft)
            case "control_cancel_request":
                self._withdraw(value["request_id"], draft)
            case _ if kind not in SILENT:
                self._once(draft, f"claude: {kind}")

    def _system(self, value: Mapping[str, Any], draft: Draft) -> None:
        match value.get("subtype"):
            case "init":
                if not self._began:  # it says so again after its context was compacted
                    self._began = True
                    draft.happenings.append(Began(session_id=value["session_id"], model=value.get("model")))
            case "permission_denied":
                draft.notice(f"{value.get('tool_name')}: denied by claude's own permissions")
            case subtype if subtype not in SILENT_SYSTEM:
                said = value.get("content") or value.get("message") or value.get("error")
                self._once(draft, f"claude: {subtype}" + (f": {cut(said, 2000)}" if isinstance(said, str) else ""))

    def _assistant(self, value: Mapping[str, Any], draft: Draft) -> None:
        content = value["message"]["content"]
        if value.get("is_api_error_message") or value.get("isApiErrorMessage") or "error" in value:
            draft.event(ERROR, message=texts(content))
            return
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            match block:
                case {"type": "text", "text": str(text)}:
                    self._last_text = text
                    draft.text(text)
                case {"type": "thinking", "thinking": str(text)}:
                    draft.thinking(text)
                case {"type": "tool_use", "id": str(tool_id), "name": str(name), "input": dict(given)}:
                    draft.tool_use(tool_id, name, given)

    def _user(self, message: Mapping[str, Any], draft: Draft) -> None:
        for block in message["content"] if isinstance(message["content"], list) else ():
            match block:
                case {"type": "tool_result", "tool_use_id": str(tool_id)}:
                    draft.tool_result(tool_id, texts(block.get("content")), bool(block.get("is_error")))

    # -- what it asks -------------------------------------------------------------------------------------------------
    def _control(self, value: Mapping[str, Any], draft: Draft) -> None:
        request_id, request = value["request_id"], value.get("request") or {}
        if not isinstance(request_id, str):
            raise TypeError(request_id)
        match request:
            case {"subtype": "can_use_tool", "tool_name": str(tool), "input": dict(given)}:
                said = request.get("description")
                self._ask(draft, _asked(request_id, tool, given, said), _tell(request_id, given))
            case {"subtype": "can_use_tool"}:
                _respond(draft, request_id, {"behavior": "deny", "message": "the request could not be understood"})
                draft.notice("claude asked for something that could not be understood; denied")
            case _:
                refused = {"subtype": "error", "request_id": request_id, "error": "this is not known here"}
                draft.send({"type": "control_response", "response": refused})

    # -- its end ------------------------------------------------------------------------------------------------------
    def _result(self, value: Mapping[str, Any]) -> Ended:
        text = value.get("result") if isinstance(value.get("result"), str) else self._last_text
        failed = bool(value.get("is_error")) or value.get("subtype") != "success" or self._interrupted
        return Ended(
            text=text or "",
            is_error=failed,
            error=self._why(value) if failed else None,
            turns=whole(value.get("num_turns")),
            duration_ms=whole(value.get("duration_ms")),
            **_spent(value),
        )

    def _why(self, value: Mapping[str, Any]) -> str:
        if self._interrupted:
            return "interrupted"
        said = [str(error) for error in value.get("errors") or ()]
        known = ENDINGS.get(str(value.get("subtype")))
        return known or "\n".join(said) or str(value.get("result") or value.get("subtype"))

    def _unfinished(self, why: str) -> Ended:
        return Ended(text=self._last_text, is_error=True, error=why)


def as_text(prompt: str) -> str:
    """A prompt that begins with a slash would be a command of the CLI's: it changes settings without asking. Behind a
    line feed it is what it says, as text."""
    return f"\n{prompt}" if prompt.startswith("/") else prompt


def _asked(request_id: str, tool: str, given: dict[str, Any], said: Any) -> Asked:
    kind = KINDS.get(tool, "tool")
    path = next((given[name] for name in PATHS if isinstance(given.get(name), str)), None)
    command = given.get("command")
    return Asked(
        request_id=request_id,
        tool_name=tool,
        tool_input=given,
        kind=kind,
        description=said if isinstance(said, str) and said not in (command or path or "") else None,
        command=command if kind == "command" and isinstance(command, str) else None,
        path=path if kind in ("edit", "read") else None,
        paths=(path,) if path and kind in ("edit", "read") else (),
        diff=diffs.of_claude(tool, given) if kind == "edit" else None,
    )


def _tell(request_id: str, given: Mapping[str, Any]) -> Any:
    def tell(draft: Draft, approved: bool, message: str | None) -> None:
        # The input that was shown, and no other, is what is allowed
        allow = {"behavior": "allow", "updatedInput": given}
        _respond(draft, request_id, allow if approved else {"behavior": "deny", "message": message or NO_ANSWER})

    return tell


def _respond(draft: Draft, request_id: str, response: Mapping[str, Any]) -> None:
    body = {"subtype": "success", "request_id": request_id, "response": response}
    draft.send({"type": "control_response", "response": body})


def _spent(value: Mapping[str, Any]) -> dict[str, Any]:
    """Cost and tokens of this run, all models together. The totals also hold what the session cost before it was
    resumed, and ``usage`` leaves out what the budget cut off."""
    models = value.get("model_usage_since_last_result") or value.get("modelUsage") or {}
    used = [usage for usage in models.values() if isinstance(usage, dict)]
    if not used:
        return {"cost_usd": _number(value.get("total_cost_usd"))}
    counts = {
        "input_tokens": "inputTokens",
        "output_tokens": "outputTokens",
        "cached_tokens": "cacheReadInputTokens",
    }
    tokens = {ours: sum(whole(usage.get(theirs)) or 0 for usage in used) for ours, theirs in counts.items()}
    return {**tokens, "cost_usd": sum(_number(usage.get("costUSD")) or 0.0 for usage in used)}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
