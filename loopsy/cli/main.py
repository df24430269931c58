"""The entry point: finds the command's module, runs it, and turns errors into messages and exit statuses.

Only the one family of commands that is asked for is imported, since start-up is most of what a command takes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from loopsy.cli.arguments import Parser, session_names
from loopsy.cli.render import clean
from loopsy.errors import LoopsyError, UsageError

FAILURE, USAGE = 1, 2
INTERRUPTED = 130
"""128 + SIGINT, as shells count."""
PIPE_CLOSED = 141
"""128 + SIGPIPE: what a shell shows for a program whose reader (``| head``) went away."""

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "this machine": {
        "init": ("setup", "write a first configuration, with a key"),
        "start": ("daemon", "start the daemon"),
        "stop": ("daemon", "stop the daemon"),
        "restart": ("daemon", "stop it and start it again"),
        "dashboard": ("dashboard", "see and do it all in a browser"),
        "reload": ("daemon", "take up a changed configuration"),
        "status": ("daemon", "show the daemon, its peers and jobs"),
        "doctor": ("doctor", "check everything, with a remedy for each fault"),
        "key": ("setup", "show this machine's key, or make a new one"),
        "logs": ("logs", "show or verify the audit log"),
        "mcp": ("mcp", "let AI agents use it all; tell them of it"),
        "enable": ("service", "start the daemon at every login"),
        "disable": ("service", "no longer"),
        "service-status": ("service", "show whether it does"),
        "session": ("session", "run more daemons here, each a peer of its own"),
    },
    "other machines": {
        "pair": ("pair", "let this machine and another know each other"),
        "peers": ("peers", "list peers; what each may do; revoke, rotate"),
        "connect": ("connect", "set up a peer by hand, step by step"),
        "exec": ("exec", "run a command on a peer"),
        "shell": ("shell", "open a terminal on a machine, or come back to one"),
        "jobs": ("jobs", "list and cancel what runs"),
        "send": ("transfer", "send files and directories to a peer"),
        "pull": ("transfer", "get files and directories from a peer"),
        "ls": ("ls", "list a directory of a peer"),
        "transfers": ("transfers", "list, watch and cancel what is sent and pulled"),
        "context": ("context", "share small values"),
        "message": ("message", "send messages; read, answer and watch what comes"),
        "broadcast": ("message", "send a message to every peer"),
        "task": ("task", "let an agent do something, here or there; approve it"),
        "events": ("watch", "print what changes, as it changes"),
    },
    "the command itself": {
        "completion": ("completion", "print the set-up for your shell's completion"),
        "version": ("completion", "print the version"),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a text that the locale can't show is no failure
    try:
        if "_ARGCOMPLETE" in os.environ:
            complete()
        status = run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except UsageError as error:
        complain(error)
        return USAGE
    except LoopsyError as error:
        complain(error)
        return FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return PIPE_CLOSED
    return status


def run(words: list[str]) -> int:
    """Find the command and run it.

    :raises LoopsyError: what it failed of, unless the command has an exit status of its own for that.
    """
    directory, words = take_data_dir(words)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0 if words else USAGE
    if words[0] in ("-V", "--version"):
        words[0] = "version"
    args = parser_of(words[0]).parse_words(words[1:])
    if directory is not None and not hasattr(args, "data_dir"):
        args.data_dir = directory
    try:
        return int(args.run(args))
    except UsageError:
        raise
    except LoopsyError as error:
        complain(error)
        return int(getattr(args, "failed", FAILURE))


def take_data_dir(words: list[str]) -> tuple[str | None, list[str]]:
    """``--data-dir DIR`` and ``--session NAME`` before the command, as the data directory that they mean.

    :raises UsageError: the directory or the name is missing. :raises ConfigError: there is no such session.
    """
    given: dict[str, str] = {}
    while words and words[0].partition("=")[0] in ("--data-dir", "--session"):
        option, equals, value = words[0].partition("=")
        if not equals and len(words) < 2:
            raise UsageError(f"{option} needs a {'directory' if option == '--data-dir' else 'name'}")
        given[option], words = (value, words[1:]) if equals else (words[1], words[2:])
    directory = given.get("--data-dir")
    return session_dir(directory, given["--session"]) if "--session" in given else directory, words


def session_dir(directory: str | None, name: str) -> str:
    """The data directory of a session.

    :raises UsageError: :raises ConfigError: there is no such session.
    """
    from loopsy.store import sessions
    from loopsy.store.layout import Layout, data_dir

    return str(sessions.existing(sessions.main_of(Layout(data_dir(directory))), name).layout.root)


def parser_of(name: str) -> Parser:
    """The parser of one command.

    :raises UsageError: there is no such command; names the near ones.
    """
    if name not in COMMANDS:
        raise unknown(name)
    parser = Parser(prog=f"loopsy {name}")
    _fill(parser, name)
    return parser


def _fill(parser: Parser, name: str) -> None:
    module = __import__(f"loopsy.cli.{COMMANDS[name][0]}", fromlist=["fill"])
    module.fill(parser, name)


def unknown(name: str) -> UsageError:
    """No such command, or an option that isn't global."""
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "see: loopsy --help"
    kind = "option" if name.startswith("-") else "command"
    return UsageError(f"there is no {kind} {name!r}", hint=hint)


def overview() -> str:
    """What ``loopsy --help`` prints."""
    lines = [
        "usage: loopsy [--data-dir DIR] [--session NAME] <command> …",
        "",
        "Commands, files and values between your machines.",
    ]
    for title, section in SECTIONS.items():
        lines += ["", f"{title}:", *(f"  {name:<16}{text}" for name, (_, text) in section.items())]
    return "\n".join(
        [
            *lines,
            "",
            "options:",
            "  --data-dir  another data directory than ~/.loopsy (or $LOOPSY_DATA_DIR)",
            "  --session   speak to that session's daemon (see: loopsy session --help)",
            "  --version   print the version",
            "",
            "loopsy <command> --help tells more, with an example.",
        ]
    )


def complete() -> None:
    """Answer the shell that asks for completions, and exit; it needs the parsers of all commands."""
    import argcomplete

    parser = Parser(prog="loopsy")
    parser.add_argument("--data-dir", metavar="DIR")
    session = parser.add_argument("--session", metavar="NAME")
    setattr(session, "completer", session_names)  # noqa: B010 - argcomplete's way to say it
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers()
    for name, (_, text) in COMMANDS.items():
        _fill(commands.add_parser(name, help=text), name)
    argcomplete.autocomplete(parser)


def complain(error: LoopsyError) -> None:
    """Tell a person what went wrong. Texts of other machines are among it, so nothing a terminal obeys gets through."""
    print(f"loopsy: {clean(error.message)}", file=sys.stderr)
    for line in (error.hint or "").splitlines():
        print(f"  {clean(line)}", file=sys.stderr)


def _silence_stdout() -> None:
    """What is still buffered can go nowhere; without this Python would complain about it when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
