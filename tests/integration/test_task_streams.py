"""Events of AI tasks on their way to readers: many, slow, dropped again and again, through the gateway."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loopsy.testing import fake_agent
from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.tasking import FINAL, Client, Event, kinds, texts, whole

pytestmark = pytest.mark.integration
MANY = 50_000
GROWTH = 32 * 1024 * 1024
"""What a daemon may grow by while MANY events flow; as values in memory they would take some 50 MiB more."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Client]]:
    """Asked directly, and the same machine through the gateway of another."""
    root = tmp_path_factory.mktemp("streams")
    a, b = Node(root / "alfa", "alfa"), Node(root / "bravo", "bravo")
    keyed_pair(a, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{fake_agent.install(root / 'agents')}{os.pathsep}{os.environ['PATH']}")
        a.start()
        b.start()
    yield Client(b), Client(a, base="/peers/bravo")
    a.stop()
    b.stop()
    assert "Traceback" not in a.log + b.log


def memory(node: Node) -> int:
    assert node.process is not None
    return int(psutil.Process(node.process.pid).memory_info().rss)


class Watched:
    """The most memory that nodes had while a block ran."""

    def __init__(self, *nodes: Node) -> None:
        self._nodes = nodes
        self._over = threading.Event()
        self.before = [memory(node) for node in nodes]
        self.most = list(self.before)
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.most = [max(most, memory(node)) for most, node in zip(self.most, self._nodes, strict=True)]

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def growth(self) -> int:
        return max(most - before for most, before in zip(self.most, self.before, strict=True))


def test_50000_events_flow_through_the_gateway_in_flat_memory(two: tuple[Client, Client]) -> None:
    bravo, far = two
    far.over(far.start("flood 5000", "done"))  # what is loaded and allocated once is not counted
    with Watched(far.node, bravo.node) as watched:
        task_id = far.start(f"flood {MANY}", "done")
        said = 0
        last = 0
        for event in far.stream(task_id):
            assert event["seq"] == last + 1
            last = event["seq"]
            if event["type"] == "text":
                assert event["data"]["text"] == f"{said:06d}"
                said += 1
    assert said == MANY
    assert far.over(task_id)["lastSeq"] == last
    assert watched.growth < GROWTH
    page = far.ask("GET", f"/{task_id}/events?after={MANY}&limit=2").body
    assert [event["seq"] for event in page["events"]] == [MANY + 1, MANY + 2]
    assert page["count"] == last


def test_a_reader_that_does_not_read_costs_nothing_and_loses_nothing(two: tuple[Client, Client]) -> None:
    bravo, _ = two
    bravo.over(bravo.start("flood 5000", "done"))
    with Watched(bravo.node) as watched:
        task_id = bravo.start(f"flood {MANY}", "done")
        slow = bravo.stream(task_id)
        assert bravo.over(task_id)["status"] == "completed", "nobody waits for a slow reader"
    assert watched.growth < GROWTH
    assert whole(list(slow))


def test_a_reader_that_is_dropped_200_times_misses_and_repeats_nothing(two: tuple[Client, Client]) -> None:
    _, far = two
    chance = random.Random(5)
    steps = [step for _ in range(40) for step in ("flood 300", "sleep 0.05")]
    task_id = far.start(*steps, "done")
    seen: list[Event] = []
    last: str | None = None
    drops = 0
    while not seen or seen[-1]["type"] != "exit":
        how = chance.choice(["header", "query"])
        headers = {"last-event-id": last} if last and how == "header" else {}
        stream = far.stream(task_id, f"?after={last}" if last and how == "query" else "", headers)
        until_drop = chance.randint(1, 60) if drops < 200 else 10**9
        for event in stream:
            seen.append(event)
            last = stream.last_id
            until_drop -= 1
            if until_drop <= 0:
                break
        stream.close()
        drops += 1
    assert drops > 200
    assert whole(seen)
    assert seen == far.events(task_id)


def test_a_time_goes_on_behind_what_was_until_then(two: tuple[Client, Client]) -> None:
    bravo, _ = two
    task_id = bravo.start("say one", "ask true", "say two", "done")
    bravo.approve(task_id, bravo.asked(task_id)["requestId"])
    bravo.over(task_id)
    events = bravo.events(task_id)
    one = next(event for event in events if event["data"].get("text") == "one")
    rest = list(bravo.stream(task_id, f"?since={one['timestamp']}"))
    assert rest == [event for event in events if event["timestamp"] > one["timestamp"]]
    assert texts(rest) == ["two"]
    assert bravo.ask("GET", f"/{task_id}/stream?after=x").status == 400
    assert list(bravo.stream(task_id, "?after=99999")) == []


def test_an_event_is_with_its_reader_at_once(two: tuple[Client, Client], tmp_path: Path) -> None:
    """Its agent says nothing more until then; and on a busy machine it takes no longer than other things do."""
    _, far = two
    waits = "run until test -e {}/{}; do sleep 0.05; done"
    steps = [step for at in range(10) for step in (f"say {at}", waits.format(tmp_path, at))]
    lags, others = [], []
    for event in far.stream(far.start(*steps, "done")):
        if event["type"] == "text" and event["data"]["text"]:
            lags.append(time.time() * 1000 - event["timestamp"])
            began = time.monotonic()
            assert far.node.ask("PUT", "/peers/bravo/context/other", {"value": "x"}).status == 200
            others.append((time.monotonic() - began) * 1000)
            (tmp_path / event["data"]["text"]).touch()
    assert len(lags) == 10
    assert sorted(lags)[5] < max(200, 20 * sorted(others)[5])


def test_more_than_is_kept_is_left_out_and_said_so(two: tuple[Client, Client]) -> None:
    bravo, _ = two
    bravo.node.layout.config.write_text(bravo.node.layout.config.read_text() + "aiTasks:\n  maxEvents: 1000\n")
    assert bravo.node.ask("POST", "/reload").status == 200
    task_id = bravo.start("flood 3000", "ask true", "done", approvalTimeout=1000)
    assert bravo.over(task_id)["status"] in FINAL
    events = bravo.events(task_id)
    assert 990 < len(events) < 1020
    assert [text for text in texts(events, "system") if text and "left out" in text]
    assert kinds(events)[-1] == "exit"
    assert "permission_answer" in kinds(events)


def test_one_that_asks_on_and_reads_no_answer_is_ended(two: tuple[Client, Client]) -> None:
    """The answers wait for it in the daemon: this many would be 20 MB, and it would never end."""
    bravo, _ = two
    task = bravo.over(bravo.start("nonsense 160000", "done"))
    assert (task["status"], task["error"]) == ("failed", "it asked on without reading its answers")


def test_changes_are_told_to_readers_of_events(two: tuple[Client, Client]) -> None:
    bravo, _ = two
    import http.client
    import json

    connection = http.client.HTTPConnection("127.0.0.1", bravo.node.port, timeout=PATIENCE_S)
    key = {"authorization": f"Bearer {bravo.node.key}"}
    connection.request("GET", "/api/v1/events?types=task,approval", headers=key)
    response = connection.getresponse()
    task_id = bravo.start("ask echo one", "done")
    bravo.approve(task_id, bravo.asked(task_id)["requestId"])
    bravo.over(task_id)
    bravo.ask("DELETE", f"/{task_id}")
    seen = []
    while "task.removed" not in seen:
        line = response.readline()
        if line.startswith(b"data: "):
            seen.append(json.loads(line[6:])["type"])
    connection.close()
    assert {"task.changed", "approval.waiting", "approval.settled", "task.removed"} <= set(seen)
    until(lambda: bravo.node.ask("GET", "/status").body["aiTasks"]["active"] == 0)
