"""Walking to a place under a policy: links, races, and what is no plain file. Then writing there."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.config import Transfer
from loopsy.core.transfer import PathPolicy, split
from loopsy.errors import FileMissing, LoopsyError, PathDenied, StorageFull, TransferFailed
from loopsy.store import directory, files, walk
from loopsy.store.files import Part, open_plain
from loopsy.store.plain_directory import PlainDirectory


@pytest.fixture(params=["descriptors", "paths"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of directory."""
    if request.param == "paths":
        monkeypatch.setattr(directory, "HAS_DESCRIPTORS", False)
    return str(request.param)


@pytest.fixture
def farm(tmp_path: Path) -> Path:
    """``in`` is allowed, ``in/no`` denied, ``out`` and ``inner`` (whose name begins like it) are outside."""
    for name in ("in/d", "in/no", "out", "inner"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("in/f", "in/d/f", "in/no/f", "out/f", "inner/f"):
        (tmp_path / name).write_text(name)
    return tmp_path


def policy(farm: Path, *, everywhere: bool = False) -> PathPolicy:
    config = Transfer(allowed_paths=(f"{farm}/in",), denied_paths=(f"{farm}/in/no",))
    return walk.policy(config, str(farm), f"{farm}/data", everywhere=everywhere)


def content(farm: Path, path: str, *, everywhere: bool = False) -> str:
    with walk.find(policy(farm, everywhere=everywhere), split(f"{farm}/{path}")) as place:
        descriptor = open_plain(place.directory, place.name, place.parts)
        with open(descriptor) as file:
            return file.read()


def test_what_is_allowed_is_found(farm: Path, way: str) -> None:
    (farm / "in/l").symlink_to("d/f")
    (farm / "in/a").symlink_to(farm / "in/d")
    (farm / "back").symlink_to("in")
    for path in ("in/f", "in/d/../f", "in/l", "in/a/f", "in/d/../a/../f", "back/f", "out/../in/f"):
        assert content(farm, path).startswith("in/")


LINKS = [
    ("in/x", "../out"), ("in/x", "{}/out"), ("in/x", "no"), ("in/x", "d/../no"), ("in/x", "y"), ("in/x", "../inner"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "target"), LINKS)
def test_what_leads_out_is_denied_whether_or_not_it_is_there(farm: Path, way: str, name: str, target: str) -> None:
    (farm / "in/y").symlink_to("../out")
    (farm / name).symlink_to(target.format(farm))
    for path in ("f", "nothing", "nothing/nothing"):
        with pytest.raises(PathDenied):
            content(farm, f"{name}/{path}")
    with pytest.raises(PathDenied):
        walk.find(policy(farm), split(f"{farm}/{name}/new/new"), make=True)
    assert not (farm / "out/new").exists()


@pytest.mark.parametrize("path", ["out/f", "in/../out/f", "inner/f", "in/no/f", "in/no", "", "in/d/../../out/f", ".."])
def test_what_lies_outside_is_denied(farm: Path, way: str, path: str) -> None:
    with pytest.raises(PathDenied):
        content(farm, path)
    with pytest.raises(PathDenied):
        content(farm, path + "/nothing")


def test_the_machines_own_user_is_held_by_denied_paths_alone(farm: Path, way: str) -> None:
    assert content(farm, "out/f", everywhere=True) == "out/f"
    with pytest.raises(PathDenied):
        content(farm, "in/no/f", everywhere=True)


def test_a_denied_directory_by_another_name_is_denied(farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that doesn't tell cases apart, or behind a mount."""
    found = policy(farm)
    (farm / "in/no").rename(farm / "in/NO")
    with pytest.raises(PathDenied):
        walk.find(found, split(f"{farm}/in/NO/f"))
    with pytest.raises(PathDenied):
        walk.find(found, split(f"{farm}/in/NO"))


def test_endless_links_end(farm: Path, way: str) -> None:
    (farm / "in/loop").symlink_to("loop")
    (farm / "in/p").symlink_to("p/p/p")
    for path in ("in/loop", "in/p/x"):
        with pytest.raises(PathDenied):
            content(farm, path)
    with pytest.raises(PathDenied):
        content(farm, "in/" + "d/../" * 5000 + "f")


def test_what_is_missing_is_missing(farm: Path, way: str) -> None:
    for path in ("in/nothing", "in/nothing/x", "in/f/x"):
        with pytest.raises(FileMissing):
            content(farm, path)


def test_what_is_no_plain_file_is_refused_at_once(farm: Path, way: str) -> None:
    os.mkfifo(farm / "in/fifo")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(farm / "in/socket"))
    bound.close()
    for name in ("fifo", "socket"):
        with pytest.raises(PathDenied):
            content(farm, f"in/{name}")
    with pytest.raises(TransferFailed):
        content(farm, "in/d")
    with pytest.raises(PathDenied), walk.find(policy(farm, everywhere=True), ("dev", "null")) as place:
        open_plain(place.directory, place.name, place.parts)


STEP = st.sampled_from(["in", "out", "no", "d", "f", "..", "l0", "l1", "l2", "l3", ".", "x"])


@given(
    links=st.lists(
        st.tuples(
            st.sampled_from(["in", "in/d", "out", "in/no"]), st.lists(STEP, min_size=1, max_size=4), st.booleans()
        ),
        max_size=4,
    ),
    path=st.lists(STEP, min_size=1, max_size=6),
)
def test_no_farm_of_links_leads_out(tmp_path_factory: pytest.TempPathFactory, links: list, path: list[str]) -> None:
    """Whatever is found is what the system's own resolution says, and that is allowed. (A dot is nothing to us, also
    behind a file, where the system says that this is no directory.)"""
    farm = tmp_path_factory.mktemp("farm")
    for name in ("in/d", "in/no", "out"):
        (farm / name).mkdir(parents=True)
    for name in ("in/f", "in/d/f", "in/no/f", "out/f"):
        (farm / name).write_text("x")
    for number, (where, target, absolute) in enumerate(links):
        text = "/".join(target)
        (farm / where / f"l{number}").symlink_to(f"{farm}/{text}" if absolute else text)
    wanted = f"{farm}/in/" + "/".join(path)
    try:
        with walk.find(policy(farm), split(wanted)) as place:
            dotless = f"{farm}/in/" + "/".join(step for step in path if step != ".")
            assert place.status is None or os.path.samestat(place.status, os.stat(dotless))
            assert "/" + "/".join(place.parts) == os.path.realpath(wanted)
            assert lies_in(place.parts, farm / "in")
            assert not lies_in(place.parts, farm / "in/no")
    except (PathDenied, FileMissing):
        pass


def lies_in(parts: tuple[str, ...], root: Path) -> bool:
    return parts[: len(root.parts) - 1] == root.parts[1:]


def test_a_directory_that_is_exchanged_for_a_link_all_the_time_never_leads_out(farm: Path) -> None:
    stop = threading.Event()

    def exchange() -> None:
        os.rename(farm / "in/d", farm / "in/real")
        while not stop.is_set():
            os.symlink("../out", farm / "in/d")
            os.unlink(farm / "in/d")
            os.rename(farm / "in/real", farm / "in/d")
            os.rename(farm / "in/d", farm / "in/real")

    thread = threading.Thread(target=exchange)
    thread.start()
    seen = set()
    try:
        for _ in range(3000):
            try:
                seen.add(content(farm, "in/d/f"))
            except LoopsyError as error:
                seen.add(type(error).__name__)
    finally:
        stop.set()
        thread.join()
    assert seen <= {"in/d/f", "PathDenied", "FileMissing", "TransferFailed"}


# -- writing ----------------------------------------------------------------------------------------------------------
@pytest.fixture(params=["unnamed", "named"])
def part(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Part]:
    made = getattr(Part, request.param)(walk.open_directory(str(tmp_path)))
    yield made
    made.discard()


def test_a_part_is_put_in_its_place_whole(part: Part, tmp_path: Path) -> None:
    part.write([b"one", b"", b"two"] * 2000)
    assert [path.name for path in tmp_path.iterdir()] == ([part.name] if part.name else [])
    part.publish("f", 0o4755, 10**18 + 5)
    status = (tmp_path / "f").stat()
    assert (tmp_path / "f").read_bytes() == b"onetwo" * 2000
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o755, 10**18 + 5)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_over_an_old_file_the_mode_stays(part: Part, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o640)
    part.write([b"new"])
    assert (tmp_path / "f").read_text() == "old"
    part.publish("f", None, None)
    assert ((tmp_path / "f").read_text(), (tmp_path / "f").stat().st_mode & 0o7777) == ("new", 0o640)


def test_a_new_file_is_as_open_as_the_umask_lets_it(part: Part, tmp_path: Path) -> None:
    part.publish("f", None, None)
    assert (tmp_path / "f").stat().st_mode & 0o7777 == 0o666 & ~files.umask()


def test_a_link_in_the_place_is_replaced_not_followed(part: Part, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("v")
    (tmp_path / "f").symlink_to("victim")
    part.write([b"new"])
    part.publish("f", None, None)
    assert ((tmp_path / "victim").read_text(), (tmp_path / "f").read_text()) == ("v", "new")


def test_a_directory_in_the_place_stays_and_nothing_is_left(part: Part, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(OSError):
        part.publish("f", None, None)
    part.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_what_is_discarded_leaves_nothing(part: Part, tmp_path: Path) -> None:
    part.write([b"x"])
    part.discard()
    part.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_gone_on_with_unless_it_is_another_file(tmp_path: Path) -> None:
    first = Part.named(walk.open_directory(str(tmp_path)))
    first.write([b"abc"])
    name, which = first.name, first.identity
    assert name is not None
    first.close()
    again = Part.again(walk.open_directory(str(tmp_path)), name, which, 10)
    again.write([b"def"])
    assert (again.size, again.checksum) == (6, __import__("hashlib").sha256(b"abcdef").hexdigest())
    again.close()
    for expected, longest in (((which[0], which[1] + 1), 10), (which, 5)):
        with walk.open_directory(str(tmp_path)) as where, pytest.raises(FileMissing):
            Part.again(where, name, expected, longest)


def test_rewinding_forgets(tmp_path: Path) -> None:
    part = Part.named(walk.open_directory(str(tmp_path)))
    part.write([b"abc"])
    size, hash_then = part.size, part.hash.copy()
    part.write([b"wrong"])
    part.rewind(size, hash_then)
    part.write([b"d"])
    part.publish("f", None, None)
    assert (tmp_path / "f").read_bytes() == b"abcd"


def test_a_full_disk_is_told() -> None:
    assert isinstance(walk.told(OSError(errno.ENOSPC, "No space left on device"), ("x",)), StorageFull)


def test_a_part_moves_to_another_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for make in (Part.unnamed, Part.named):
        part = make(walk.open_directory(str(tmp_path / "a")))
        part.write([b"x"])
        place = walk.Place(walk.open_directory(str(tmp_path / "b")), "f", (), None)
        files.moved(part, place).publish("f", None, None)
        assert (tmp_path / "b/f").read_bytes() == b"x"
        assert list((tmp_path / "a").iterdir()) == []
    part = Part.unnamed(walk.open_directory("/dev/shm"))
    part.write([b"y" * 3_000_000])
    files.moved(part, walk.Place(walk.open_directory(str(tmp_path / "b")), "g", (), None)).publish("g", None, None)
    assert (tmp_path / "b/g").stat().st_size == 3_000_000


def test_both_kinds_of_directory_agree(farm: Path) -> None:
    with walk.open_directory(str(farm)) as one, PlainDirectory(str(farm)) as other:
        assert one.names() == other.names()
        assert one.free() > 0 < other.free()
        assert one.is_readable("in") == other.is_readable("in") == True  # noqa: E712
