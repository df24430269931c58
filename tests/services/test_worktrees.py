"""What a task changed in a repository, by the real git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from loopsy.errors import InvalidRequest, TaskFailed
from loopsy.services import git as git_module
from loopsy.services.git import Git
from loopsy.services.worktrees import Worktrees

ensure_deferred = pytest_twisted.ensureDeferred
Sh = Callable[[str], str]


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    top = tmp_path / "repo"
    top.mkdir()
    sh(top)(
        "git init -q . && git config user.email a@b && git config user.name a && mkdir sub"
        " && echo one > a && echo two > sub/b && echo '*.o' > .gitignore && git add . && git commit -qm first"
    )
    return top


def sh(where: Path) -> Sh:
    def run(script: str) -> str:
        done = subprocess.run(["sh", "-ec", script], cwd=where, capture_output=True, text=True, check=True)
        return done.stdout

    return run


@pytest.fixture
def worktrees(tmp_path: Path) -> Worktrees:
    return Worktrees(reactor, str(tmp_path / "worktrees"))


@pytest.fixture
def untouched(repo: Path) -> Iterator[None]:
    """Nothing of ours is left in the repository."""
    objects = lambda: sorted(str(path) for path in (repo / ".git").rglob("*") if path.is_file())  # noqa: E731
    before, index = objects(), (repo / ".git/index").read_bytes()
    yield
    assert objects() == before
    assert (repo / ".git/index").read_bytes() == index
    assert list(repo.parent.glob("loopsy-diff-*")) == []


@ensure_deferred
async def test_only_what_changed_since_is_told_and_the_patch_makes_it_again(
    repo: Path, worktrees: Worktrees, untouched: None, tmp_path: Path
) -> None:
    (repo / "a").write_text("one\nmine already\n")
    (repo / "mine").write_text("untracked before\n")
    before = await worktrees.begin(str(repo))
    assert before is not None
    (repo / "a").write_text("one\nmine already\nthe task's\n")
    (repo / "sub/new").write_bytes(b"\0\1binary")
    (repo / "x.o").write_text("ignored")
    (repo / "sub/b").unlink()
    stat = await worktrees.compare(before, str(tmp_path / "patch"))
    assert stat is not None
    assert (stat.files, stat.insertions, stat.deletions, stat.patch) == (3, 1, 1, True)
    patch = tmp_path / "patch"
    assert patch.stat().st_mode & 0o777 == 0o600
    sh(repo)(f"git apply -R {patch} && test -f sub/b && ! test -e sub/new && git apply {patch}")
    await worktrees.forget(before)


@ensure_deferred
async def test_a_part_of_a_repository_is_only_that_part(
    repo: Path, worktrees: Worktrees, untouched: None, tmp_path: Path
) -> None:
    before = await worktrees.begin(str(repo / "sub"))
    assert before is not None
    (repo / "a").write_text("else\n")
    (repo / "sub/b").write_text("two\nthree\n")
    stat = await worktrees.compare(before, str(tmp_path / "patch"))
    assert stat is not None
    assert (stat.files, stat.insertions) == (1, 1)
    assert b"a/a" not in (tmp_path / "patch").read_bytes()
    await worktrees.forget(before)


@ensure_deferred
async def test_nothing_changed_and_no_repository(repo: Path, worktrees: Worktrees, tmp_path: Path) -> None:
    before = await worktrees.begin(str(repo))
    assert before is not None
    assert await worktrees.compare(before, str(tmp_path / "patch")) is None
    await worktrees.forget(before)
    assert await worktrees.begin(str(tmp_path)) is None


@ensure_deferred
async def test_what_a_repository_would_have_git_run_does_not_run(
    repo: Path, worktrees: Worktrees, tmp_path: Path
) -> None:
    evil = tmp_path / "ran"
    run, config = f"touch {evil}; cat", "git config"
    sh(repo)(
        f"{config} 'filter.x=y.clean' '{run}' && {config} filter.z.process '{run}' && {config} filter.z.required 1"
        f" && {config} filter.z.smudge '{run}' && {config} core.fsmonitor '{run}' && {config} diff.w.textconv '{run}'"
        f" && git config diff.external '{run}'"
        " && printf 'a filter=x=y\\n*.z filter=z\\nsub/* diff=w\\n' > .gitattributes"
        f" && printf '#!/bin/sh\\ntouch {evil}\\n' > .git/hooks/post-checkout && chmod +x .git/hooks/post-checkout"
    )
    evil.unlink(missing_ok=True)
    before = await worktrees.begin(str(repo))
    assert before is not None
    for name in ("a", "c.z", "sub/b"):
        (repo / name).write_text("changed\n")
    assert (await worktrees.compare(before, str(tmp_path / "patch"))).files == 3  # type: ignore[union-attr]
    await worktrees.forget(before)
    place = worktrees.place("t")
    await worktrees.make(str(repo), place)
    await worktrees.remove(place)
    assert not evil.exists()


@ensure_deferred
async def test_a_repository_whose_tree_lies_elsewhere_or_that_has_others_in_it_tells_nothing(
    repo: Path, worktrees: Worktrees, tmp_path: Path
) -> None:
    sh(repo)("git init -q inner && cd inner && git -c user.email=a@b -c user.name=a commit -q --allow-empty -m i")
    sh(repo)("git -c advice.addEmbeddedRepo=false add inner")
    with pytest.raises(TaskFailed, match="submodules"):
        await worktrees.begin(str(repo))
    sh(repo)(f"git config core.worktree {tmp_path / 'home'}")
    assert await worktrees.begin(str(repo)) is None


@ensure_deferred
async def test_a_worktree_is_fresh_and_goes_without_a_trace(repo: Path, worktrees: Worktrees) -> None:
    (repo / "a").write_text("not committed\n")
    await worktrees.check(str(repo))
    place = worktrees.place("task1")
    inside = await worktrees.make(str(repo / "sub"), place)
    assert inside == os.path.join(place, "sub/")
    assert Path(place, "a").read_text() == "one\n"
    before = await worktrees.begin(inside, whole=True)
    assert before is not None
    assert before.within == ""
    await worktrees.forget(before)
    Path(place, "a").write_text("changed")
    await worktrees.remove(place)
    assert not Path(place).exists()
    assert sh(repo)("git worktree list").count("\n") == 1
    await worktrees.remove(place)


@ensure_deferred
async def test_no_worktree_where_there_is_no_commit(tmp_path: Path, repo: Path, worktrees: Worktrees) -> None:
    for where in (tmp_path, tmp_path / "empty"):
        where.mkdir(exist_ok=True)
        with pytest.raises(InvalidRequest, match="worktree"):
            await worktrees.check(str(where))
        sh(tmp_path)("git init -q empty")


@ensure_deferred
async def test_a_slow_or_talkative_git_is_ended(tmp_path: Path) -> None:
    (tmp_path / "git").write_text("#!/bin/sh\nwhile :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done\n")
    (tmp_path / "git").chmod(0o755)
    fake = Git(reactor, str(tmp_path), {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    with pytest.raises(TaskFailed, match="too much"):
        await fake.run("x", within=1000, limit=100)
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(TaskFailed, match="too long"):
        await fake.run("x", within=0.1)
    with pytest.raises(TaskFailed, match="not found"):
        await Git(reactor, str(tmp_path), {"PATH": "/nowhere"}).run("x", within=1000)


def test_settings_of_any_name_reach_git_as_they_are() -> None:
    variables = git_module.as_variables([("filter.a=b\n.clean", "")])
    assert variables == {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "filter.a=b\n.clean", "GIT_CONFIG_VALUE_0": ""}
