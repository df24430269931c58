"""Slots for AI tasks, and the queue for them."""

from __future__ import annotations

import pytest

from loopsy.core import task_slots
from loopsy.core.principals import LOCAL
from loopsy.core.task_slots import Slots
from loopsy.errors import TooManyTasks


def test_slots_and_the_queue() -> None:
    slots = Slots()
    assert slots.admit("a", "kai", 2, False)
    assert slots.admit("b", "kai", 2, True)
    with pytest.raises(TooManyTasks):
        slots.admit("c", "kai", 2, False)
    assert not slots.admit("c", "kai", 2, True)
    assert not slots.admit("d", "kai", 2, True)
    assert [slots.position(name) for name in "acd"] == [None, 1, 2]
    assert slots.next(2) is None
    slots.gone("c")
    slots.gone("a")
    with pytest.raises(TooManyTasks):
        slots.admit("e", "kai", 2, False)  # nobody is overtaken
    assert slots.next(2) == "d"
    assert slots.next(2) is None
    assert slots.next(3) is None


def test_peers_that_use_all_slots_leave_this_machines_user_its_own() -> None:
    slots = Slots()
    assert slots.admit("a", "kai", 2, False)
    assert slots.admit("b", "leo", 2, False)
    assert not slots.admit("c", "kai", 2, True)
    assert slots.admit("mine 1", LOCAL.name, 2, False)
    assert slots.admit("mine 2", LOCAL.name, 2, False)
    with pytest.raises(TooManyTasks):
        slots.admit("mine 3", LOCAL.name, 2, False)
    assert not slots.admit("mine 3", LOCAL.name, 2, True)
    assert [slots.position(name) for name in ("mine 3", "c")] == [1, 2]
    slots.gone("a")
    slots.gone("b")
    assert slots.next(2) is None, "the user's own two run still"
    slots.gone("mine 1")
    assert slots.next(2) == "mine 3"
    assert slots.next(2) is None, "for a peer all count"
    slots.gone("mine 2")
    assert slots.next(2) == "c"


def test_the_queue_has_an_end() -> None:
    slots = Slots()
    slots.admit("first", "kai", 1, False)
    for number in range(task_slots.QUEUE):
        slots.admit(str(number), "kai", 1, True)
    with pytest.raises(TooManyTasks):
        slots.admit("one more", "leo", 1, True)
    assert not slots.admit("the user's", LOCAL.name, 0, True)
    assert slots.position("the user's") == 1
