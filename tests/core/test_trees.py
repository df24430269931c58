"""Trees: whatever two there are, the plan makes one equal to the other."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from loopsy.core import trees
from loopsy.core.trees import BATCH_BYTES, BATCH_FILES, SMALL, Plan, Rules, check, plan
from loopsy.errors import InvalidRequest, LoopsyError, PathDenied, TransferFailed
from loopsy.wire.transfer import DIRECTORY, FILE, OTHER, SYMLINK, ManifestEntry

NAMES = st.sampled_from(["a", "b", "a!", "a b", "-n", "x\ny", "z\udcff"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
SIZES = st.sampled_from([0, 1, 4096, SMALL, SMALL + 1, 3 * SMALL])
TIMES = st.sampled_from([0, 10**18, 10**18 + 1, 10**18 + 5 * 10**8])
Tree = dict[str, ManifestEntry]


@st.composite
def entries(draw: st.DrawFn, path: str) -> ManifestEntry:
    kind = draw(st.sampled_from([FILE, FILE, FILE, DIRECTORY, SYMLINK]))
    mode, mtime_ns = draw(st.sampled_from([0o600, 0o644, 0o755])), draw(TIMES)
    if kind == FILE:
        size = draw(SIZES)
        content = f"{size}-{draw(st.integers(0, 1))}"
        return ManifestEntry(path=path, type=FILE, size=size, mode=mode, mtime_ns=mtime_ns, checksum=content)
    if kind == SYMLINK:
        return ManifestEntry(path=path, type=SYMLINK, target=draw(NAMES), mode=0o777)
    return ManifestEntry(path=path, type=DIRECTORY, mode=mode, mtime_ns=mtime_ns)


@st.composite
def whole_trees(draw: st.DrawFn) -> Tree:
    tree = {"": ManifestEntry(path="", type=DIRECTORY, mode=0o755, mtime_ns=draw(TIMES))}
    for path in draw(st.lists(PATHS, max_size=8, unique=True)):
        above = ["/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 1)]
        if path in tree or any(directory in tree and tree[directory].type != DIRECTORY for directory in above):
            continue
        for directory in above:
            tree.setdefault(directory, ManifestEntry(path=directory, type=DIRECTORY, mode=0o755))
        tree[path] = draw(entries(path))
    return tree


def applied(tree: Tree, found: Plan) -> Tree:
    """What a plan does to a tree, refusing what no file system would take."""
    now = dict(tree)

    def put(entry: ManifestEntry) -> None:
        above = trees.parent(entry.path)
        assert entry.path == "" or (above in now and now[above].type == DIRECTORY), f"nothing to put {entry.path} into"
        old = now.get(entry.path)
        assert old is None or DIRECTORY not in (old.type, entry.type), f"{entry.path} is in the way"
        now[entry.path] = entry
        if entry.path:
            now[above] = evolve(now[above], mtime_ns=-1)  # its time changed

    for entry in found.remove:
        assert not any(trees.parent(path) == entry.path for path in now if path), f"{entry.path} is not empty"
        del now[entry.path]
        above = trees.parent(entry.path)
        now[above] = evolve(now[above], mtime_ns=-1)
    for batch in found.batches:
        for entry in batch:
            put(entry)
    for entry in found.large:
        put(entry)
    for entry in (*found.mend, *found.directories):
        assert now[entry.path].type == entry.type
        now[entry.path] = evolve(now[entry.path], mode=entry.mode, mtime_ns=entry.mtime_ns)
    return now


def alike(one: ManifestEntry, other: ManifestEntry, rules: Rules) -> bool:
    if one.type != other.type:
        return False
    if one.type != DIRECTORY and not trees.same_content(one, other, rules):
        return False
    return one.type == SYMLINK or trees.same_attributes(one, other)


@given(whole_trees(), whole_trees(), st.booleans())
def test_the_plan_of_any_two_trees_makes_them_equal(source: Tree, there: Tree, checksum: bool) -> None:
    rules = Rules(delete=True, checksum=checksum)
    found = plan(source.values(), there.values(), rules)
    now = applied(there, found)
    assert set(now) == set(source)
    assert all(alike(source[path], now[path], rules) for path in source)
    assert plan(source.values(), now.values(), rules).is_empty


@given(whole_trees(), whole_trees())
def test_without_delete_nothing_is_lost_that_the_source_does_not_name(source: Tree, there: Tree) -> None:
    try:
        found = plan(source.values(), there.values(), Rules())
    except TransferFailed:
        assert any(there[path].type == DIRECTORY != source[path].type for path in source if path in there)
        return
    now = applied(there, found)
    assert set(now) == set(source) | set(there)
    assert found.deleted == 0
    assert all(alike(source[path], now[path], Rules()) for path in source)


@given(whole_trees(), st.booleans())
def test_nothing_is_done_to_an_equal_tree(tree: Tree, checksum: bool) -> None:
    found = plan(tree.values(), tree.values(), Rules(delete=True, checksum=checksum))
    assert found.is_empty
    assert found.skipped == sum(entry.type != DIRECTORY for entry in tree.values())


@given(st.lists(st.tuples(NAMES, SIZES), max_size=60))
def test_batches_are_bounded_and_keep_the_order(files: list[tuple[str, int]]) -> None:
    made = [ManifestEntry(path=f"{at}{name}", type=FILE, size=size) for at, (name, size) in enumerate(files)]
    groups = list(trees.batches(made))
    assert [entry for group in groups for entry in group] == made
    assert all(len(group) <= BATCH_FILES for group in groups)
    assert all(sum(e.size for e in group) <= BATCH_BYTES or len(group) == 1 for group in groups)


def test_devices_and_their_like_are_told_and_left_alone() -> None:
    fifo = ManifestEntry(path="f", type=OTHER)
    there = ManifestEntry(path="f", type=FILE, size=1)
    found = plan([fifo], [there], Rules(delete=True))
    assert found.odd == (fifo,)
    assert found.is_empty


def test_a_directory_makes_way_for_a_file_only_with_delete() -> None:
    file = ManifestEntry(path="x", type=FILE, size=1)
    there = [ManifestEntry(path="x", type=DIRECTORY), ManifestEntry(path="x/y", type=FILE)]
    with pytest.raises(TransferFailed, match="a directory there"):
        plan([file], there, Rules())
    assert [entry.path for entry in plan([file], there, Rules(delete=True)).remove] == ["x/y", "x"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (10**18 + 123456789, 10**18 + 123456789, True),
        (10**18 + 123456789, 10**18 + 123456000, True),
        (10**18 + 123456789, 10**18, True),
        (10**18 + 123456789, 10**18 + 10**9, False),
        (10**18 + 123456789, 10**18 + 223456789, False),
    ],
)
def test_times_are_compared_as_finely_as_both_are_kept(one: int, other: int, same: bool) -> None:
    assert trees.same_time(one, other) is same


@pytest.mark.parametrize(
    ("path", "patterns", "out"),
    [
        ("node_modules", ("node_modules",), True),
        ("a/node_modules", ("node_modules",), True),
        ("a/x.pyc", ("*.pyc",), True),
        ("a/b/c", ("a/b/*",), True),
        ("a/b", ("b/*",), False),
        ("A", ("a",), False),
    ],
)
def test_what_is_excluded(path: str, patterns: tuple[str, ...], out: bool) -> None:
    assert trees.excluded(path, patterns) is out


@pytest.mark.parametrize(
    ("entries", "error"),
    [
        ([("", DIRECTORY), ("a", DIRECTORY), ("a/b", FILE), ("a/c", SYMLINK), ("d", "other")], None),
        ([("", DIRECTORY), ("../a", FILE)], PathDenied),
        ([("", DIRECTORY), ("/a", FILE)], PathDenied),
        ([("", DIRECTORY), ("a", FILE), ("a", FILE)], InvalidRequest),
        ([("", DIRECTORY), ("a", SYMLINK), ("a/b", FILE)], InvalidRequest),
        ([("", DIRECTORY), ("a/b", FILE), ("a", DIRECTORY)], InvalidRequest),
        ([("", DIRECTORY), ("a", "deleted")], InvalidRequest),
        ([("", SYMLINK)], InvalidRequest),
        ([("a", FILE)], InvalidRequest),
    ],
)
def test_a_manifest_is_a_tree(entries: list[tuple[str, str]], error: type[LoopsyError] | None) -> None:
    told = [ManifestEntry(path=path, type=kind) for path, kind in entries]
    with pytest.raises(error) if error is not None else nullcontext():
        check(told)
