"""The scripted model API, asked by hand."""

import http.client
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from loopsy.testing.model_api import McpTool, ModelApi, OwnTool, Turn, load, mcp, say, scenario, shell
from tests.waiting import PATIENCE_S

BASH = {"name": "Bash", "input_schema": {}}
DIALECTS = ("anthropic", "openai", "gemini")


def body_of(dialect: str, *said: str, tools: tuple[str, ...] = ("Bash",)) -> tuple[str, dict[str, Any]]:
    """A request in which user and model spoke in turn."""
    roles = ["user", "assistant"] * len(said)
    pairs = list(zip(roles, said, strict=False))
    if dialect == "anthropic":
        messages = [{"role": role, "content": text} for role, text in pairs]
        return "/v1/messages?beta=true", {"messages": messages, "tools": [{"name": n} for n in tools], "stream": True}
    if dialect == "openai":
        items = [{"role": role, "content": [{"type": "input_text", "text": text}]} for role, text in pairs]
        return "/v1/responses", {"input": items, "tools": [{"type": "function", "name": n} for n in tools]}
    contents = [{"role": "model" if r == "assistant" else r, "parts": [{"text": text}]} for r, text in pairs]
    declared = [{"functionDeclarations": [{"name": n} for n in tools]}]
    return "/v1beta/models/m:streamGenerateContent?alt=sse", {"contents": contents, "tools": declared}


def ask(api: ModelApi, path: str, body: Any, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=PATIENCE_S)
    try:
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def events(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: ")]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_turn_is_the_one_behind_those_that_the_conversation_shows(dialect: str) -> None:
    with ModelApi(scenario(say("first"), say("second"))) as api:
        said = [ask(api, *body_of(dialect, *words))[1] for words in (("go",), ("go", "first", "on"), ("go",))]
        over = ask(api, *body_of(dialect, "go", "first", "on", "second", "on"))[1]
    assert [b"second" in each for each in said] == [False, True, False]
    assert b"no more turns" in over


@pytest.mark.parametrize("dialect", DIALECTS)
def test_scenarios_are_told_apart_by_the_prompt(dialect: str) -> None:
    with ModelApi(scenario(say("one"), when="apples"), scenario(say("two"), when="pears")) as api:
        assert b'"two"' in ask(api, *body_of(dialect, "count the pears"))[1]
        assert b'"one"' in ask(api, *body_of(dialect, "count the apples"))[1]


@pytest.mark.parametrize(
    ("dialect", "offered", "call"),
    [
        ("anthropic", ("Read", "Bash"), ("Bash", {"command": "ls"})),
        ("openai", ("exec_command",), ("exec_command", {"cmd": "ls"})),
        ("gemini", ("run_shell_command",), ("run_shell_command", {"command": "ls"})),
    ],
)
def test_the_shell_is_the_agents_own(dialect: str, offered: tuple[str, ...], call: tuple[str, Any]) -> None:
    with ModelApi(scenario(shell("ls"))) as api:
        _, data = ask(api, *body_of(dialect, "go", tools=offered))
    name, given = call
    assert f'"name": "{name}"'.encode() in data
    assert json.dumps(given) in data.decode().replace('\\"', '"')


@pytest.mark.parametrize(
    ("dialect", "offered"),
    [
        ("anthropic", "mcp__loopsy__loopsy_execute"),
        ("openai", "mcp__loopsy__loopsy_execute"),
        ("gemini", "mcp_loopsy_loopsy_execute"),
    ],
)
def test_a_tool_of_an_mcp_server_is_found_among_those_offered(dialect: str, offered: str) -> None:
    with ModelApi(scenario(mcp("loopsy", "loopsy_execute", {"command": "ls"}))) as api:
        _, data = ask(api, *body_of(dialect, "go", tools=("Bash", offered)))
    assert f'"name": "{offered}"'.encode() in data


def test_what_is_said_and_called_at_once_is_one_turn() -> None:
    path, body = body_of("openai", "go", "first")
    call = {"type": "function_call", "name": "Bash", "call_id": "c", "arguments": "{}"}
    body["input"] += [call, {"type": "function_call_output", "call_id": "c", "output": "x"}]
    with ModelApi(scenario(say("first", shell="ls"), say("second"))) as api:
        assert b'"second"' in ask(api, path, body)[1]


def test_codex_groups_tools() -> None:
    path, body = body_of("openai", "go")
    body["tools"].append({"type": "namespace", "name": "mcp__loopsy", "tools": [{"name": "loopsy_execute"}]})
    with ModelApi(scenario(mcp("loopsy", "loopsy_execute"))) as api:
        _, data = ask(api, path, body)
    item = next(event["item"] for event in events(data) if event["type"] == "response.output_item.done")
    assert (item["namespace"], item["name"]) == ("mcp__loopsy", "loopsy_execute")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_tool_that_is_not_offered_is_a_fault_and_refused(dialect: str) -> None:
    with ModelApi(scenario(mcp("other", "tool"))) as api:
        assert ask(api, *body_of(dialect, "go"))[0] == 400
        assert api.faults == ["no tool tool of other among ['Bash']"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_asked_on_the_side_takes_no_turn(dialect: str) -> None:
    with ModelApi(scenario(say("the turn"))) as api:
        assert b"the turn" not in ask(api, *body_of(dialect, "a title for this", tools=()))[1]
        assert api.turns == []
        assert len(api.requests) == 1


def test_and_has_the_shape_that_was_asked_for() -> None:
    shape = {"type": "OBJECT", "properties": {"why": {"type": "STRING"}, "score": {"type": "INTEGER"}}}
    body = {"contents": [], "generationConfig": {"responseJsonSchema": shape}}
    with ModelApi() as api:
        _, data = ask(api, "/v1beta/models/m:generateContent", body)
    text = json.loads(data)["candidates"][0]["content"]["parts"][0]["text"]
    assert json.loads(text) == {"why": "ok", "score": 1}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_pieces_are_events_and_a_repeated_text_is_one_line(dialect: str) -> None:
    with ModelApi(scenario(say("tick ", pieces=500), say("x", repeat=2_000_000))) as api:
        many = ask(api, *body_of(dialect, "go"))[1]
        huge = ask(api, *body_of(dialect, "go", "tick", "on"))[1]
    assert sum('"tick "' in json.dumps(event) for event in events(many)) == 500
    assert max(map(len, huge.splitlines())) > 2_000_000


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_crash_breaks_off_in_the_middle(dialect: str) -> None:
    with (
        ModelApi(scenario(say("half", pieces=3, crash=True))) as api,
        pytest.raises((http.client.IncompleteRead, ConnectionError)) as broken,
    ):
        ask(api, *body_of(dialect, "go"))
    assert not isinstance(broken.value, http.client.IncompleteRead) or broken.value.partial


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_refusal_has_its_status(dialect: str) -> None:
    with ModelApi(scenario(Turn(status=529))) as api:
        assert ask(api, *body_of(dialect, "go"))[0] == 529


def test_a_turn_that_holds_waits_for_its_release() -> None:
    with ModelApi(scenario(say("at last", hold=True))) as api:
        got: list[bytes] = []
        asking = threading.Thread(target=lambda: got.append(ask(api, *body_of("anthropic", "go"))[1]))
        asking.start()
        asking.join(0.2)
        assert got == []
        api.release()
        asking.join(PATIENCE_S)
        assert b"at last" in got[0]


def test_results_are_what_the_tools_gave() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "forty-two"}]}
    said = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]},
        {"role": "user", "content": [result]},
    ]
    with ModelApi(scenario(say("one"), say("two"))) as api:
        ask(api, "/v1/messages", {"messages": said, "tools": [BASH]})
        assert api.results == ("forty-two",)


def test_every_byte_can_be_searched() -> None:
    with ModelApi(scenario(say("one"))) as api:
        ask(api, *body_of("gemini", "the prompt"), **{"x-goog-api-key": "in-a-header"})
        found = [api.mentions(word) for word in ("the prompt", "in-a-header", "alt=sse", "nowhere")]
    assert found == [True, True, True, False]


def test_what_nobody_can_read_is_kept_as_a_fault() -> None:
    with ModelApi(scenario(say("one"))) as api:
        assert ask(api, "/v1/messages", ["not", "an", "object"])[0] == 200
        assert len(api.faults) == 1


def test_a_scenario_file(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "when: pears\nturns:\n"
        "  - {say: hm, shell: ls, wait: 0.5}\n"
        "  - mcp: {server: loopsy, tool: loopsy_execute, input: {command: ls}}\n"
        "  - tool: {name: Write, input: {file_path: a}}\n"
    )
    assert load(path) == scenario(
        Turn(say="hm", shell="ls", wait=0.5),
        Turn(mcp=McpTool(server="loopsy", tool="loopsy_execute", input={"command": "ls"})),
        Turn(tool=OwnTool(name="Write", input={"file_path": "a"})),
        when="pears",
    )


@pytest.mark.parametrize(
    "text", ["turns:\n  - sai: typo\n", "turns: 5\n", "- a\n", "turns:\n  - {pieces: many}\n", "{"]
)
def test_a_scenario_file_that_is_wrong_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"wrong\.yaml"):
        load(path)
