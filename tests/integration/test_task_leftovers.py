"""What an agent has started in sessions of its own: ended with a task that is, left and named when it is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loopsy.services.leftovers import lives, of
from loopsy.testing import fake_agent
from loopsy.testing.nodes import Node
from tests.integration.conftest import until
from tests.integration.tasking import Client, texts

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("leftovers")
    node = Node(root / "leo", "leo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{fake_agent.install(root / 'agents')}{os.pathsep}{os.environ['PATH']}")
        yield Client(node.start())
    node.stop()
    assert "Traceback" not in node.log


def started(path: Path) -> psutil.Process:
    """The process that wrote its number there."""
    return psutil.Process(int(until(lambda: path.exists() and path.read_text().strip(), f"{path.name}")))


def ends(process: psutil.Process) -> None:
    """What was killed takes a moment to go."""
    until(lambda: not lives(process), f"the end of {process}")


KINDS = {
    "a descendant that has cleared its environment": "exec env -i sh -c 'echo $$ > {pid}; exec sleep 300'",
    "a detached one": "setsid sh -c 'echo $$ > {pid}; exec sleep 300' & sleep 300",
}


@pytest.mark.parametrize("command", KINDS.values(), ids=KINDS.keys())
def test_they_end_with_a_cancelled_task(one: Client, tmp_path: Path, command: str) -> None:
    task_id = one.start("run " + command.format(pid=tmp_path / "pid"))
    process = started(tmp_path / "pid")
    one.ask("DELETE", f"/{task_id}")
    assert one.over(task_id)["status"] == "cancelled"
    ends(process)
    until(lambda: list(of(task_id)) == [], "the end of all of it")


def test_one_that_lets_term_pass_is_killed(one: Client, tmp_path: Path) -> None:
    trap = f"exec 2>/dev/null; trap 'sleep 0.2; touch {tmp_path}/asked' TERM"  # its reader goes first
    task_id = one.start(f"run {trap}; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done")
    process = started(tmp_path / "pid")
    one.ask("DELETE", f"/{task_id}")
    assert one.over(task_id)["status"] == "cancelled"
    assert (tmp_path / "asked").exists(), "it was asked before it was killed"
    ends(process)


def test_they_end_when_the_agent_crashes_and_when_its_time_is_over(one: Client, tmp_path: Path) -> None:
    for name, last, more in (("crash", "crash 3", {}), ("time", "sleep 300", {"timeout": 10_000})):
        pid = tmp_path / name
        begun = f"run until test -s {pid}; do sleep 0.1; done"
        task_id = one.start(f"leave echo $$ > {pid}; exec sleep 300", begun, last, **more)
        process = started(pid)
        assert one.over(task_id)["status"] == "failed"
        ends(process)


def test_what_a_finished_agent_leaves_goes_on_and_is_named(one: Client, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    named = f"run until grep -q sleep /proc/$(cat {pid})/comm; do sleep 0.1; done 2> /dev/null"
    task_id = one.start(f"leave echo $$ > {pid}; exec sleep 300", named, "done")
    assert one.over(task_id)["status"] == "completed"
    process = started(pid)
    assert lives(process)
    notices = [text for text in texts(one.events(task_id), "system") if text]
    assert any(f"{process.pid} sleep" in text for text in notices), notices
    process.kill()


def test_one_that_stays_after_its_result_goes_with_its_servers(one: Client) -> None:
    """Long before its server, which stays for 300 s, and without being killed."""
    task_id = one.start("stay", "ask true", "done well")
    request_id = one.asked(task_id)["requestId"]
    (server,) = psutil.Process(one.show(task_id)["pid"]).children(recursive=True)
    one.approve(task_id, request_id)
    task = one.over(task_id)
    assert (task["status"], task["result"]["text"]) == ("completed", "well")
    ends(server)
    assert one.events(task_id)[-1]["data"].get("signal") != "SIGKILL"
