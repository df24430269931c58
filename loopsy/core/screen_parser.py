"""What a program writes to its terminal, taken apart: text, control characters and control sequences (ECMA-48, xterm).

pyte's own parser shows what it doesn't know as text (DCS, the ``>`` of ``CSI > 4 ; 2 m``), keeps strings of any length
and fails on numbers of 5,000 digits; a program may write anything, so what reaches pyte is chosen and bounded here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

HELD = 256
"""Characters of a sequence that isn't whole yet, kept for whoever comes in its midst; longer ones mean nothing."""
NUMBER_MAX = 9999
TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
CSI = re.compile(r"(?:\x1b\[|\x9b)([<-?]?)([0-9;:]{0,128})([ -/]{0,4})([@-~])")
CSI_BEGUN = re.compile(r"(?:\x1b\[|\x9b)[<-?]?[0-9;:]{0,128}[ -/]{0,4}$")
NONSENSE = re.compile(r"(?:\x1b\[|\x9b)[ -?]*")
ESCAPE = re.compile(r"\x1b([ -/]{0,4})([0-Z\\`-~])")
ESCAPE_BEGUN = re.compile(r"\x1b[ -/]{0,4}$")
STRING = re.compile(r"\x1b[\]PX^_]|[\x90\x98\x9d-\x9f]")
"""OSC (titles, colours, links), DCS, SOS, PM, APC: nothing of them is on the screen."""
OSC_END = re.compile(r"[\x07\x18\x1a\x9c\x1b]")
OTHER_END = re.compile(r"[\x18\x1a\x9c\x1b]")
C1 = {"\x84": "D", "\x85": "E", "\x88": "H", "\x8d": "M"}


class Display(Protocol):
    """What the parts act on."""

    def draw(self, text: str) -> None:
        """Characters to show."""

    def control(self, char: str) -> None:
        """A control character."""

    def escape(self, between: str, final: str) -> None:
        """``ESC between final``."""

    def csi(self, prefix: str, parameters: Sequence[str], between: str, final: str) -> None:
        """``CSI prefix parameters between final``."""


class Parser:
    """Takes text in any pieces."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self.unfinished = ""
        """The begin of a sequence whose end has not come."""
        self._string_end: re.Pattern[str] | None = None

    def feed(self, text: str) -> None:
        """Some more."""
        at = 0
        if self._string_end is not None:
            at = self._pass_string(text, 0)
        elif self.unfinished:
            text, self.unfinished = self.unfinished + text, ""
        while at < len(text):
            at = self._next(text, at)

    def _next(self, text: str, at: int) -> int:
        found = TEXT.match(text, at)
        if found is not None:
            self._display.draw(found[0])
            return found.end()
        char = text[at]
        if char < "\x1b" or "\x1b" < char <= "\x7f":
            self._display.control(char)
            return at + 1
        return self._sequence(text, at)

    def _sequence(self, text: str, at: int) -> int:
        found = CSI.match(text, at)
        if found is not None:
            self._display.csi(found[1], found[2].split(";"), found[3], found[4])
            return found.end()
        string = STRING.match(text, at)
        if string is not None:
            self._string_end = OSC_END if string[0] in ("\x1b]", "\x9d") else OTHER_END
            self.unfinished = string[0]
            return self._pass_string(text, string.end())
        if CSI_BEGUN.match(text, at) or ESCAPE_BEGUN.match(text, at):
            self.unfinished = text[at:]
            return len(text)
        found = ESCAPE.match(text, at)
        if found is not None and found[2] != "[":
            self._display.escape(found[1], found[2])
            return found.end()
        if text[at] in C1:
            self._display.escape("", C1[text[at]])
        return self._after_nonsense(text, at)

    @staticmethod
    def _after_nonsense(text: str, at: int) -> int:
        """What follows the introducer of a sequence that can't be one."""
        found = NONSENSE.match(text, at)
        return found.end() if found is not None else at + 1

    def _pass_string(self, text: str, at: int) -> int:
        assert self._string_end is not None
        end = self._string_end.search(text, at)
        if end is None:
            self.unfinished = (self.unfinished + text[at : at + HELD])[:HELD]
            return len(text)
        self._string_end, self.unfinished = None, ""
        return end.start() if end[0] == "\x1b" else end.end()  # ESC \ is an escape that does nothing

    def forget(self) -> None:
        """What was begun does not go on: some of the output is left out here."""
        self._string_end, self.unfinished = None, ""


def numbers(parameters: Sequence[str], at_most: int) -> list[int]:
    """The first parameters as numbers; 0 where nothing stands."""
    return [_number(text.partition(":")[0]) for text in parameters[:at_most]]


def _number(text: str) -> int:
    return min(int(text[:9]), NUMBER_MAX) if text else 0


def colours(parameters: Sequence[str]) -> list[int]:
    """The parameters of SGR in the forms that pyte knows: colons resolved, underline colours left out."""
    flat: list[int] = []
    for text in parameters:
        flat += _with_colons(text) if ":" in text else [_number(text)]
    found: list[int] = []
    at = 0
    while at < len(flat):
        code = flat[at]
        length = 1
        if code in (38, 48, 58):
            length = {5: 3, 2: 5}.get(flat[at + 1] if at + 1 < len(flat) else -1, 1)
            found += _colour(flat[at : at + length], length)
        else:
            found.append(code)
        at += length
    return found


def _with_colons(text: str) -> list[int]:
    parts = [_number(part) for part in text.split(":")]
    if parts[0] in (38, 48, 58):
        return parts[:3] if parts[1] == 5 else [parts[0], 2, *parts[-3:]] if len(parts) >= 5 else []
    if parts[0] == 4:
        return [24 if parts[1] == 0 else 4]
    return []


def _colour(codes: list[int], length: int) -> list[int]:
    """The first sixteen of the palette are those with names: they follow the viewer's own theme."""
    if length == 1 or len(codes) < length or codes[0] == 58 or max(codes[2:]) > 255:
        return []
    if length == 3 and codes[2] < 16:
        base = 30 if codes[0] == 38 else 40
        return [base + codes[2] if codes[2] < 8 else base + 60 + codes[2] - 8]
    return codes
