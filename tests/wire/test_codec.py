"""The codec: what goes out comes back the same, and what is wrong is refused by the name of its field."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.errors import InvalidRequest
from loopsy.wire import codec
from loopsy.wire.context import Entry, EntryList, PutEntry
from loopsy.wire.execution import ExecuteRequest, ExecuteResult
from loopsy.wire.peers import AddPeer, NodeIdentity
from tests.strategies import JSON, WIRE_TYPES, values


@pytest.mark.parametrize("kind", WIRE_TYPES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_wire_type_survives_the_wire(kind: type, data: st.DataObject) -> None:
    sent = data.draw(values(kind))
    assert codec.parse_bytes(kind, codec.dump(sent)) == sent


@pytest.mark.parametrize("kind", WIRE_TYPES, ids=lambda kind: kind.__name__)
@given(value=JSON)
def test_any_json_is_a_value_or_an_invalid_request(kind: type, value: object) -> None:
    try:
        codec.parse_bytes(kind, json.dumps(value).encode())
    except InvalidRequest as error:
        error.message.encode()
        assert len(error.message) < 2000


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_invalid_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        codec.parse_bytes(NodeIdentity, body)


def test_names_are_camel_case_and_none_is_left_out_but_for_the_exit_code() -> None:
    entry = Entry(key="k", value="", from_node_id="n", created_at=1, updated_at=2)
    assert json.loads(codec.dump(entry)) == {"key": "k", "value": "", "fromNodeId": "n", "createdAt": 1, "updatedAt": 2}
    result = ExecuteResult(job_id="j", stdout="é", stderr="", duration=1, killed=True, signal="SIGKILL")
    assert json.loads(codec.dump(result))["exitCode"] is None
    assert "é".encode() in codec.dump(result)


def test_unknown_fields_are_ignored() -> None:
    assert codec.parse(PutEntry, {"value": "v", "colour": {"deep": [1]}}) == PutEntry(value="v")


REFUSED = [
    (ExecuteRequest, b"{}", "command is missing"),
    (ExecuteRequest, b'{"command":5}', "command must be a string"),
    (ExecuteRequest, b'{"command":null}', "command must be a string"),
    (ExecuteRequest, b'{"command":[[[[{}]]]]}', "command must be a string"),
    (ExecuteRequest, b'{"command":""}', "command must not be empty"),
    (ExecuteRequest, b'{"command":"a\\u0000b"}', "command must not hold a NUL character"),
    (ExecuteRequest, b'{"command":"\\ud800"}', "command holds half a character (a lone \\ud800–\\udfff)"),
    (ExecuteRequest, b'{"command":"a","args":"xy"}', "args must be a list"),
    (ExecuteRequest, b'{"command":"a","args":["x",5]}', "args[1] must be a string"),
    (ExecuteRequest, b'{"command":"a","args":["x","\\uDFFF"]}', "args[1] holds half a character"),
    (ExecuteRequest, b'{"command":"a","args":["\\u0000"]}', "args must not hold a NUL character"),
    (ExecuteRequest, b'{"command":"a","env":[]}', "env must be an object"),
    (ExecuteRequest, b'{"command":"a","env":{"A":1}}', "env.A must be a string"),
    (ExecuteRequest, b'{"command":"a","env":{"":"x"}}', "env must have names that are not empty and hold no '='"),
    (ExecuteRequest, b'{"command":"a","env":{"A=B":"x"}}', "env must have names that are not empty and hold no '='"),
    (ExecuteRequest, b'{"command":"a","env":{"\\ud800":"x"}}', "a name in env holds half a character"),
    (ExecuteRequest, b'{"command":"a","timeout":true}', "timeout must be a number"),
    (ExecuteRequest, b'{"command":"a","timeout":"1e999"}', "timeout must be a number"),
    (ExecuteRequest, b'{"command":"a","timeout":1e999}', "timeout must be a finite number"),
    (ExecuteRequest, b'{"command":"a","timeout":-1}', "timeout must be from 1 to 2592000000 ms"),
    (ExecuteRequest, b'{"command":"a","timeout":1' + b"0" * 400 + b"}", "timeout must be from 1 to 2592000000 ms"),
    (ExecuteRequest, b'{"command":"a","timeout":NaN}', "the body is not JSON: NaN is not a JSON number"),
    (ExecuteRequest, b'{"command":"a","timeout":' + b"9" * 5000 + b"}", "the body is not JSON: Exceeds the limit"),
    (ExecuteRequest, b'{"command":"a","detach":1}', "detach must be true or false"),
    (ExecuteRequest, b'{"command":"a","encoding":"latin-1"}', "encoding must be one of utf-8, base64"),
    (NodeIdentity, b'{"hostname":"x","port":true}', "nodeId is missing; port must be a whole number"),
    (NodeIdentity, b'{"nodeId":"x","hostname":"x","port":1.0}', "port must be a whole number"),
    (AddPeer, b'{"address":"x","port":65536}', "port must be from 1 to 65535"),
    (AddPeer, b'{"address":"x","nodeId":""}', "nodeId must not be empty"),
    (EntryList, b'{"entries":[{"key":"a","value":"b"},{"key":"a","value":5}]}', "entries[1].value must be a string"),
    (EntryList, b'{"entries":[{"key":"a","value":"b","createdAt":-1}]}', "entries[0].createdAt must be from 0"),
    (PutEntry, b'{"value":"v","ttl":0}', "ttl must be from 0.001 to 315360000 seconds"),
    (PutEntry, b"[]", "the body must be an object"),
    (PutEntry, b"5", "the body must be an object"),
    (PutEntry, b"null", "the body must be an object"),
    (PutEntry, b"", "the body is not JSON: Expecting value: line 1 column 1 (char 0)"),
    (PutEntry, b'{"value":', "the body is not JSON: Expecting value: line 1 column 10"),
    (PutEntry, b"\xff{}", "the body is not UTF-8 (byte 0)"),
    (PutEntry, b"[" * 200_000, "the body is nested too deeply"),
    (PutEntry, b'{"value":' * 200_000, "the body is nested too deeply"),
]


@pytest.mark.parametrize(("kind", "body", "words"), REFUSED, ids=[words[:50] for _, _, words in REFUSED])
def test_a_refusal_names_the_field(kind: type, body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        codec.parse_bytes(kind, body)
    assert caught.value.message.startswith(words)


def test_a_whole_number_is_taken_where_a_number_is_asked_and_stays_one() -> None:
    assert type(codec.parse(PutEntry, {"value": "", "ttl": 5}).ttl) is int
