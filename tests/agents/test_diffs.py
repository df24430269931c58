"""Edits as diffs that a person can judge."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.agents import diffs

TEXT = st.text(st.sampled_from("ab\n"), max_size=40)


@given(TEXT, TEXT)
def test_it_holds_each_line_that_goes_and_each_that_comes(before: str, after: str) -> None:
    lines = diffs.unified("f", before, after).splitlines()[2:]
    gone = [line[1:] for line in lines if line[:1] in ("-", " ")]
    come = [line[1:] for line in lines if line[:1] in ("+", " ")]
    if before == after:
        assert lines == []
    elif len(before.splitlines()) <= 3 and len(after.splitlines()) <= 3:  # else context is left out
        assert (gone, come) == (before.splitlines(), after.splitlines())


@pytest.mark.parametrize("after", ["one\n2\nthree\n", "one\ntwo\nthree", "", "x\n" * 3000])
def test_the_patch_command_takes_it(after: str, tmp_path: Path) -> None:
    before = "one\ntwo\nthree\n" + "x\n" * (1000 if len(after) > 1000 else 0)
    (tmp_path / "f").write_text(before)
    diff = diffs.unified("f", before, after)
    subprocess.run(["patch", "-p0", "--posix"], input=diff.encode(), cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "f").read_text() == after


def test_texts_that_compare_badly_take_no_time() -> None:
    began = time.thread_time()  # not what the machine does beside it
    worst = ["".join(f"{(i * step) % 997}\n" for i in range(1000)) for step in (7, 13)]
    for _ in range(3):
        diffs.unified("f", *worst)
    huge = [line * 400 for line in worst]
    diff = diffs.unified("f", *huge)
    assert diff.count("\n") == 2 + 1 + 800_000
    assert time.thread_time() - began < 60


def test_claudes_edits() -> None:
    edit = {"file_path": "/w/a", "old_string": "x", "new_string": "y"}
    one = "--- /w/a\n+++ /w/a\n@@ -1 +1 @@\n-x\n+y\n"
    assert diffs.of_claude("Edit", edit) == one
    assert diffs.of_claude("MultiEdit", {"file_path": "/w/a", "edits": [edit, edit]}) == one * 2
    written = diffs.of_claude("Write", {"file_path": "/w/a", "content": "n\n"})
    assert written == "--- /w/a (whatever it holds is replaced)\n+++ /w/a\n@@ -0,0 +1 @@\n+n\n"
    assert "each place" in (diffs.of_claude("Edit", {**edit, "replace_all": True}) or "")
    cell = diffs.of_claude("NotebookEdit", {"notebook_path": "/w/n", "new_source": "1", "cell_id": "c"})
    assert "(cell c, replace)" in (cell or "")


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("Edit", {}),
        ("Edit", {"file_path": 1}),
        ("Edit", {"file_path": "a", "old_string": None, "new_string": "b"}),
        ("MultiEdit", {"file_path": "a", "edits": "b"}),
        ("MultiEdit", {"file_path": "a", "edits": [1]}),
        ("Another", {"file_path": "a"}),
    ],
)
def test_an_input_that_is_not_known_has_no_diff(tool: str, given: dict[str, object]) -> None:
    assert diffs.of_claude(tool, given) is None


def test_codexs_changes() -> None:
    changes = [
        {"path": "/w/a", "kind": {"type": "add"}, "diff": "n\n"},
        {"path": "/w/b", "kind": {"type": "delete"}, "diff": "o\n"},
        {"path": "/w/c", "kind": {"type": "update", "move_path": "/w/d"}, "diff": "@@ -1 +1 @@\n-x\n+y"},
    ]
    assert diffs.of_codex(changes) == (
        "--- /dev/null\n+++ /w/a\n@@ -0,0 +1 @@\n+n\n"
        "--- /w/b\n+++ /dev/null\n@@ -1 +0,0 @@\n-o\n"
        "--- /w/c\n+++ /w/d\n@@ -1 +1 @@\n-x\n+y\n"
    )
