"""Rules that answer an approval before a person is asked: ``allow|deny [agent:]Tool(pattern)``.

``*`` stands for any characters, ``\\`` takes the next one as it is. An *allow* rule is narrow: a command with shell
operators, or with stars that may lead to loopsy's own data directory, fits it only as literally the same text, a path
must lie in the task's directory unless the pattern is absolute, and nothing that touches that data directory ever fits.
A *deny* rule is wide: it also fits a part of a command between operators. What no rule fits is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from posixpath import basename, commonpath, join, normpath, relpath

from attrs import evolve, frozen

from loopsy.errors import InvalidRequest
from loopsy.wire.tasks import RULE_SHAPE

ALLOW, DENY = "allow", "deny"
OPERATORS = re.compile(r"[;&|`<>()\x00-\x1f\x7f]|\$[({\[]")
"""What lets a shell do more than its first word says. ``(`` too: zsh runs what a glob's qualifier names."""
QUOTES, BETWEEN_WORDS = re.compile(r"[\\'\"]"), re.compile(r"[\s=:]+")
GLOB, BRACES = re.compile(r"[*?\[{}]"), re.compile(r"\{.*\}|\{.*|.*\}")
LONGEST_PART = 255
"""Of a path: longer than any name."""
PIECE = re.compile(r"\\(.)|(\*+)|([^\\*]+)|(\\)$", re.DOTALL)

Resolve = Callable[[str], str]
"""From a path as the agent wrote it to where it leads: absolute, links followed, no ``..``."""


@frozen(kw_only=True)
class Use:
    """What an agent wants to do, as rules see it."""

    agent: str
    tool: str
    kind: str
    target: str | None
    """The command, the path or the address; None: this tool has none that we know."""
    cwd: str
    """Resolved."""
    data_dir: str
    """Resolved."""


@frozen(kw_only=True)
class Rule:
    """One rule."""

    text: str
    verb: str
    agent: str | None
    tool: str
    pattern: str | None

    @property
    def allows(self) -> bool:
        """Whether it lets through."""
        return self.verb == ALLOW


def parse(text: str) -> Rule:
    """A rule from its text.

    :raises InvalidRequest: it is none.
    """
    found = RULE_SHAPE.fullmatch(text.strip())
    if found is None:
        raise InvalidRequest(
            f"{text[:80]!r} is no rule", hint="allow|deny [agent:]Tool(pattern), for example: allow Bash(npm test *)"
        )
    verb, agent, tool, pattern = found.groups()
    return Rule(text=text.strip(), verb=verb, agent=agent, tool=tool, pattern=pattern)


def decide(rules: Iterable[Rule], use: Use, resolve: Resolve) -> Rule | None:
    """The first rule that fits, or None: ask."""
    return next((rule for rule in rules if fits(rule, use, resolve)), None)


def decide_all(rules: Sequence[Rule], uses: Sequence[Use], resolve: Resolve) -> Rule | None:
    """The rule that decides over a use of several targets: one that denies any of them, or allows each (the last of
    those that do); None: ask."""
    found = [decide(rules, use, resolve) for use in uses]
    denying = next((rule for rule in found if rule is not None and not rule.allows), None)
    return denying if denying is not None or None in found else found[-1]


def fits(rule: Rule, use: Use, resolve: Resolve) -> bool:
    """Whether a rule speaks of this use."""
    if rule.agent not in (None, use.agent) or not _matches(rule.tool, use.tool):
        return False
    if use.kind in ("edit", "read"):
        return _fits_path(rule, use, resolve)
    if use.kind == "command":
        return _fits_command(rule, use)
    if use.target is None:
        return rule.pattern is None or not rule.allows
    return rule.pattern is None or _matches(rule.pattern, use.target)


def _fits_command(rule: Rule, use: Use) -> bool:
    command = use.target
    if command is None:
        return not rule.allows
    pattern = "*" if rule.pattern is None else rule.pattern
    if not rule.allows:
        return any(_matches(pattern, part) for part in (command, *parts_of(command)))
    if touches(command, use):
        return False
    if OPERATORS.search(command) or may_reach(command, use):
        return literal(pattern) == command
    return _matches(pattern, command)


def _fits_path(rule: Rule, use: Use, resolve: Resolve) -> bool:
    if use.target is None:
        return not rule.allows
    path = resolve(use.target)
    if not rule.allows:
        shown = (use.target, path, _relative(path, use.cwd))
        return rule.pattern is None or any(_matches(rule.pattern, text) for text in shown)
    if _is_ours(path, use):
        return False
    if rule.pattern is not None and rule.pattern.startswith("/"):
        return _matches(rule.pattern, path)
    inside = lies_in(use.cwd, path)
    return inside and (rule.pattern is None or _matches(rule.pattern, _relative(path, use.cwd)))


def touches(command: str, use: Use) -> bool:
    """Whether a command speaks of our data directory (or is run in it), or may undo ``LOOPSY_TASK``; quotes and
    backslashes hide nothing."""
    ours, words = use.data_dir.casefold(), command.casefold()
    names = ("loopsy_", ours, *([basename(ours)] if basename(ours).startswith(".") else []))
    spelt = any(name in text for name in names for text in (words, QUOTES.sub("", words)))
    return spelt or lies_in(ours, use.cwd.casefold())


def may_reach(command: str, use: Use) -> bool:
    """Whether a shell may make a path to our data directory of a word with stars or braces, or of where it begins."""
    ours, cwd = use.data_dir.casefold(), use.cwd.casefold()
    return any(_leads_to(word, ours, cwd) for word in BETWEEN_WORDS.split(QUOTES.sub("", command.casefold())))


def _leads_to(word: str, ours: str, cwd: str) -> bool:
    """A home is not known here: a hidden name is enough."""
    wanted, given = ours.split("/"), normpath(join(cwd, word)).split("/")
    if len(given) >= len(wanted) and all(map(_may_be, given, wanted)):
        return True
    return wanted[-1].startswith(".") and any(GLOB.search(part) and _may_be(part, wanted[-1]) for part in given)


def _may_be(part: str, name: str) -> bool:
    """Whether a part of a path, with stars and braces, fits a name. A star alone makes no hidden one."""
    if not GLOB.search(part):
        return part == name
    if len(part) > LONGEST_PART:
        return True
    is_seen = part.startswith(".") or not name.startswith(".") or ("." in part and BRACES.search(part))
    return bool(is_seen) and fnmatchcase(name, BRACES.sub("*", part))


def _is_ours(path: str, use: Use) -> bool:
    """Whether a path is our data directory, in it, or a directory above it. Some systems don't tell case apart."""
    ours, path = use.data_dir.casefold(), path.casefold()
    return lies_in(ours, path) or lies_in(path, ours)


def lies_in(root: str, path: str) -> bool:
    """Whether an absolute path is ``root`` or below it."""
    return commonpath([root, path]) == root


def _relative(path: str, root: str) -> str:
    return relpath(path, root)


# -- patterns ---------------------------------------------------------------------------------------------------------
def _pieces(pattern: str) -> Iterator[str | None]:
    """Literal pieces, and None for each run of stars."""
    for escaped, stars, plain, last in PIECE.findall(pattern):
        yield None if stars else escaped or plain or last


def _matches(pattern: str, text: str) -> bool:
    """Whether the pattern is the whole text. The first place of each piece will do, so it is never slow."""
    pieces = list(_pieces(pattern))
    first, last, middle = _ends(pieces)
    if None not in pieces:
        return first == text
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _ends(pieces: list[str | None]) -> tuple[str, str, list[str]]:
    """What stands before the first star, behind the last one, and between them."""
    runs = [""]
    for piece in pieces:
        if piece is None:
            runs.append("")
        else:
            runs[-1] += piece
    return runs[0], runs[-1], runs[1:-1]


def literal(pattern: str) -> str | None:
    """The one text that a pattern fits; None: it has a star."""
    pieces = list(_pieces(pattern))
    return None if None in pieces else "".join(piece for piece in pieces if piece is not None)


def quoted(text: str) -> str:
    """The pattern that fits just this text."""
    return re.sub(r"([\\*])", r"\\\1", text)


def parts_of(command: str) -> tuple[str, ...]:
    """What stands between the operators of a command."""
    return tuple(part.strip() for part in OPERATORS.split(command) if part.strip())


# -- the rule that is suggested ---------------------------------------------------------------------------------------
def suggested_for(uses: Sequence[Use], resolve: Resolve) -> str:
    """The narrowest allow rule for a use of one target; for several files, one for the directory that holds them."""
    if len(uses) == 1:
        return suggested(uses[0], resolve)
    holding = commonpath([resolve(use.target or "") for use in uses])
    narrow = suggested(evolve(uses[0], target=holding), resolve)
    return narrow.removesuffix("(.)") if narrow.endswith("(.)") else f"{narrow[:-1]}/*)"


def suggested(use: Use, resolve: Resolve) -> str:
    """The narrowest allow rule for a use: just this command, path or address."""
    tool = re.sub(r"([^\w.-])", r"\\\1", use.tool) or r"\*"  # never wider than the tool, whatever it calls itself
    if use.target is None:
        return f"{ALLOW} {tool}"
    if use.kind in ("edit", "read"):
        path = resolve(use.target)
        inside = lies_in(use.cwd, path)
        return f"{ALLOW} {tool}({quoted(_relative(path, use.cwd) if inside else path)})"
    return f"{ALLOW} {tool}({quoted(use.target)})"


def for_answer(text: str, approved: bool) -> Rule:
    """The rule that an answer shall be remembered by; a suggested *allow* becomes a *deny* for a denial.

    :raises InvalidRequest: it is none, or says the opposite of the answer.
    """
    rule = parse(text)
    if rule.allows == approved:
        return rule
    raise InvalidRequest(f"the rule says {rule.verb}, the answer {'allow' if approved else 'deny'}")


def turned(text: str, approved: bool) -> str:
    """The same rule with the verb of the answer."""
    return text if approved else text.replace(ALLOW, DENY, 1)
