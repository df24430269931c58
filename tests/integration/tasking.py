"""Asking a node for AI tasks, and reading their events."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from attrs import frozen

from loopsy.testing.nodes import Answer, Node
from tests.integration.conftest import PATIENCE_S, until

FINAL = ("completed", "failed", "cancelled")
Event = dict[str, Any]


@frozen
class Client:
    """A caller of a node's tasks: ``via`` a peer of it where ``base`` says so."""

    node: Node
    key: str = "own"
    base: str = ""

    def ask(self, method: str, path: str = "", body: Any = None, **more: Any) -> Answer:
        """One request below ``/ai-tasks``."""
        return self.node.ask(method, f"{self.base}/ai-tasks{path}", body, key=self.key, **more)

    def start(self, *steps: str, **more: Any) -> str:
        """Begin a task; its id."""
        answer = self.ask("POST", "", {"prompt": "\n".join(steps), **more})
        assert answer.status == 201, answer
        return str(answer.body["taskId"])

    def show(self, task_id: str) -> dict[str, Any]:
        """The task."""
        answer = self.ask("GET", f"/{task_id}")
        assert answer.status == 200, answer
        return dict(answer.body)

    def events(self, task_id: str) -> list[Event]:
        """All of them."""
        return list(self.ask("GET", f"/{task_id}/events").body["events"])

    def over(self, task_id: str) -> dict[str, Any]:
        """The task, once it is."""
        return dict(until(lambda: (task := self.show(task_id))["status"] in FINAL and task, f"the end of {task_id}"))

    def end_all(self) -> None:
        """Cancel what is not over, and wait for its end."""
        for task in self.ask("GET", "?status=active").body["tasks"]:
            self.ask("DELETE", f"/{task['taskId']}?only=cancel")
        until(lambda: self.node.ask("GET", "/status").body["aiTasks"]["active"] == 0, "the end of all tasks")

    def asked(self, task_id: str) -> dict[str, Any]:
        """The approval that it waits for, once it does."""
        return dict(until(lambda: self.show(task_id).get("pendingApproval"), f"an approval of {task_id}"))

    def approve(self, task_id: str, request_id: str, approved: bool = True, **more: Any) -> Answer:
        """Answer."""
        return self.ask("POST", f"/{task_id}/approve", {"requestId": request_id, "approved": approved, **more})

    def stream(self, task_id: str, query: str = "", headers: Mapping[str, str] | None = None) -> Stream:
        """Open its stream."""
        return Stream(self, f"/ai-tasks/{task_id}/stream{query}", headers or {})


class Stream:
    """An open stream of events."""

    def __init__(self, client: Client, path: str, headers: Mapping[str, str]) -> None:
        node, key = client.node, client.node.key if client.key == "own" else client.key
        self._connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=PATIENCE_S)
        self._connection.request(
            "GET", f"/api/v1{client.base}{path}", headers={"authorization": f"Bearer {key}", **headers}
        )
        self.response = self._connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.last_id: str | None = None

    def __iter__(self) -> Iterator[Event]:
        seen: str | None = None
        while line := self.response.readline():
            if line.startswith(b"id: "):
                seen = line[4:].strip().decode()
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                self.last_id = seen
                yield event

    def close(self) -> None:
        """Drop it."""
        self.response.close()
        self._connection.close()


def kinds(events: list[Event]) -> list[str]:
    """Their types."""
    return [event["type"] for event in events]


def texts(events: list[Event], kind: str = "text", name: str = "text") -> list[Any]:
    """What those of one type say."""
    return [event["data"].get(name) for event in events if event["type"] == kind]


def whole(events: list[Event]) -> bool:
    """Whether they are numbered without gaps, and in time."""
    in_time = all(a["timestamp"] <= b["timestamp"] for a, b in pairwise(events))
    return in_time and [event["seq"] for event in events] == list(range(1, len(events) + 1))
