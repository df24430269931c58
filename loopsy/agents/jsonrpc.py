"""JSON-RPC on a CLI's pipes: our requests and their answers, its notifications and its requests."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from loopsy.agents.adapter import Run
from loopsy.agents.lines import parsed
from loopsy.agents.session import UNEXPECTED, Draft, LineSession

METHOD_NOT_FOUND = -32601

Answered = Callable[[Draft, dict[str, Any]], None]


class RpcSession(LineSession):
    """One run of a CLI that speaks JSON-RPC, a message a line."""

    head: ClassVar[Mapping[str, Any]] = {}
    """What stands in each message."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._next = 0
        self._expected: dict[int, Answered] = {}

    # -- what we say --------------------------------------------------------------------------------------------------
    def _call(self, draft: Draft, method: str, params: Mapping[str, Any], then: Answered) -> None:
        """Ask for something; ``then`` gets the result. An error instead of it goes to ``_failed``."""
        self._next += 1
        self._expected[self._next] = then
        draft.send({**self.head, "id": self._next, "method": method, "params": params})

    def _notify(self, draft: Draft, method: str, params: Mapping[str, Any] | None = None) -> None:
        draft.send({**self.head, "method": method, **({} if params is None else {"params": params})})

    def _reply(self, draft: Draft, message_id: Any, result: Mapping[str, Any]) -> None:
        draft.send({**self.head, "id": message_id, "result": result})

    def _refuse(self, draft: Draft, message_id: Any, why: str) -> None:
        draft.send({**self.head, "id": message_id, "error": {"code": METHOD_NOT_FOUND, "message": why}})

    # -- what it says -------------------------------------------------------------------------------------------------
    def _value(self, value: dict[str, Any], draft: Draft) -> None:
        match value:
            case {"method": str(method), "id": int() | str() as message_id}:
                self._asked_us(method, message_id, value.get("params"), draft)
            case {"method": str(method)}:
                params = value.get("params")
                self._told(method, params if isinstance(params, dict) else {}, draft)
            case {"id": int(number), "result": dict(result)} if number in self._expected:
                self._expected.pop(number)(draft, result)
            case {"id": int(number), "error": error} if number in self._expected:
                del self._expected[number]
                self._failed(draft, error_text(error))
            case _ if "id" not in value:
                raise ValueError("neither a request nor an answer")

    def _asked_us(self, method: str, message_id: int | str, params: Any, draft: Draft) -> None:
        """Answer its request."""
        try:
            known = self._request(method, message_id, params, draft)
        except UNEXPECTED as error:
            why = error if type(error) is ValueError else "it could not be understood"
            draft.notice(f"{self.agent} asked for something that was denied at once: {why} ({method})")
            self._deny(draft, method, message_id)
            return
        if not known:
            self._refuse(draft, message_id, f"{method} is not known here")

    def _deny(self, draft: Draft, method: str, message_id: int | str) -> None:
        """Say no to what can't be judged. An error is one, to each of them."""
        self._refuse(draft, message_id, "this could not be judged")

    @abstractmethod
    def _request(self, method: str, message_id: int | str, params: Any, draft: Draft) -> bool:
        """Its request; False: we don't know such a thing."""

    @abstractmethod
    def _told(self, method: str, params: dict[str, Any], draft: Draft) -> None:
        """Its notification."""

    @abstractmethod
    def _failed(self, draft: Draft, why: str) -> None:
        """What we asked for was answered with an error."""


def key(message_id: int | str) -> str:
    """A request's id as text; 1 and "1" differ."""
    return json.dumps(message_id)


def error_text(error: Any) -> str:
    """What an error says."""
    match error:
        case {"message": str(message), "data": {"details": str(details)}}:
            return f"{message}: {details}"
        case {"message": str(message)}:
            return inner_error(message)
    return json.dumps(error)[:2000]


def inner_error(message: str) -> str:
    """What a model API said, where a CLI gives its answer as it came."""
    value = parsed(message.encode("utf-8", "replace"))
    match value:
        case {"error": {"message": str(inner)}}:
            return inner
    return message
