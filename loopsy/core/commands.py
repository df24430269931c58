"""The command policy: which programs may be started here.

The denylist stops accidents: it looks through paths, through wrappers (``sudo``, ``env``, ``nohup``, ``timeout``,
``xargs`` …), at what ``find -exec`` runs and at the words of ``sh -c``. It can't stop intent, since any interpreter can
start any program. Only an allowlist is a boundary: with one, a command runs only when it is written just as an entry
there, in this machine's own environment: a search path or a library of the caller's would make another program of it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import dropwhile

from attrs import frozen

from loopsy.config import Execution
from loopsy.errors import CommandDenied


@frozen
class Wrapper:
    """A program that starts the one which its arguments name."""

    valued: str = ""
    """Its short options that take a value."""
    operands: int = 0
    """Words of its own before that program's name (a duration, a directory)."""


PLAIN = Wrapper()
WRAPPERS: Mapping[str, Wrapper] = {
    "sudo": Wrapper("ughpCrtTDRU"), "doas": Wrapper("uC"), "su": Wrapper("gGswc", 1), "runuser": Wrapper("ugGsc"),
    "env": Wrapper("uCS"), "nohup": PLAIN, "setsid": PLAIN, "command": PLAIN, "builtin": PLAIN, "exec": Wrapper("a"),
    "eval": PLAIN, "nice": Wrapper("n"), "ionice": Wrapper("cnpPu"), "chrt": Wrapper("TPD", 1),
    "taskset": Wrapper("", 1),
    "timeout": Wrapper("ks", 1), "stdbuf": Wrapper("ioe"), "time": Wrapper("fo"), "xargs": Wrapper("adEILnPs"),
    "parallel": Wrapper("jaSN"), "chroot": Wrapper("", 1), "flock": Wrapper("wEc", 1), "watch": Wrapper("n"),
    "unshare": Wrapper("SG"), "strace": Wrapper("abeopsSuUE"), "ltrace": Wrapper("aAbDeFlnopsux"),
    "systemd-run": Wrapper("HMptuE"), "caffeinate": Wrapper("tw"), "busybox": PLAIN, "toybox": PLAIN, "winpty": PLAIN,
    "then": PLAIN, "do": PLAIN, "else": PLAIN, "if": PLAIN, "while": PLAIN, "until": PLAIN, "!": PLAIN,
}  # fmt: skip
VALUED = frozenset((
    "--user", "--group", "--chdir", "--prompt", "--host", "--unset", "--adjustment", "--signal", "--kill-after",
    "--max-args", "--max-procs", "--delimiter", "--arg-file", "--interval", "--class", "--classdata", "--timeout",
))  # fmt: skip
"""Long options that take the next word as their value, whichever wrapper they belong to."""
SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh", "fish", "ash", "cmd", "powershell", "pwsh"))
SHELL_SCRIPT = re.compile(r"/c|--?command|-[a-z]{0,5}c[a-z]{0,5}")
"""The option behind which a shell's script stands, alone or among other letters (``-lc``)."""
REDIRECTION = re.compile(r"\d*(?:<<<|<<|>>|[<>])[&|]?\s*[\w./~$\"'-]+")
WORD_BREAKS = re.compile(r"\$\(|[;&|()`\n{}<>]")
SCRIPT_ENDINGS = frozenset(("sh", "bash", "py", "rb", "pl", "js", "mjs", "ts", "php", "lua"))
"""``format.sh`` is somebody's own script, not a kind of ``format`` as ``mkfs.ext4`` is one of ``mkfs``."""
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
FIND_ACTIONS = frozenset(("-exec", "-execdir", "-ok", "-okdir"))
HARMLESS = re.compile(r"LANG|LC_[A-Z]+|TERM|COLORTERM|TZ|COLUMNS|LINES|NO_COLOR|CLICOLOR|FORCE_COLOR")
"""What a caller may set beside an allowlist: it changes what a program shows, not what it loads or starts."""
DEPTH = 8
"""Wrappers within wrappers: more than this is nobody's honest command."""


def program(word: str) -> str:
    """The bare name of a program: no directory, and no Windows ending."""
    name = word.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower()
    stem, dot, ending = name.rpartition(".")
    return stem if dot and ending in ("exe", "com", "bat", "cmd") else name


def programs(command: str, args: Sequence[str], depth: int = 0) -> Iterator[str]:
    """Every program that this command would start, as far as its words tell."""
    name = program(command)
    yield name
    if depth >= DEPTH:
        return
    if name in SHELLS:
        yield from _in_shell(args, depth + 1)
    elif name == "find":
        yield from _in_find(args, depth + 1)
    elif name in WRAPPERS:
        yield from _in_wrapper(WRAPPERS[name], args, depth + 1)


def _in_shell(args: Sequence[str], depth: int) -> Iterator[str]:
    """The words behind ``-c`` (``/c`` for cmd), cut where a shell starts another command."""
    for at, arg in enumerate(args):
        if SHELL_SCRIPT.fullmatch(arg.lower()):
            # Options may stand between -c and the script.
            yield from _in_script(" ".join(dropwhile(lambda word: word[:1] in "-+", args[at + 1 :])), depth)
            return


def _in_script(script: str, depth: int) -> Iterator[str]:
    for part in WORD_BREAKS.split(REDIRECTION.sub(" ", script)):
        words = _words(part)
        if words:
            yield from programs(words[0], words[1:], depth)


def _words(script: str) -> list[str]:
    try:
        words = shlex.split(script)
    except ValueError:
        words = script.replace('"', " ").replace("'", " ").split()
    while words and ASSIGNMENT.match(words[0]):
        words = words[1:]
    return words


def _in_find(args: Sequence[str], depth: int) -> Iterator[str]:
    """Each action's words reach to the next action at most, so that none is looked at twice."""
    starts = [at + 1 for at, arg in enumerate(args[:-1]) if arg in FIND_ACTIONS]
    ends = [*(start - 1 for start in starts[1:]), len(args)]
    for start, end in zip(starts, ends, strict=False):
        yield from programs(args[start], args[start + 1 : end], depth)


def _in_wrapper(wrapper: Wrapper, args: Sequence[str], depth: int) -> Iterator[str]:
    """Past the wrapper's own options and operands to the program. A long option may take the next word as its value or
    not, so that word is looked at too."""
    at, operands = 0, wrapper.operands
    while at < len(args):
        arg = args[at]
        if _takes_script(wrapper, arg) and at + 1 < len(args):
            yield from _in_script(args[at + 1], depth)
            at += 2
        elif arg in VALUED:
            at += 2
        elif arg.startswith("--"):
            if "=" not in arg and at + 1 < len(args):
                yield program(args[at + 1])
            at += 1
        elif arg.startswith("-"):
            at += 2 if _wants_value(wrapper, arg) else 1
        elif ASSIGNMENT.match(arg):
            at += 1
        elif operands:
            at, operands = at + 1, operands - 1
        elif re.search(r"\s", arg):
            yield from _in_script(arg, depth)  # watch, parallel and eval read it as a shell would
            return
        else:
            yield from programs(arg, args[at + 1 :], depth)
            return


def _takes_script(wrapper: Wrapper, arg: str) -> bool:
    return arg in ("--split-string", "--command") or (arg in ("-S", "-c") and arg[1] in wrapper.valued)


def _wants_value(wrapper: Wrapper, arg: str) -> bool:
    """Whether a cluster's option with a value is its last letter: else the rest of the word is that (``-uroot``)."""
    first = next((at for at, letter in enumerate(arg) if letter in wrapper.valued), None)
    return first == len(arg) - 1


def _entry_for(name: str, denied: Iterable[str]) -> str | None:
    """The entry of the list that names this program; ``mkfs`` also means ``mkfs.ext4``."""
    stem, _, ending = name.partition(".")
    is_kind = ending not in SCRIPT_ENDINGS
    return next((e for e in denied if program(e) == name or (is_kind and program(e) == stem)), None)


def check(command: str, args: Sequence[str], policy: Execution, env: Iterable[str] = ()) -> None:
    """Let the command pass, or say which rule stops it. ``env``: the names of the variables that the caller sets.

    :raises CommandDenied: names the word and the config key.
    """
    for word in dict.fromkeys(programs(command, args)):
        entry = _entry_for(word, policy.denylist)
        if entry is not None:
            raise CommandDenied(
                f"{word!r} is on this machine's denylist (execution.denylist: {entry})",
                hint="its owner can change that in config.yaml and run: loopsy reload",
            )
    if policy.allowlist is not None and command not in policy.allowlist:
        raise CommandDenied(f"{command!r} is not on this machine's allowlist (execution.allowlist)")
    foreign = sorted(name for name in env if not HARMLESS.fullmatch(name))
    if policy.allowlist is not None and foreign:
        raise CommandDenied(
            f"env: {foreign[0][:80]!r} can't be set on a machine with an allowlist (execution.allowlist)",
            hint="it could make another program of one that is allowed",
        )
