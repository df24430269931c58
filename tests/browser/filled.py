"""Machines with something in every view."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loopsy.testing.nodes import Node
from tests.integration.conftest import until
from tests.integration.tasking import Client

IMG = '<img src=x onerror="document.title=`owned`">'
LONG = "w" * 10_000
TURNED = "invoice\u202egnp.exe"
BELL = "\x1b]0;owned\x07\x1b[31mred\x1b[0m \x9b31m"
SCRIPT = "</script><script>document.title='owned'</script>"
HOSTILE = (IMG, LONG, TURNED, BELL, SCRIPT, "javascript:document.title='owned'")


def fill(a: Node, b: Node, root: Path) -> dict[str, str]:
    """Context, messages, tasks, jobs, files, terminals; the ids of what tests look at."""
    values(a)
    values(b)
    letters(a, b)
    found = tasks(a, b, root)
    folder = root / "here"
    folder.mkdir(exist_ok=True)
    for name in ("report.pdf", "notes.md", "a rather long name of a file that somebody gave without thinking.tar.gz"):
        (folder / name).write_bytes(b"x" * (len(name) * 1000))
    (folder / "src").mkdir(exist_ok=True)
    found["folder"] = str(folder)
    for node in (a, b):
        node.ask("POST", "/execute", {"command": "echo", "args": ["hello"]})
    found["terminal"] = a.ask("POST", "/terminals", {"command": "cat"}).body["terminalId"]
    return found


def values(node: Node) -> None:
    """Entries."""
    for key, value, ttl in (
        ("plan", "start with the tests, then the parser", None),
        ("build/status", json.dumps({"ok": True, "commit": "3f9a1c2", "failed": []}), 3600),
        ("lock.deploy", node.name, 90),
        ("notes", "a longer text\nwith lines\n" * 20, None),
    ):
        node.ask("PUT", f"/context/{key.replace('/', '%2F')}", {"value": value, **({"ttl": ttl} if ttl else {})})


def letters(a: Node, b: Node) -> None:
    """A conversation, and some more."""
    first = a.ask("POST", "/messages", {"to": "bravo", "body": "Are the tests green on your side?", "origin": "person"})
    message = first.body["messages"][0]
    until(lambda: b.ask("GET", "/messages/inbox").body["messages"], "the message")
    b.ask("POST", "/messages", {"to": "alfa", "body": "All but one. Looking.", "inReplyTo": message["id"]})
    full = "The disk of this machine is nearly full (94 %).\nShall I clean up?"
    b.ask("POST", "/messages", {"to": "alfa", "body": full})
    until(lambda: len(a.ask("GET", "/messages/inbox").body["messages"]) >= 2, "the answers")


def tasks(a: Node, b: Node, root: Path) -> dict[str, str]:
    """One that is over, one that waits for a person here, one that does so there."""
    here, there = Client(a), Client(a, base="/peers/bravo")
    work = root / "work"
    work.mkdir(exist_ok=True)
    (work / "parser.py").write_text("def parse(text):\n    return text.split()\n")
    done = here.start(
        "think The parser splits at blanks only.", "say I looked at the parser: it splits at blanks only.",
        "run echo 3 passed", "done The parser is fine.", title="Look at the parser", cwd=str(work),
    )  # fmt: skip
    here.over(done)
    steps = ("say Let me mend it.", f"edit {work}/parser.py def parse(text): return shlex.split(text)")
    edit = here.start(*steps, title="Quote handling", cwd=str(work))
    there_id = there.start("ask rm -rf build && make -C src all", title="Build it anew", cwd=str(work))
    here.asked(edit)
    there.asked(there_id)
    return {"done": done, "edit": edit, "there": there_id}


def hostile(a: Node, b: Node, root: Path) -> dict[str, Any]:
    """The same kinds of things, made by somebody who means harm."""
    for number, text in enumerate(HOSTILE):
        a.ask("PUT", f"/context/{quoted(text[:200])}", {"value": text})
        b.ask("POST", "/messages", {"to": "alfa", "body": text})
        name = text.replace("/", "_").replace("\x00", "")[:200]
        (root / name).write_text(str(number))
    until(lambda: len(a.ask("GET", "/messages/inbox?limit=200").body["messages"]) >= len(HOSTILE), "the messages")
    here = Client(a)
    steps = [f"say {text}" for text in HOSTILE] + [f"junk {IMG}", f"think {IMG}", f"ask printf '%s' '{IMG}{LONG}'"]
    task = here.start(*steps, title=IMG + LONG[:150], cwd=str(root))
    here.asked(task)
    return {"task": task}


def quoted(text: str) -> str:
    """For a path."""
    from urllib.parse import quote

    return quote(text, safe="")
