"""Real nodes for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from loopsy.testing.agents import RealAgent, Unavailable, real_agent
from loopsy.testing.model_api import ModelApi, Scenario
from loopsy.testing.nodes import Node, keyed_pair
from tests.integration.machine import Machine
from tests.waiting import PATIENCE_S as PATIENCE_S
from tests.waiting import wait_until

until = wait_until
MakeAgent = Callable[..., tuple[RealAgent, ModelApi]]


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> None:
    """Here the nodes' own fixtures see to it: what a node started is a child of the node."""


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Makes nodes, not started; those that run at the end are stopped."""
    made: list[Node] = []

    def make(name: str = "alfa", **sections: Any) -> Node:
        node = Node(tmp_path / name, name)
        node.write_config(**sections)
        made.append(node)
        return node

    yield make
    for node in made:
        node.stop()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One running node for a module."""
    node = Node(tmp_path_factory.mktemp("one") / "alfa", "alfa").start()
    yield node
    node.stop()
    assert "Traceback" not in node.log


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """Two running nodes, keyed to each other."""
    root = tmp_path_factory.mktemp("two")
    a, b = Node(root / "alfa", "alfa"), Node(root / "bravo", "bravo")
    keyed_pair(a, b)
    try:
        a.start()
        b.start()
        yield a, b
    finally:
        a.stop()
        b.stop()
    assert "Traceback" not in a.log + b.log


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """One with an empty HOME, not set up; its daemon, if the test started one, is stopped."""
    made = Machine.at(tmp_path / "home")
    yield made
    made.end()


@pytest.fixture
def make_agent() -> Iterator[MakeAgent]:
    """Makes a real agent CLI (claude, codex or gemini) and the model API that plays the scenarios for it; a test whose
    agent can't be had is skipped, and says why."""
    with ExitStack() as stack:

        def make(name: str, *scenarios: Scenario) -> tuple[RealAgent, ModelApi]:
            api = stack.enter_context(ModelApi(*scenarios))
            try:
                return stack.enter_context(real_agent(name, api.url)), api
            except Unavailable as why:
                pytest.skip(str(why))

        yield make
