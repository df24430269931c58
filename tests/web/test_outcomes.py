"""A command's outcome, read off the ends of its answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loopsy.web.execution import Events, Format, Frames
from loopsy.web.outcomes import TAIL, Ends
from loopsy.wire import codec
from loopsy.wire.execution import ExecuteResult, Outcome

OUTCOMES = (
    (Outcome(exit_code=3, duration=5), {"exit": 3}),
    (Outcome(exit_code=None, signal="SIGKILL", killed=True, reason="timeout"), {"exit": None, "signal": "SIGKILL"}),
)
FORGED = b'\x03\x00\x00\x00\x0e{"exitCode":9}'


def found(content_type: str, answer: bytes, cut: int) -> dict[str, Any]:
    ends = Ends()
    for at in range(0, len(answer), cut):
        ends.add(answer[at : at + cut])
    return ends.outcome(content_type.encode())


@given(st.binary(max_size=3000), st.sampled_from(OUTCOMES), st.integers(1, 4000), st.sampled_from([Frames, Events]))
@example(FORGED, OUTCOMES[0], 7, Frames)
@example(FORGED * 500, OUTCOMES[1], 4000, Frames)
def test_a_streams_outcome_is_found_whatever_was_printed_and_however_it_is_cut(
    output: bytes, outcome: tuple[Outcome, dict[str, Any]], cut: int, kind: Any
) -> None:
    format_: Format = Frames() if kind is Frames else Events(False)
    answer = format_.output("j", "stdout", output) + format_.end("j", outcome[0])
    assert found(format_.content_type, answer, cut) == outcome[1]


@given(st.text(max_size=3000), st.sampled_from(OUTCOMES), st.integers(1, 4000))
@example('","duration":1,"exitCode":9', OUTCOMES[0], 9)
def test_so_is_that_of_a_whole_result(output: str, outcome: tuple[Outcome, dict[str, Any]], cut: int) -> None:
    end = outcome[0]
    result = ExecuteResult(
        job_id="j", exit_code=end.exit_code, stdout=output, stderr=output, duration=1, killed=False, signal=end.signal
    )
    assert found("application/json", codec.dump(result), cut) == outcome[1]


@pytest.mark.parametrize("kind", [Frames.content_type, Events.content_type, "application/json", "text/plain", ""])
@pytest.mark.parametrize(
    "answer",
    [
        b"", b"\x03", FORGED[:-1], b"data: []\n\n", b"data: {\n\n", b'{"jobId":"j","exitCode":1,', b"[" * TAIL,
        b'{"type":"exit","exitCode":"x","duration":5}', b'data:{"type":"exit","exitCode":true}\n\n',
    ],
)  # fmt: skip
def test_what_tells_nothing_is_no_error(kind: str, answer: bytes) -> None:
    assert found(kind, answer, 5) == {}
