"""Errors: onto the wire and back to the same class."""

from __future__ import annotations

import pytest
from hypothesis import given

from loopsy import errors
from loopsy.errors import LoopsyError, from_wire
from tests.strategies import JSON, TEXT

LOCAL = {"ConfigError", "DataDirError", "DaemonNotRunning", "ConnectionBroken", "UsageError", "LoopsyError"}
KINDS = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, LoopsyError)]
ON_THE_WIRE = [kind for kind in KINDS if kind.__name__ not in LOCAL]


@pytest.mark.parametrize("kind", ON_THE_WIRE, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_from_the_wire_as_itself(kind: type[LoopsyError]) -> None:
    sent = kind("what happened", hint="what to do", details={"near": ["a"]})
    got = from_wire(kind.status, sent.body())
    assert (type(got), got.message, got.hint, got.details) == (kind, "what happened", "what to do", {"near": ["a"]})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_without_words_says_its_class_sentence_as_the_command_line_speaks(kind: type[LoopsyError]) -> None:
    message = kind().message
    assert message
    assert message[0].islower()
    assert not message.endswith(".")


def test_no_two_classes_share_code_and_status_on_the_wire() -> None:
    seen = {(kind.code, kind.status) for kind in ON_THE_WIRE}
    assert len(seen) == len(ON_THE_WIRE)


def test_an_unknown_status_of_a_known_code_is_still_that_kind_of_error() -> None:
    assert type(from_wire(418, {"error": {"code": 3001, "message": "no"}})) is errors.CommandDenied


def test_an_older_nodes_error_text_is_kept() -> None:
    assert from_wire(500, {"error": "it broke"}).message == "it broke"
    assert type(from_wire(404, {"error": "Not Found"})) is errors.UnknownRoute


@given(JSON, TEXT)
def test_any_body_becomes_some_error_with_a_message(body: object, text: str) -> None:
    for answer in (body, {"error": body}, {"error": {"code": body, "message": text, "details": body}}):
        error = from_wire(502, answer)
        assert isinstance(error, LoopsyError)
        assert error.message
        assert isinstance(error.body()["error"]["code"], int)


def test_a_hint_travels_in_the_details_and_empty_details_are_left_out() -> None:
    assert LoopsyError("x").body() == {"error": {"code": 9001, "message": "x"}}
    assert LoopsyError("x", hint="y").body()["error"]["details"] == {"hint": "y"}


def test_what_a_bad_peer_says_of_its_errors_is_small_and_of_known_kinds() -> None:
    """Errors are kept with each letter that waits, logged, and shown."""
    details = {"hint": "h" * 10**6, "allow": {"not": "a word"}, "near": ["x"] * 10**5, "left": 2}
    error = from_wire(405, {"error": {"code": 9003, "message": "m" * 10**6, "details": details}})
    assert (len(error.message), len(error.hint or ""), error.details) == (4096, 4096, {"left": 2})
    assert len(from_wire(500, {"error": "x" * 10**6}).message) == 4096
    assert len(from_wire(500, {"error": {"details": {str(at): at for at in range(1000)}}}).details) == 32
