"""Rules of AI tasks: what they fit, and what they never do."""

from __future__ import annotations

import posixpath
import re

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from loopsy.core import rules
from loopsy.core.rules import Use, decide, fits, literal, parse, quoted, suggested
from loopsy.errors import InvalidRequest

LINKS = {"/home/leo/app/out": "/etc", "/home/leo/app/ours": "/home/leo/.loopsy"}


def resolve(path: str) -> str:
    """As the file system would, with two links."""
    whole = posixpath.normpath(posixpath.join("/home/leo/app", path))
    for link, target in LINKS.items():
        if whole == link or whole.startswith(f"{link}/"):
            return target + whole[len(link) :]
    return whole


def use(target: str | None, tool: str = "Bash", kind: str = "command", agent: str = "claude") -> Use:
    return Use(agent=agent, tool=tool, kind=kind, target=target, cwd="/home/leo/app", data_dir="/home/leo/.loopsy")


def fit(rule: str, what: Use) -> bool:
    return fits(parse(rule), what, resolve)


@pytest.mark.parametrize(
    ("rule", "command", "yes"),
    [
        ("allow Bash(git status)", "git status", True),
        ("allow Bash(git status)", "git status -s", False),
        ("allow Bash(git status)", "xgit status", False),
        ("allow Bash(npm test *)", "npm test a b", True),
        ("allow Bash(npm test *)", "npm test", False),
        ("allow Bash(npm test *)", "npm test a; rm -rf /", False),
        ("allow Bash(npm test *)", "npm test `id`", False),
        ("allow Bash(npm test *)", "npm test $(id)", False),
        ("allow Bash(npm test *)", "npm test a > /etc/passwd", False),
        ("allow Bash(npm test *)", "npm test a\nid", False),
        ("allow Bash(npm test *)", "npm test a || id", False),
        ("allow Bash(npm test *)", "npm test *(e:id:)", False),
        ("allow Bash(make && make check)", "make && make check", True),
        ("allow Bash(make && make*)", "make && make check", False),
        ("allow Bash", "anything at all", True),
        ("allow Bash", "a && b", False),
        ("allow Bash(a*c*e)", "abcde", True),
        ("allow Bash(a*c*e)", "abde", False),
        ("allow Bash(a*a)", "a", False),
        (r"allow Bash(ls \*.c)", "ls *.c", True),
        (r"allow Bash(ls \*.c)", "ls a.c", False),
        ("allow codex:Bash(git status)", "git status", False),
        ("allow claude:Bash(git status)", "git status", True),
        ("allow B*(git status)", "git status", True),
        ("allow Read(git status)", "git status", False),
        ("deny Bash(rm *)", "rm x", True),
        ("deny Bash(rm *)", "cd x && rm y", True),
        ("deny Bash(rm *)", "echo $(rm y)", True),
        ("deny Bash(rm *)", "git rm y", False),
        ("deny Bash", "a; b", True),
        ("allow Bash(*)", "cat ~/.loopsy/config.yaml", False),
        ("allow Bash(*)", "cat /home/leo/.LOOPSY/config.yaml", False),
        ("allow Bash(*)", "env -u LOOPSY_TASK loopsy task approve 1", False),
    ],
)
def test_commands(rule: str, command: str, yes: bool) -> None:
    assert fit(rule, use(command)) is yes


@pytest.mark.parametrize(
    ("rule", "path", "yes"),
    [
        ("allow Edit(src/**)", "src/a/b.py", True),
        ("allow Edit(src/**)", "/home/leo/app/src/b.py", True),
        ("allow Edit(src/**)", "src/../b.py", False),
        ("allow Edit(src/**)", "/home/leo/app2/src/b.py", False),
        ("allow Edit(**)", "../b.py", False),
        ("allow Edit", "b.py", True),
        ("allow Edit", "/etc/passwd", False),
        ("allow Edit", "out/passwd", False),
        ("allow Edit(out/*)", "out/passwd", False),
        ("allow Edit(/etc/*)", "out/passwd", True),
        ("allow Edit(/*)", "/home/leo/.loopsy/config.yaml", False),
        ("allow Edit(/*)", "ours/config.yaml", False),
        ("allow Edit(/*)", "/home/leo", False),
        ("deny Edit(*.env)", "a/.env", True),
        ("deny Edit(/etc/*)", "out/passwd", True),
        ("deny Edit(out/*)", "out/passwd", True),
    ],
)
def test_paths(rule: str, path: str, yes: bool) -> None:
    assert fit(rule, use(path, "Edit", "edit")) is yes


def test_what_has_no_target_fits_only_a_rule_without_a_pattern() -> None:
    for kind in ("command", "edit", "tool"):
        assert fit("deny T", use(None, "T", kind))
        assert fit("deny T(x)", use(None, "T", kind))
        assert not fit("allow T(x)", use(None, "T", kind))
    assert fit("allow T", use(None, "T", "tool"))
    assert not fit("allow T", use(None, "T", "command"))
    assert not fit("allow T", use(None, "T", "edit"))


def test_the_first_that_fits_decides() -> None:
    listed = [parse("allow Bash(git log *)"), parse("deny Bash(git *)"), parse("allow Bash(git status)")]
    found = [decide(listed, use(command), resolve) for command in ("git log -1", "git status", "make")]
    assert found == [listed[0], listed[1], None]


def test_of_several_files_one_that_is_denied_denies_and_each_must_be_allowed() -> None:
    listed = [parse("deny Edit(*.env)"), parse("allow Edit(src/*)"), parse("allow Edit(docs/*)")]

    def decided(*paths: str) -> rules.Rule | None:
        return rules.decide_all(listed, [use(path, "Edit", "edit") for path in paths], resolve)

    assert decided("src/a", "docs/b") == listed[2]
    assert decided("src/a", "docs/.env") == listed[0]
    assert decided("src/a", "b") is None
    several = [use(path, "Edit", "edit") for path in ("src/a/b", "src/c")]
    rule = parse(rules.suggested_for(several, resolve))
    assert rule.text == "allow Edit(src/*)"
    assert all(fits(rule, one, resolve) for one in several)
    everywhere = parse(rules.suggested_for([use("a", "Edit", "edit"), use("b/c", "Edit", "edit")], resolve))
    assert everywhere.text == "allow Edit"


@pytest.mark.parametrize("text", ["", "Bash", "allow", "permit Bash", "allow Bash(x", "allow Bash x", "allow x:Bash"])
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(text)


# -- laws -------------------------------------------------------------------------------------------------------------
WORDS = st.text(st.sampled_from("ab* \\;&|`$<>(){}\n\té"), max_size=8)


@given(pattern=WORDS, command=WORDS)
@example(pattern="a*", command="a;b")
@example(pattern="a;\\*", command="a;*")
def test_an_allow_rule_never_fits_operators_unless_literally_the_same(pattern: str, command: str) -> None:
    rule = evolve(parse("allow Bash"), pattern=pattern)
    if rules.OPERATORS.search(command) and fits(rule, use(command), resolve):
        assert "*" not in pattern.replace("\\*", "").replace("\\\\", "")
        assert literal(pattern) == command


@given(text=WORDS)
def test_a_quoted_text_fits_itself_and_nothing_else(text: str) -> None:
    assert literal(quoted(text)) == text


AB = st.text(st.sampled_from("ab"), max_size=9)


@given(pieces=st.lists(AB.filter(lambda text: len(text) < 4), min_size=1, max_size=4), text=AB)
def test_stars_are_any_characters(pieces: list[str], text: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pieces)), text, re.DOTALL) is not None
    assert rules._matches("*".join(pieces), text) is expected


@given(
    target=WORDS | st.none(),
    kind=st.sampled_from(["command", "edit", "read", "network", "tool"]),
    tool=st.sampled_from(["Bash", "mcp__x__y", "web fetch"]),
)
def test_the_suggested_rule_is_one_and_fits_what_it_was_made_for(target: str | None, kind: str, tool: str) -> None:
    what = use(target, tool, kind)
    rule = parse(suggested(what, resolve))
    is_asked_anyway = target is None and kind in ("command", "edit", "read")
    if not is_asked_anyway:
        assert fits(rule, what, resolve)
    assert rules.parse(rules.turned(rule.text, False)).verb == "deny"


@given(path=st.text(st.sampled_from("a/.~"), max_size=12), pattern=st.text(st.sampled_from("a/.*"), max_size=6))
def test_no_allow_rule_leads_to_our_data_directory_or_out_of_the_task_s(path: str, pattern: str) -> None:
    what = use(path, "Edit", "edit")
    if fits(evolve(parse("allow Edit"), pattern=pattern), what, resolve):
        where = resolve(path)
        assert not rules.lies_in(what.data_dir, where)
        assert pattern.startswith("/") or rules.lies_in(what.cwd, where)


def test_a_rule_that_says_the_opposite_of_the_answer_is_refused() -> None:
    assert rules.for_answer("deny Bash(x)", False).verb == "deny"
    with pytest.raises(InvalidRequest):
        rules.for_answer("allow Bash(x)", False)


@pytest.mark.parametrize(
    "command",
    [
        "cat ~/.loopsy/config.yaml",
        "cat ~/.lo''opsy/config.yaml",
        'cat ~/.loop"s"y/config.yaml',
        "cat ~/.loop\\sy/config.yaml",
        "cat ~/.loops?/config.yaml",
        "cat ~/.l*/config.yaml",
        "cat ~/.[l]oopsy/config.yaml",
        "cat ~/.{loopsy,x}/config.yaml",
        "cat {~/.loo,}psy/config.yaml",
        "cat ~/{.loop,}sy/config.yaml",
        "cat /home/leo/.loops?/config.yaml",
        "tar --file=../.LOOPSY/x",
        "cat ../../*/.l*y/config.yaml",
        "cat " + ".*" * 1000,
        "env LOOPSY_TASK= loopsy x",
    ],
)
def test_no_star_lets_a_command_through_that_spells_our_directory_otherwise(command: str) -> None:
    assert not fit("allow Bash(*)", use(command))
    assert not fit("allow Bash", use(command))


@pytest.mark.parametrize(
    "command", ["ls *.c", "grep -r 'a.*b' src", "ls {a,b}", "git log ../app", "ls -a *", "echo .x*"]
)
def test_other_stars_are_no_reason_to_ask(command: str) -> None:
    assert fit("allow Bash(*)", use(command))


@pytest.mark.parametrize(
    "command", ["cat ../../data/loopsy/k", "cat /data/./loopsy/k", "cat /d*/l*/k", "cat /data/{loopsy,x}/k"]
)
def test_a_directory_of_another_name_is_seen_by_its_place(command: str) -> None:
    what = evolve(use(command), cwd="/home/leo", data_dir="/data/loopsy")
    assert not fit("allow Bash(*)", what)
    assert fit("allow Bash(*)", evolve(what, target="ls * loopsy /data/x*"))


@pytest.mark.parametrize("tool", ["", "(((", "*", "a b", "fs/read", "x:y", "a)b", "\\"])
def test_a_tools_name_makes_the_suggested_rule_never_wider(tool: str) -> None:
    """Not even the name of a server's tool that is all odd characters."""
    rule = parse(suggested(use(None, tool, "tool"), resolve))
    for other in ("Bash", "Edit", "mcp__x__y", "a-b", "axb", "fs-secret-read", "xxx", "x"):
        assert not fits(rule, use(None, other, "tool"), resolve)
        assert not fits(rule, use("ls", other), resolve)
    assert fits(rule, use(None, tool, "tool"), resolve) is (tool != "")
