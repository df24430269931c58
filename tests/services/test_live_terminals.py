"""A terminal's viewers on a clock of the test's own: who is painted what, who holds back whom."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from loopsy.services.live_terminals import FIRST_BYTES, PATIENCE_S, LiveTerminal
from loopsy.wire.terminals import Terminal


class Process:
    """A program."""

    def __init__(self) -> None:
        self.is_paused = False
        self.done: list[Any] = []

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def resize(self, *size: int) -> None:
        self.done.append(size)

    def write(self, data: bytes) -> None:
        self.done.append(data)


class Viewer:
    """Notes what it is shown and told."""

    def __init__(self, mode: str = "write") -> None:
        self.mode = mode
        self.seen: list[Any] = []

    def show(self, data: bytes) -> None:
        self.seen.append(data)

    def tell(self, **words: Any) -> None:
        self.seen.append(words["type"])

    def hold(self, is_held: bool) -> None:
        self.seen.append(("hold", is_held))

    def end(self) -> None:
        self.seen.append("end")


def made() -> tuple[LiveTerminal, Clock, Process]:
    info = Terminal(terminal_id="t", title="t", command="sh", args=(), cwd="/", pid=1, cols=20, rows=5, started_at=0,
                    last_activity=0, viewers=0, from_="local")  # fmt: skip
    clock = Clock()
    live = LiveTerminal(clock, info, 1000, lambda _: None)
    live.process = Process()
    return live, clock, live.process


def test_the_first_gets_what_was_printed_and_the_next_a_repaint() -> None:
    live, clock, process = made()
    live.printed(b"a\x1b[6n")
    first, second = Viewer(), Viewer()
    live.join(first, None)
    assert process.is_paused
    clock.advance(0)
    assert first.seen == ["hello", b"a\x1b[6n"]
    live.join(second, None)
    clock.advance(0)
    assert second.seen[0] == "hello"
    assert second.seen[1].startswith(b"\x1bc")
    assert b"[6n" not in second.seen[1]
    assert first.seen[2:] == ["viewers"]
    assert not process.is_paused


def test_after_much_output_the_first_gets_a_repaint_too() -> None:
    live, clock, _ = made()
    live.printed(b"x" * (FIRST_BYTES + 1))
    viewer = Viewer()
    live.join(viewer, None)
    clock.pump([0.0] * 5)
    assert viewer.seen[1].startswith(b"\x1bc")


def test_a_slow_writer_holds_back_for_ten_seconds_and_a_watcher_never() -> None:
    live, clock, process = made()
    writer, watcher = Viewer(), Viewer("watch")
    seats = [live.join(viewer, None) for viewer in (writer, watcher)]
    clock.advance(0)
    live.slow(seats[1])
    assert not process.is_paused
    live.slow(seats[0])
    assert process.is_paused
    clock.advance(PATIENCE_S + 1)
    assert not process.is_paused
    seen = list(writer.seen)
    live.printed(b"missed")
    assert writer.seen == seen
    live.ready(seats[0])
    clock.advance(0)
    assert writer.seen[len(seen)] == "skipped"
    assert b"missed" in writer.seen[-1]


def test_who_is_slow_is_told_the_last_of_each_kind() -> None:
    live, clock, process = made()
    writer, slow = Viewer(), Viewer("watch")
    live.join(writer, None)
    seat = live.join(slow, None)
    clock.advance(0)
    live.slow(seat)
    before = len(slow.seen)
    for columns in range(10, 1000):
        live.resize(columns, 5)
    assert len(slow.seen) == before
    live.ready(seat)
    assert slow.seen[before:] == ["resize"]
    assert process.done[-1] == (999, 5)


def test_who_types_waits_while_the_program_takes_nothing() -> None:
    live, clock, _ = made()
    writer, watcher, late = Viewer(), Viewer("watch"), Viewer()
    for viewer in (writer, watcher):
        live.join(viewer, None)
    live.full(True)
    live.join(late, None)
    live.full(False)
    clock.advance(0)
    assert [word for word in writer.seen if isinstance(word, tuple)] == [("hold", True), ("hold", False)]
    assert ("hold", True) in late.seen
    assert not [word for word in watcher.seen if isinstance(word, tuple)]


def test_all_see_the_end_once_also_who_comes_after_it() -> None:
    live, clock, _ = made()
    seen, unpainted, late = Viewer(), Viewer(), Viewer()
    live.join(seen, None)
    clock.advance(0)
    live.join(unpainted, None)
    live.printed(b"bye")
    live.ended(0, None)
    live.join(late, None)
    clock.pump([0.1] * 5)
    for viewer in (seen, unpainted, late):
        assert [word for word in viewer.seen if word != "viewers"][-2:] == ["exit", "end"]
        assert viewer.seen.count("exit") == 1
        assert any(b"bye" in word for word in viewer.seen if isinstance(word, bytes))
    live.close()
    assert not clock.getDelayedCalls()
