"""What a task changed in its repository, and worktrees for tasks that shall change none of what is there.

A state of the working tree is written as a tree object with an index and an object directory of our own, so that
nothing is left in the repository; two of them make the diff.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from loopsy.errors import InvalidRequest, TaskFailed
from loopsy.services import git
from loopsy.services.git import Git
from loopsy.store import fileio
from loopsy.wire.tasks import DiffStat

QUICK_S = 5.0
SNAPSHOT_S = 10.0
"""For one state of the tree: the index knows what is unchanged, so it takes this long only where much is untracked."""
CHECKOUT_S = 120.0
PATCH_BYTES = 64 * 1024 * 1024
LINK = b"160000 "
STAT = re.compile(r"(\d+) (file|insertion|deletion)")
TREE = re.compile(r"[0-9a-f]{40,64}")


@frozen
class Repository:
    """A git repository with a working tree."""

    git: Git
    """At its top."""
    prefix: str
    """Of the asked directory below the top, "" or with a slash at its end."""
    index: str
    objects: str


class Worktrees:
    """Looks at repositories, and makes worktrees below ``home``."""

    log = Logger()

    def __init__(self, reactor: Any, home: str) -> None:
        self._reactor = reactor
        self._home = home

    def _in_thread(self, work: Any, *arguments: Any, **more: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work, *arguments, **more)

    async def find(self, directory: str) -> Repository | None:
        """The repository that a directory lies in, if any. Its filters are switched off where it names them itself: a
        directory that others can write to must not say what is run here."""
        at = Git(self._reactor, directory, git.clean(os.environ))
        words = ("--show-toplevel", "--show-prefix", "--git-path", "index", "--git-path", "objects")
        try:
            found = await at.run("rev-parse", *words, within=QUICK_S)
            lines = found.text.split("\n")
            if found.status != 0 or len(lines) != 4 or not lines[0]:
                return None
            top, prefix, index, objects = lines
            asked = ("--null", "--show-scope", "--name-only", "--get-regexp", r"^(filter\.|core\.worktree$)")
            own = own_settings((await at.run("config", *asked, within=QUICK_S)).text)
        except TaskFailed:
            return None
        if "core.worktree" in own:
            return None  # it could point anywhere
        where = evolve(at, directory=top, settings=(*git.SAFE, *without_filters(own)))
        return Repository(where, prefix, os.path.join(directory, index), os.path.join(directory, objects))

    # -- what changed -----------------------------------------------------------------------------------------------
    async def begin(self, directory: str, whole: bool = False) -> Snapshot | None:
        """The state of a directory in a repository now (``whole``: of all of it); None: there is no repository.

        :raises TaskFailed: it takes too long, or git fails.
        """
        repository = await self.find(directory)
        if repository is None:
            return None
        scratch = await self._in_thread(tempfile.mkdtemp, prefix="loopsy-diff-")
        snapshot = Snapshot(repository, scratch, "" if whole else repository.prefix, "")
        try:
            return evolve(snapshot, tree=await self._tree(snapshot))
        except BaseException:
            await self.forget(snapshot)
            raise

    async def _tree(self, snapshot: Snapshot) -> str:
        repository, index = snapshot.repository, os.path.join(snapshot.scratch, "index")
        os.makedirs(snapshot.objects, exist_ok=True)
        if await self._in_thread(os.path.exists, repository.index):
            await self._in_thread(shutil.copyfile, repository.index, index)
        env = snapshot.environment
        links = await repository.git.run("ls-files", "--stage", within=QUICK_S, more=env, limit=64 * git.KEPT_OUTPUT)
        if links.out.startswith(LINK) or b"\n" + LINK in links.out:
            raise TaskFailed("it has submodules, which would be run through")
        await repository.git.must("add", "--all", "--", snapshot.part, within=SNAPSHOT_S, more=env)
        tree = await repository.git.must("write-tree", within=SNAPSHOT_S, more=env)
        if not TREE.fullmatch(tree):
            raise TaskFailed("git write-tree told no tree")
        return tree

    async def compare(self, before: Snapshot, patch: str) -> DiffStat | None:
        """What changed since; the patch goes to the file ``patch`` if it isn't larger than is kept. None: nothing.

        :raises TaskFailed: it takes too long, or git fails.
        """
        after = await self._tree(before)
        if before.tree == after:
            return None
        trees, run, env = (before.tree, after), before.repository.git, before.environment
        text = await run.must("diff-tree", "-r", "--shortstat", *trees, "--", before.part, within=SNAPSHOT_S, more=env)
        counts = {what: int(number) for number, what in STAT.findall(text)}
        return DiffStat(
            files=counts.get("file", 0),
            insertions=counts.get("insertion", 0),
            deletions=counts.get("deletion", 0),
            patch=await self._patch(before, after, patch),
        )

    async def _patch(self, before: Snapshot, after: str, patch: str) -> bool:
        part, run, env = f"{patch}.part", before.repository.git, before.environment
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | fileio.NOFOLLOW, 0o600), "wb") as file:
                words = ("diff-tree", "-r", "-p", "--binary", "--full-index", before.tree, after, "--", before.part)
                done = await run.run(*words, within=SNAPSHOT_S, more=env, file=file, limit=PATCH_BYTES)
            if done.status == 0:
                os.replace(part, patch)
        except (TaskFailed, OSError) as error:
            self.log.info("a patch was not kept: {error}", error=error)
        await self._in_thread(_unlink, part)
        return os.path.exists(patch)

    async def forget(self, snapshot: Snapshot) -> None:
        """Remove what it took."""
        await self._in_thread(shutil.rmtree, snapshot.scratch, True)

    # -- worktrees --------------------------------------------------------------------------------------------------
    async def check(self, directory: str) -> str:
        """See that a worktree can be made; the top of its repository.

        :raises InvalidRequest: the directory is in no repository that has a commit.
        """
        repository = await self.find(directory)
        if repository is not None:
            head = await repository.git.run("rev-parse", "--verify", "--quiet", "HEAD", within=QUICK_S)
            if head.status == 0:
                return repository.git.directory
        raise InvalidRequest(f"worktree: {directory} lies in no git repository with a commit")

    def place(self, task_id: str) -> str:
        """Where a task's worktree lies. Not below the data directory, which no task may touch."""
        return os.path.join(self._home, task_id)

    async def make(self, directory: str, place: str) -> str:
        """A fresh worktree of HEAD at ``place``; the directory in it that stands for ``directory``.

        :raises TaskFailed: git could not make it.
        """
        repository = await self.find(directory)
        if repository is None:
            raise TaskFailed(f"{directory} lies in no git repository any more")
        await self._in_thread(os.makedirs, os.path.dirname(place), 0o700, True)
        await repository.git.must("worktree", "add", "--detach", "--", place, "HEAD", within=CHECKOUT_S)
        inside = os.path.join(place, repository.prefix) if repository.prefix else place
        return inside if await self._in_thread(os.path.isdir, inside) else place

    async def remove(self, place: str) -> None:
        """Remove a worktree, and what its repository knows of it."""
        repository = await self.find(place) if os.path.isdir(place) else None
        try:
            if repository is not None:
                await repository.git.run("worktree", "remove", "--force", "--force", "--", place, within=CHECKOUT_S)
        except TaskFailed as error:
            self.log.info("{place}: {error}", place=place, error=error)
        await self._in_thread(shutil.rmtree, place, True)


@frozen
class Snapshot:
    """The state of a working tree: its objects lie in ``scratch`` for as long as the task runs."""

    repository: Repository
    scratch: str
    within: str
    """The part of it that counts, below its top; "": all of it."""
    tree: str

    @property
    def part(self) -> str:
        """The same as a pathspec that no character has a meaning in."""
        return f":(top,literal){self.within}"

    @property
    def objects(self) -> str:
        """Where new objects go."""
        return os.path.join(self.scratch, "objects")

    @property
    def environment(self) -> dict[str, str]:
        """For git, so that the repository is only read."""
        return {
            "GIT_INDEX_FILE": os.path.join(self.scratch, "index"),
            "GIT_OBJECT_DIRECTORY": self.objects,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": self.repository.objects,
        }


class Watch:
    """One task's eye on its repository. What it can't tell it says, and never fails."""

    log = Logger()

    def __init__(self, worktrees: Worktrees, notice: Callable[[str], None]) -> None:
        self._worktrees, self._notice = worktrees, notice
        self._snapshot: Deferred[Snapshot | None] | None = None

    def begin(self, directory: str, whole: bool) -> None:
        """Write down the state, while the agent's CLI loads."""
        self._snapshot = Deferred.fromCoroutine(self._look(directory, whole))

    async def begun(self) -> None:
        """The state is written down, or can't be: from now on the agent may change it."""
        seen: Deferred[None] = Deferred()

        def tell(found: Any) -> Any:
            seen.callback(None)
            return found

        if self._snapshot is not None:
            self._snapshot.addBoth(tell)
            await seen

    async def _look(self, directory: str, whole: bool) -> Snapshot | None:
        try:
            return await self._worktrees.begin(directory, whole)
        except (TaskFailed, OSError) as error:
            self._untold(error)
            return None

    def _untold(self, error: object) -> None:
        self._notice(f"what changes in the repository is not told: {error}")

    async def end(self, patch: str) -> DiffStat | None:
        """What changed; the patch goes to a file. None: nothing, or nothing that can be told."""
        waiting, self._snapshot = self._snapshot, None
        snapshot = None if waiting is None else await waiting
        if snapshot is None:
            return None
        try:
            return await self._worktrees.compare(snapshot, patch)
        except (TaskFailed, OSError) as error:
            self._untold(error)
            return None
        finally:
            await self._worktrees.forget(snapshot)

    def give_up(self) -> None:
        """Nobody wants to know: forget it once it is there."""
        if self._snapshot is not None:
            self._snapshot.addCallback(self._forget)
            self._snapshot.addErrback(lambda failure: self.log.failure("a state could not be forgotten", failure))

    def _forget(self, snapshot: Snapshot | None) -> Deferred[None] | None:
        return None if snapshot is None else Deferred.fromCoroutine(self._worktrees.forget(snapshot))


def own_settings(listed: str) -> list[str]:
    """The names of settings that a repository has itself, of what ``git config --null --show-scope`` lists."""
    words = listed.split("\0")
    return [name for scope, name in zip(words[::2], words[1::2], strict=False) if scope in ("local", "worktree")]


def without_filters(own: list[str]) -> list[tuple[str, str]]:
    """Settings that undo a repository's own filters (the user's, for example of git-lfs, stay)."""
    names = sorted({name.rpartition(".")[0] for name in own if name.startswith("filter.") and name.count(".") >= 2})
    undone = (("clean", ""), ("smudge", ""), ("process", ""), ("required", "false"))
    return [(f"{name}.{key}", value) for name in names for key, value in undone]


def _unlink(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
