"""The script itself. A prompt is a list of steps, one a line:

    say TEXT           a text
    think TEXT
    junk TEXT          a line that is no JSON
    long BYTES         a text of so many bytes
    flood COUNT        so many texts
    nonsense COUNT     ask so many things that nobody knows, and read no answer
    ask COMMAND        ask whether to run a command; run it in a shell if that is allowed, and tell its output
    asks COUNT         ask so many things at once, then wait for the answers
    edit PATH TEXT     ask whether to write a file, then do so
    withdraw COMMAND   ask, and no longer ask a moment later
    run COMMAND        run a command in a shell of its own process group, without asking
    leave COMMAND      start a command so and leave it
    stay               don't go after the result, and have a server that stays too
    stubborn           let TERM pass
    env                tell argv and the environment
    sleep SECONDS
    crash STATUS       exit at once
    fail TEXT          end with an error
    done TEXT          end well; so does the end of the list

It keeps sessions in ``$HOME/.fake-claude/<id>``, one file of prompts each, so that ``--resume`` finds them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

SESSIONS = Path(os.environ.get("HOME", "/tmp"), ".fake-claude")  # noqa: S108 - tests set HOME
NUMBERS = iter(range(1, 10**9))
ANSWERS: dict[str, dict[str, Any]] = {}
"""That have come, by request."""
STAYS: list[subprocess.Popen[bytes]] = []


def put(value: dict[str, Any]) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def get() -> dict[str, Any]:
    """Read a line; without one there is nobody to work for."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(3)
    value: dict[str, Any] = json.loads(line)
    if value.get("type") == "control_request":
        end("interrupted", failed=True)
    return value


def content(role: str, *blocks: dict[str, Any]) -> None:
    """A message of the conversation."""
    put({"type": role, "message": {"role": role, "content": list(blocks)}})


def say(text: str) -> None:
    """A text."""
    content("assistant", {"type": "text", "text": text})


def end(text: str, failed: bool = False) -> None:
    """The result; it goes once its input is closed."""
    put(
        {
            "type": "result",
            "subtype": "error_during_execution" if failed else "success",
            "is_error": failed,
            "result": text,
            "total_cost_usd": 0.01,
            "num_turns": 1,
            "duration_ms": 5,
            "modelUsage": {"fake": {"inputTokens": 10, "outputTokens": 5, "cacheReadInputTokens": 3, "costUSD": 0.01}},
        }
    )
    sys.stdin.read()
    for server in STAYS:
        server.wait()
    sys.exit(1 if failed else 0)


def request(tool: str, given: dict[str, Any]) -> str:
    """Ask; the request's id."""
    request_id = f"r{next(NUMBERS)}"
    asked = {"subtype": "can_use_tool", "tool_name": tool, "input": given, "tool_use_id": f"t-{request_id}"}
    put({"type": "control_request", "request_id": request_id, "request": asked})
    return request_id


def answered(request_id: str) -> dict[str, Any]:
    """Wait for the answer to a request."""
    while request_id not in ANSWERS:
        response = get()["response"]
        ANSWERS[response["request_id"]] = response["response"]
    return dict(ANSWERS[request_id])


def use(tool: str, given: dict[str, Any], work: Any) -> None:
    """Ask, and do it if that is allowed."""
    tool_id = f"t{next(NUMBERS)}"
    content("assistant", {"type": "tool_use", "id": tool_id, "name": tool, "input": given})
    answer = answered(request(tool, given))
    allowed = answer["behavior"] == "allow"
    output = work(answer["updatedInput"]) if allowed else answer["message"]
    result = {"type": "tool_result", "tool_use_id": tool_id, "content": output, "is_error": not allowed}
    content("user", result)


def shell(given: dict[str, Any]) -> str:
    """Run a command as the real one does: in a process group of its own."""
    done = subprocess.run(
        ["/bin/sh", "-c", given["command"]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )
    return done.stdout + done.stderr


def write(given: dict[str, Any]) -> str:
    """Write a file."""
    Path(given["file_path"]).write_text(given["content"])
    return "written"


def step(word: str, rest: str) -> None:
    """One line of the prompt."""
    match word:
        case "say":
            say(rest)
        case "think":
            content("assistant", {"type": "thinking", "thinking": rest})
        case "junk":
            print(rest, flush=True)
        case "long":
            say("x" * int(rest))
        case "flood":
            line = json.dumps({"type": "assistant", "message": {"role": "assistant", "content": [
                {"type": "text", "text": "%06d"}]}}) + "\n"  # fmt: skip
            for at in range(int(rest)):
                sys.stdout.write(line % at)
        case "nonsense":
            for at in range(int(rest)):
                put({"type": "control_request", "request_id": f"n{at}", "request": {"subtype": "nonsense"}})
        case "ask":
            use("Bash", {"command": rest}, shell)
        case "asks":
            for request_id in [request("Bash", {"command": f"echo {at}"}) for at in range(int(rest))]:
                say(f"{request_id} {answered(request_id)['behavior']}")
        case "edit":
            path, _, text = rest.partition(" ")
            use("Write", {"file_path": path, "content": text}, write)
        case "withdraw":
            request_id = request("Bash", {"command": rest})
            put({"type": "control_cancel_request", "request_id": request_id})
        case "run":
            say(shell({"command": rest}))
        case "leave":
            no = subprocess.DEVNULL
            subprocess.Popen(["/bin/sh", "-c", rest], start_new_session=True, stdin=no, stdout=no, stderr=no)
        case "stay":
            STAYS.append(subprocess.Popen(["sleep", "300"], start_new_session=True, env={}))
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "env":
            say(json.dumps({"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd()}))
        case "sleep":
            time.sleep(float(rest))
        case "crash":
            sys.stderr.write("it hurts\n")
            os._exit(int(rest))
        case "fail":
            end(rest, failed=True)
        case "done":
            end(rest)


def main() -> None:
    """One run."""
    if "--version" in sys.argv:
        print("2.0.0 (fake)")
        return
    resumed = next((word.partition("=")[2] for word in sys.argv if word.startswith("--resume=")), None)
    session = resumed or str(uuid.uuid4())
    SESSIONS.mkdir(parents=True, exist_ok=True)
    prompt = get()["message"]["content"]
    with (SESSIONS / session).open("a+") as file:
        file.seek(0)
        earlier = file.read()
        file.write(f"{prompt}\n")
    put({"type": "system", "subtype": "init", "session_id": session, "model": "fake", "tools": ["Bash"]})
    if resumed:
        say(f"I remember: {earlier.strip()}")
    for line in prompt.splitlines():
        word, _, rest = line.strip().partition(" ")
        step(word, rest)
    end("done")


if __name__ == "__main__":
    main()
