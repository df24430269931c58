"""How much of what an agent says is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loopsy.core.task_events import LONGEST, LONGEST_INPUT, Budget, Verdict, fitting, is_long, without_middle
from loopsy.wire.tasks import EVENT_TYPES


def test_chatter_ends_with_one_notice_and_what_tells_how_it_went_goes_on() -> None:
    budget = Budget(3)
    assert [budget.judge("text", 1) for _ in range(5)] == [
        *([Verdict.KEEP] * 3),
        *(Verdict.FIRST_LEFT_OUT, Verdict.LEAVE_OUT),
    ]
    assert [budget.judge("status", 1) for _ in range(4)] == [*([Verdict.KEEP] * 3), Verdict.TOO_MANY]


def test_bytes_count_too() -> None:
    budget = Budget(100, 10)
    assert budget.judge("text", 9) is Verdict.KEEP
    assert budget.judge("text", 2) is Verdict.FIRST_LEFT_OUT
    assert budget.judge("text", 1) is Verdict.LEAVE_OUT, "none after one that was left out"
    assert budget.judge("exit", 5) is Verdict.KEEP
    assert budget.judge("exit", 10) is Verdict.TOO_MANY


@given(st.lists(st.tuples(st.sampled_from(EVENT_TYPES), st.integers(0, 20)), max_size=60))
def test_what_is_kept_is_bounded(events: list[tuple[str, int]]) -> None:
    budget, kept, size = Budget(10, 100), 0, 0
    for kind, length in events:
        verdict = budget.judge(kind, length)
        if verdict is Verdict.TOO_MANY:
            assert kept + 1 > 20 or size + length > 200
            return
        if verdict is Verdict.KEEP:
            kept, size = kept + 1, size + length
    assert kept <= 20
    assert size <= 200


@given(st.text(max_size=200), st.integers(2, 50))
def test_without_its_middle_a_text_keeps_its_ends(text: str, limit: int) -> None:
    cut = without_middle(text, limit)
    assert cut == text if len(text) <= limit else cut.startswith(text[: limit // 2])
    assert cut.endswith(text[-(limit // 2) :]) or len(text) <= limit


def test_long_ones_are_cut_and_say_so() -> None:
    for kind, field in (("text", "text"), ("tool_result", "output"), ("error", "message"), ("system", "text")):
        data = fitting(kind, {field: "x" * (LONGEST + 1000), "other": 1})
        assert len(data[field]) < LONGEST + 100
        assert (data["truncated"], data["other"]) == (True, 1)
        assert fitting(kind, {field: "short"}) == {field: "short"}
    given_ = {"toolId": "t", "input": {"a": ["x" * (LONGEST_INPUT + 1)]}}
    assert fitting("tool_use", given_)["truncated"] is True
    whole = {"requestId": "r", "command": "x" * LONGEST_INPUT}
    assert fitting("permission_request", whole) == whole, "an approval is never cut"


@given(st.recursive(st.text(max_size=9) | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=9))
def test_length_is_that_of_all_that_is_inside(value: object) -> None:
    assert not is_long(value, 10_000)
    assert is_long([value, "x" * 100], 99)
