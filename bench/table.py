"""What a row of the table is: a figure beside its yardstick's, and whether the goal was met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

HEADS = ("row", "measured", "yardstick", "ratio", "goal", "", "older program", "n, spread, remarks")


class BenchError(Exception):
    """A row can't be measured; the text says why."""


@frozen
class Goal:
    """A bound that a figure must keep: ``≤ 0.35 ×``."""

    sign: str
    bound: float
    unit: str = "×"

    def met(self, value: float) -> bool:
        """Whether ``value`` keeps it."""
        return value <= self.bound if self.sign == "≤" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g} {self.unit}"


def at_most(bound: float, unit: str = "×") -> Goal:
    """No more than that."""
    return Goal("≤", bound, unit)


def at_least(bound: float, unit: str = "×") -> Goal:
    """No less than that."""
    return Goal("≥", bound, unit)


@frozen(kw_only=True)
class Result:
    """One line of the table. ``value`` is what the goal bounds; None: not measured (``remarks`` says why)."""

    row: str
    measured: str = "–"
    yardstick: str = "–"
    value: float | None = None
    goal: Goal | None = None
    older: str = "–"
    remarks: str = ""

    @property
    def ok(self) -> bool:
        """Measured, and within the goal."""
        return self.value is not None and self.goal is not None and self.goal.met(self.value)

    def cells(self) -> Sequence[str]:
        """As they stand under HEADS."""
        if self.value is None or self.goal is None:
            figure, goal, verdict = "–", str(self.goal or "–"), "?"
        else:
            figure, goal, verdict = f"{self.value:.3g} {self.goal.unit}", str(self.goal), "ok" if self.ok else "MISS"
        return (self.row, self.measured, self.yardstick, figure, goal, verdict, self.older, self.remarks)


def markdown(results: Iterable[Result]) -> str:
    """The table, its columns in line, so that it reads well in a terminal too."""
    rows = [HEADS, *(result.cells() for result in results)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
