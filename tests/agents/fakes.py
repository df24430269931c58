"""Agents and MCP servers that are tiny scripts, for what the real ones rarely do."""

import sys
from pathlib import Path

AGENT = """#!{python}
import json, os, sys, time
name, mode = os.path.basename(sys.argv[0]), {mode!r}
words, store = sys.argv[1:], os.path.expanduser(f"~/{{name}}.registered")
with open(os.path.expanduser(f"~/{{name}}.calls"), "a") as log:
    log.write(json.dumps([words, sorted(os.environ)]) + "\\n")
doing = words[1]
if doing in mode.get("hangs", ()):
    open(os.path.expanduser(f"~/{{name}}.hangs"), "w")
    time.sleep(1000)
if doing in mode.get("fails", ()):
    sys.exit("error: the disk is full")
if doing in mode.get("garbage", ()):
    print("\\x1b[31m{{[")
    sys.exit(0)
there = open(store).read().splitlines() if os.path.exists(store) else None
if doing == "add":
    if there is not None and name == "claude":
        sys.exit("MCP server loopsy already exists in user config")
    server = words[words.index("--") + 1:] if "--" in words else words[words.index("loopsy") + 1:]
    open(store, "w").write("\\n".join(server))
elif doing == "remove":
    os.remove(store)
elif name == "gemini":
    print("Configured MCP servers:\\n" if there else "No MCP servers configured.", file=sys.stderr)
    print(f"✓ loopsy: {{' '.join(there)}} (stdio) - Connected" if there else "", file=sys.stderr)
elif there is None:
    sys.exit("No MCP server named 'loopsy' found.")
elif name == "codex":
    enabled = not mode.get("disabled")
    print(json.dumps({{"enabled": enabled, "transport": {{"command": there[0], "args": there[1:]}}}}))
else:
    print(f"loopsy:\\n  Scope: User config\\n  Status: ✔ Connected\\n  Command: {{there[0]}}")
    print(f"  Args: {{' '.join(there[1:])}}")
"""


def fake_agent(folder: Path, name: str, **mode: tuple[str, ...]) -> Path:
    """A command in ``folder``. ``hangs``, ``fails``, ``garbage``: in which of its verbs (add, remove, get, list) it
    does; ``disabled``: what it has is switched off. It keeps its state and its calls in HOME, and that it hangs."""
    folder.mkdir(exist_ok=True)
    script = folder / name
    script.write_text(AGENT.format(python=sys.executable, mode=mode))
    script.chmod(0o755)
    return script


SERVER = """
import json, sys
{before}
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    cursor = int(message["params"].get("cursor", 0))
    if message["method"] == "initialize":
        answer = {{"protocolVersion": message["params"]["protocolVersion"], "capabilities": {{}}, "serverInfo": {{}}}}
    else:
        more = str(cursor + 1) if cursor < {pages} - 1 else None
        answer = {{"tools": [{{"name": "a"}}, {{"name": "b"}}], "nextCursor": more}}
    print(json.dumps({{"jsonrpc": "2.0", "id": message["id"], "result": answer}}), flush=True)
"""


def server(before: str = "", pages: int = 1) -> tuple[str, ...]:
    """The command of an MCP server with two tools a page. ``before``: Python that it runs first."""
    return (sys.executable, "-c", SERVER.format(before=before, pages=pages))


def server_script(path: Path) -> tuple[str, ...]:
    """The same as a script of its own."""
    python, _, source = server()
    path.write_text(f"#!{python}\n{source}")
    path.chmod(0o755)
    return (str(path),)
