"""Dispatch, help, and how errors are told."""

import pytest

from loopsy.cli import main as entry
from loopsy.cli.arguments import milliseconds, peer_of
from loopsy.cli.main import COMMANDS, main, parser_of
from loopsy.errors import LoopsyError


def told(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out, _ = told(capsys)
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_no_command_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    out, _ = told(capsys)
    assert left.value.code == 0
    assert out.startswith(f"usage: loopsy {name}")
    assert "\nexample:\n" in out


SUBCOMMANDS = [
    *(("context", word) for word in ("set", "get", "list", "delete", "export", "import")),
    *(("peers", word) for word in ("list", "add", "remove")),
    ("key", "show"),
    ("key", "generate"),
]


@pytest.mark.parametrize("words", SUBCOMMANDS)
def test_so_has_every_subcommand_s(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    out, _ = told(capsys)
    assert out.startswith(f"usage: loopsy {' '.join(words)} ")
    assert "\nexample:\n" in out


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["staus"], "there is no command 'staus'", "did you mean status"),
        (["zzzzzz"], "there is no command 'zzzzzz'", "see: loopsy --help"),
        (["--foo"], "there is no option '--foo'", "see: loopsy --help"),
        (["status", "--foo"], "unrecognized arguments: --foo", "see: loopsy status --help"),
        (["--data-dir"], "--data-dir needs a directory", None),
        (["context", "sett"], "invalid choice: 'sett'", "see: loopsy context --help"),
    ],
)
def test_bad_usage(words: list[str], message: str, hint: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = told(capsys)
    first, *rest = err.splitlines()
    assert out == ""
    assert first.startswith("loopsy: ")
    assert message in first
    assert [line[:2] for line in rest] == (["  "] if hint else [])
    assert (hint or "") in err


@pytest.mark.parametrize(
    "words", [["--data-dir", "/nonexistent/x", "status"], ["--data-dir=/nonexistent/x", "status"],
              ["status", "--data-dir", "/nonexistent/x"], ["peers", "list", "--data-dir", "/nonexistent/x"]]
)  # fmt: skip
def test_the_data_dir_may_stand_on_either_side(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert told(capsys)[1] == "loopsy: there is no /nonexistent/x/config.yaml\n  make one with: loopsy init\n"


@pytest.mark.parametrize(("raised", "status"), [(KeyboardInterrupt(), 130), (LoopsyError("x"), 1)])
def test_how_a_command_may_end(
    raised: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(words: list[str]) -> int:
        raise raised

    monkeypatch.setattr(entry, "run", fail)
    assert main(["status"]) == status


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90_000),
        ("90s", 90_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("1.5s", 1500),
        ("500ms", 500),
        ("1d", 86_400_000),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert milliseconds(text) == expected


@pytest.mark.parametrize("text", ["", "s", "-1", "0", "1e999", "nan", "inf", "5x", "0.0001ms"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Exception, match=r"duration|must be"):
        milliseconds(text)


def test_peer_words() -> None:
    assert [peer_of(word) for word in (None, ".", "local", "kai")] == [None, None, None, "kai"]


def test_every_command_has_a_parser() -> None:
    assert all(parser_of(name).prog == f"loopsy {name}" for name in COMMANDS)
