"""What an edit would change, as a unified diff that a person can judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import unified_diff
from typing import Any

COMPARED = 1_000_000
"""Lines of one text times those of the other: above that all is shown as replaced, as comparing could take minutes."""
NO_END = "\\ No newline at end of file\n"


def unified(path: str, before: str, after: str, *, note: str = "") -> str:
    """The diff between two texts of a file. ``note``: said behind the old name."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    if len(old) * len(new) > COMPARED:
        return "".join(_marked(f"--- {path}{note}\n+++ {path}\n", old, new))
    lines = unified_diff(old, new, f"{path}{note}", path, lineterm="\n")
    return "".join(line if line.endswith("\n") else f"{line}\n{NO_END}" for line in lines)


def _marked(head: str, old: list[str], new: list[str]) -> Iterator[str]:
    yield f"{head}@@ -1,{len(old)} +1,{len(new)} @@\n"
    for mark, lines in (("-", old), ("+", new)):
        yield from (f"{mark}{line}" if line.endswith("\n") else f"{mark}{line}\n{NO_END}" for line in lines)


def of_claude(tool: str, given: Mapping[str, Any]) -> str | None:
    """The diff of one of Claude's edit tools, from its input; None: the input isn't what we know, so that there is only
    itself to judge. It holds no more of the file than what is replaced: line numbers count from there."""
    path = given.get("file_path") or given.get("notebook_path")
    if not isinstance(path, str):
        return None
    match tool:
        case "Write" if isinstance(content := given.get("content"), str):
            return unified(path, "", content, note=" (whatever it holds is replaced)")
        case "Edit":
            return _replaced(path, [given])
        case "MultiEdit" if isinstance(edits := given.get("edits"), list):
            return _replaced(path, edits)
        case "NotebookEdit" if isinstance(source := given.get("new_source"), str):
            cell = f" (cell {given.get('cell_id')}, {given.get('edit_mode', 'replace')})"
            return unified(path, "", source, note=cell)
    return None


def _replaced(path: str, edits: Iterable[Any]) -> str | None:
    parts = []
    for edit in edits:
        match edit:
            case {"old_string": str(old), "new_string": str(new)}:
                everywhere = " (each place where this stands)" if edit.get("replace_all") else ""
                end = "" if old.endswith("\n") or new.endswith("\n") else "\n"  # the file goes on behind both
                parts.append(unified(path, old + end, new + end, note=everywhere))
            case _:
                return None
    return "".join(parts)


def of_codex(changes: Iterable[Mapping[str, Any]]) -> str:
    """The diff of Codex's ``fileChange``: it gives hunks for a change, the whole text for a new or removed file."""
    return "".join(map(_file_change, changes))


def _file_change(change: Mapping[str, Any]) -> str:
    path, body, kind = str(change["path"]), str(change["diff"]), change["kind"]
    match kind["type"]:
        case "add":
            return unified("/dev/null", "", body).replace("+++ /dev/null", f"+++ {path}", 1)
        case "delete":
            return unified(path, body, "").replace(f"+++ {path}", "+++ /dev/null", 1)
    target = kind.get("move_path") or path
    return f"--- {path}\n+++ {target}\n{body if body.endswith(chr(10)) else body + chr(10)}"
