"""Codex: ``codex app-server``, JSON-RPC on its pipes; commands, patches and MCP tools are asked as requests to us.

Seen with 0.169.0. A request that is never answered lets nothing run: it fails closed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from loopsy._version import VERSION
from loopsy.agents import diffs, options
from loopsy.agents.adapter import Asked, Began, Ended, Launch, Run, Step
from loopsy.agents.jsonrpc import RpcSession, inner_error, key
from loopsy.agents.session import Draft, texts, whole
from loopsy.wire.tasks import BYPASS, CODEX, ERROR

CLIENT = {"clientInfo": {"name": "loopsy", "title": "loopsy", "version": VERSION}}
TOOL_ITEMS = frozenset(
    {"commandExecution", "fileChange", "mcpToolCall", "webSearch", "dynamicToolCall", "collabAgentToolCall"}
)
SAID = re.compile(r"(warning|configWarning|guardianWarning|deprecationNotice)$")
QUIET = re.compile(
    r"(thread|account|app|skills|hook|remoteControl|project|fs|rawResponse\w*|fuzzyFileSearch|command|process)/"
    r"|turn/(started|completed|diff/updated|plan/updated|moderationMetadata)$"
    r"|item/.*([dD]elta|Added|Updated|progress|terminalInteraction|autoApprovalReview.*)$|mcpServer/|model"
)
DENIED = "the user denied this"


class CodexSession(RpcSession):
    """One run of Codex."""

    agent = CODEX
    noise = re.compile(r"could not find bubblewrap|codex_core::tools::router.*(rejected|patch rejected)")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        options.checked_codex(run.additional_args)
        options.unknown_to(
            CODEX,
            maxBudgetUsd=run.max_budget_usd,
            allowedTools=run.allowed_tools,
            disallowedTools=run.disallowed_tools,
        )
        self._thread: str | None = None
        self._turn: str | None = None
        self._items: dict[str, dict[str, Any]] = {}
        self._tokens = {"inputTokens": 0, "outputTokens": 0, "cachedInputTokens": 0}
        self._last_text = ""
        self._error: str | None = None
        self._turns = 0

    def launch(self) -> Launch:
        """The process to start. It reads what we say in order, so that all up to the thread is said at once."""
        draft = Draft()
        self._call(draft, "initialize", CLIENT, lambda draft, result: None)
        self._notify(draft, "initialized")
        session = self.run.resume_session_id
        resumed = {"threadId": session, "excludeTurns": True} if session else {}
        self._call(draft, "thread/resume" if resumed else "thread/start", {**resumed, **self._terms()}, self._began)
        return Launch(
            argv=(self.run.executable, *self.run.additional_args, "app-server"),
            environment=self._environment(),
            first=bytes(draft.write),
        )

    def _terms(self) -> dict[str, Any]:
        # A thread that may write makes Codex note the directory as trusted in the user's settings, and start what the
        # repository's own settings say. So the thread may only read; the turn says what goes.
        terms = {
            "cwd": self.run.cwd,
            "sandbox": "read-only",
            "approvalPolicy": self._policy,
            "approvalsReviewer": "user",  # else the user's settings may let a model approve
        }
        return {**terms, "model": self.run.model} if self.run.model else terms

    @property
    def _policy(self) -> str:
        return "never" if self.run.permission_mode == BYPASS else "untrusted"

    def interrupt(self) -> Step:
        """Ask it to stop: what waits is withdrawn, and the turn ends."""
        draft = Draft()
        if self._thread and self._turn:
            self._call(
                draft, "turn/interrupt", {"threadId": self._thread, "turnId": self._turn}, lambda draft, result: None
            )
        else:
            draft.close_stdin = True
        return draft.step()

    # -- answers to us ------------------------------------------------------------------------------------------------
    def _began(self, draft: Draft, result: dict[str, Any]) -> None:
        self._thread = str(result["thread"]["id"])
        draft.happenings.append(Began(session_id=self._thread, model=result.get("model")))
        params = {
            "threadId": self._thread,
            "input": [{"type": "text", "text": self.run.prompt}],
            "approvalPolicy": self._policy,
            "approvalsReviewer": "user",
            # What was approved runs as the user. In a sandbox it would fail in part without a word, or run twice.
            "sandboxPolicy": {"type": "dangerFullAccess"},
        }
        self._call(draft, "turn/start", params, self._turn_began)

    def _turn_began(self, draft: Draft, result: dict[str, Any]) -> None:
        self._turn = str(result["turn"]["id"])

    def _failed(self, draft: Draft, why: str) -> None:
        if self._turn is None:
            self._end(draft, self._unfinished(why))
        else:  # a message that came too late for the turn, or an interrupt
            self._once(draft, f"codex: {why}")

    # -- its notifications --------------------------------------------------------------------------------------------
    def _told(self, method: str, params: dict[str, Any], draft: Draft) -> None:
        match method:
            case "item/started":
                self._started(params["item"], draft)
            case "item/completed":
                self._completed(params["item"], draft)
            case "turn/completed" if params["threadId"] == self._thread:
                self._end(draft, self._result(params["turn"]))
            case "thread/tokenUsage/updated" if params["turnId"] == self._turn:
                self._count(params["tokenUsage"]["last"])
            case "serverRequest/resolved":
                self._withdraw(key(params["requestId"]), draft)
            case "error":
                self._went_wrong(params, draft)
            case _ if SAID.match(method):
                self._warned(params, draft)
            case _ if not QUIET.match(method):
                self._once(draft, f"codex: {method}")

    def _count(self, last: Mapping[str, Any]) -> None:
        """Add up this turn's; its ``total`` is of all the thread, from its first day."""
        self._turns += 1
        for name in self._tokens:
            self._tokens[name] += whole(last.get(name)) or 0

    def _warned(self, params: Mapping[str, Any], draft: Draft) -> None:
        said = "\n".join(str(part) for name in ("message", "summary", "details") if (part := params.get(name)))
        if said and not self.noise.search(said):
            self._once(draft, said)

    def _went_wrong(self, params: Mapping[str, Any], draft: Draft) -> None:
        said = inner_error(str(params["error"]["message"]))
        if params.get("willRetry"):
            self._once(draft, f"{said} (it tries again)")
        else:
            self._error = said
            draft.event(ERROR, message=said)

    def _started(self, item: dict[str, Any], draft: Draft) -> None:
        if item["type"] in TOOL_ITEMS and item["id"] not in self._items:
            self._items[item["id"]] = item
            draft.tool_use(item["id"], *_use(item))

    def _completed(self, item: dict[str, Any], draft: Draft) -> None:
        match item["type"]:
            case "agentMessage":
                self._last_text = item["text"]
                draft.text(item["text"])
            case "reasoning":
                draft.thinking("\n\n".join(item.get("summary") or item.get("content") or ()))
            case kind if kind in TOOL_ITEMS:
                self._started(item, draft)
                self._items.pop(item["id"], None)
                draft.tool_result(item["id"], *_outcome(item))

    # -- its requests -------------------------------------------------------------------------------------------------
    def _request(self, method: str, message_id: int | str, params: Any, draft: Draft) -> bool:
        match method:
            case "item/commandExecution/requestApproval":
                self._ask(draft, _command(key(message_id), params), self._decider(message_id))
            case "item/fileChange/requestApproval":
                item = self._items[params["itemId"]]
                self._ask(draft, _file_change(key(message_id), item, params), self._decider(message_id))
            case "mcpServer/elicitation/request" if params["_meta"]["codex_approval_kind"] == "mcp_tool_call":
                self._ask(draft, _mcp_tool(key(message_id), params), self._decider(message_id, elicited=True))
            case _:
                return False
        return True

    def _decider(self, message_id: int | str, *, elicited: bool = False) -> Callable[[Draft, bool, str | None], None]:
        return partial(self._decide, message_id, elicited)

    def _decide(self, message_id: int | str, elicited: bool, draft: Draft, approved: bool, message: str | None) -> None:
        decision = "accept" if approved else "decline"
        self._reply(
            draft,
            message_id,
            {"action": decision, "content": {} if approved else None} if elicited else {"decision": decision},
        )
        if message and not approved and self._turn:
            # A decision has no room for words. Said to the turn, they reach the agent before its next step.
            params = {
                "threadId": self._thread,
                "expectedTurnId": self._turn,
                "input": [{"type": "text", "text": f"{DENIED}: {message}"}],
            }
            self._call(draft, "turn/steer", params, lambda draft, result: None)

    # -- its end ------------------------------------------------------------------------------------------------------
    def _result(self, turn: Mapping[str, Any]) -> Ended:
        status = turn.get("status")
        message = (turn.get("error") or {}).get("message")
        said = inner_error(str(message)) if message else self._error
        return self._ending(
            error=None if status == "completed" else "interrupted" if status == "interrupted" else said or str(status),
            duration_ms=whole(turn.get("durationMs")),
        )

    def _unfinished(self, why: str) -> Ended:
        return self._ending(error=why)

    def _ending(self, *, error: str | None, duration_ms: int | None = None) -> Ended:
        return Ended(
            text=self._last_text,
            is_error=error is not None,
            error=error,
            input_tokens=self._tokens["inputTokens"] if self._turns else None,
            output_tokens=self._tokens["outputTokens"] if self._turns else None,
            cached_tokens=self._tokens["cachedInputTokens"] if self._turns else None,
            turns=self._turns or None,
            duration_ms=duration_ms,
        )


# -- its items --------------------------------------------------------------------------------------------------------
def _use(item: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A tool's name and input. Codex doesn't tell the names of its own tools: they get those that Claude uses, so that
    one rule fits both."""
    match item["type"]:
        case "commandExecution":
            return "Bash", {"command": script(item["command"]), "cwd": item.get("cwd")}
        case "fileChange":
            return "Edit", {"changes": item["changes"]}
        case "mcpToolCall":
            return f"mcp__{item['server']}__{item['tool']}", _mapping(item.get("arguments"))
        case "webSearch":
            return "WebSearch", {"query": item.get("query")}
        case "dynamicToolCall":
            return str(item["tool"]), _mapping(item.get("arguments"))
    return "Agent", {"tool": item.get("tool"), "prompt": item.get("prompt")}


def _outcome(item: Mapping[str, Any]) -> tuple[str, bool]:
    """A tool's output, and whether it failed."""
    failed = item.get("status") in ("failed", "declined") or item.get("success") is False
    match item["type"]:
        case "commandExecution":
            refused = "declined" if item.get("status") == "declined" else ""
            return item.get("aggregatedOutput") or refused, failed or item.get("exitCode") not in (0, None)
        case "fileChange":
            return "\n".join([str(item.get("status")), *(str(change["path"]) for change in item["changes"])]), failed
        case "mcpToolCall":
            error, result = item.get("error"), item.get("result")
            return (error["message"] if error else texts((result or {}).get("content"))), failed or bool(error)
    return texts(item.get("contentItems")), failed


def script(command: str) -> str:
    """The script of a command that Codex wraps as ``/bin/bash -lc '…'``; else the command as it is."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    match words:
        case [shell, "-lc" | "-c", inner] if shell.rpartition("/")[2] in ("bash", "zsh", "sh"):
            return inner
    return command


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"arguments": value}


# -- what it asks -----------------------------------------------------------------------------------------------------
def _command(request_id: str, params: Mapping[str, Any]) -> Asked:
    network, command = params.get("networkApprovalContext"), params.get("command")
    if network:
        return Asked(
            request_id=request_id,
            tool_name="Network",
            tool_input={"host": network["host"], "protocol": network.get("protocol"), "command": command},
            kind="network",
            description=params.get("reason"),
            command=command,
        )
    if not isinstance(command, str) or not command:
        raise ValueError("a command is missing")
    typed = params.get("kind") == "writeStdin"
    return Asked(
        request_id=request_id,
        tool_name="WriteStdin" if typed else "Bash",
        tool_input={"command": command, "cwd": params.get("cwd")},
        kind="command",
        description=params.get("reason"),
        command=command if typed else script(command),
    )


def _file_change(request_id: str, item: Mapping[str, Any], params: Mapping[str, Any]) -> Asked:
    changes = item["changes"]
    moved = (change["kind"].get("move_path") for change in changes)
    paths = tuple(dict.fromkeys([*(str(change["path"]) for change in changes), *map(str, filter(None, moved))]))
    if not paths or params.get("grantRoot"):
        raise ValueError("nothing is changed, or more is asked than one change")
    return Asked(
        request_id=request_id,
        tool_name="Edit",
        tool_input={"changes": changes},
        kind="edit",
        description=params.get("reason"),
        path=paths[0] if len(paths) == 1 else None,
        paths=paths,
        diff=diffs.of_codex(changes),
    )


def _mcp_tool(request_id: str, params: Mapping[str, Any]) -> Asked:
    meta = params["_meta"]
    return Asked(
        request_id=request_id,
        tool_name=f"mcp__{params['serverName']}__{meta['tool_name']}",
        tool_input=_mapping(meta["tool_params"]),
        kind="tool",
        description=params.get("message"),
    )
