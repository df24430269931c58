"""The command policy: what the denylist sees, and what it leaves alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopsy.config import Execution
from loopsy.core.commands import WRAPPERS, check
from loopsy.errors import CommandDenied
from tests.strategies import TEXT

POLICY = Execution()

DENIED = """
rm -rf x
/bin/rm x
../../bin/rm x
RM x
rm.exe x
C:\\Windows\\format.com C:
mkfs.ext4 /dev/sda
sudo rm x
sudo -u kai rm x
sudo -ubackup rm x
sudo -n -- rm x
sudo --user kai rm x
sudo --user=kai rm x
sudo A=1 rm x
doas rm x
env rm x
env -i A=1 B=2 rm x
env -u HOME rm x
env -S 'rm x'
nohup rm x
setsid -f rm x
timeout 5 rm x
timeout -k 1 5 rm x
timeout -k1 5 rm x
nice -n 5 rm x
nice -5 rm x
ionice -c 3 rm x
taskset -c 0 rm x
taskset 0x1 rm x
chrt -r 5 rm x
stdbuf -oL rm x
time -p rm x
xargs rm
xargs -0 -n 1 rm
xargs -I {} rm {}
parallel rm ::: a b
parallel 'rm {}' ::: a b
watch -n 1 'rm x'
flock /tmp/l rm x
flock /tmp/l -c 'rm x'
chroot /mnt rm x
strace -f rm x
busybox rm x
su -c 'rm x'
su kai -c 'rm x'
su - kai -c 'rm x'
sudo env nohup timeout 5 rm x
find . -exec rm {} ;
find . -name x -execdir /bin/rm {} +
find . -exec echo {} ; -exec rm {} ;
find . -exec sh -c 'rm "$1"' _ {} ;
sh -c 'rm x'
bash -lc 'rm x'
bash --norc -c 'rm x'
bash -c -x 'rm x'
/usr/bin/env bash -ec 'rm x'
sh -c 'echo a; rm x'
sh -c 'echo a && sudo rm x'
sh -c 'echo a | xargs rm'
sh -c 'echo $(rm x)'
sh -c 'echo `rm x`'
sh -c '(rm x)'
sh -c '{ rm x; }'
sh -c 'if true; then rm x; fi'
sh -c 'for f in *; do rm $f; done'
sh -c '! rm x'
sh -c 'A=1 rm x'
sh -c '>log rm x'
sh -c 'echo a 2>&1; rm x'
sh -c "'rm' x"
sh -c 'r""m x'
sh -c '\\\\rm x'
sh -c 'sh -c "rm x"'
sh -c 'echo "unfinished; rm x'
cmd /c 'rmdir x'
pwsh -NoLogo -Command 'rm x'
""".strip().splitlines()

ALLOWED = """
make format
npm run format
git rm file
git commit -m 'rm the old one'
echo rm
echo 'a; rm b'
grep -r rm .
man rm
docker run alpine
find . -name rm
find . -exec echo rm ;
farm x
rmail x
charm
./format.sh
./scripts/shutdown.py
sudo -u kai ls
env A=rm ls
timeout 5 ls rm
sh script.sh rm
sh -c 'echo rm'
sh -c 'ls > format'
sh -c 'cargo format'
sh -c 'git rm x && git commit'
bash -lc 'make format'
xargs git rm
python -c 'print(1)'
ddrescue a b
""".strip().splitlines()


def words(line: str) -> list[str]:
    """Words with single quotes only, so that the table shows what the daemon gets."""
    parts = line.split("'")
    found: list[str] = []
    for at, part in enumerate(parts):
        found += [part] if at % 2 else part.split()
    return found


def doubly(line: str) -> list[str]:
    """As ``words``, but a whole script in double quotes."""
    head, _, script = line.partition(' "')
    return [*head.split(), script.rstrip('"')] if script and "'" not in head else words(line)


@pytest.mark.parametrize("line", DENIED)
def test_denied(line: str) -> None:
    command, *args = doubly(line)
    with pytest.raises(CommandDenied, match=r"denylist \(execution\.denylist: "):
        check(command, args, POLICY)


@pytest.mark.parametrize("line", ALLOWED)
def test_allowed(line: str) -> None:
    command, *args = doubly(line)
    check(command, args, POLICY)


def test_the_refusal_names_word_and_entry() -> None:
    with pytest.raises(CommandDenied) as caught:
        check("sudo", ["mkfs.ext4", "/dev/sda"], POLICY)
    assert caught.value.message == "'mkfs.ext4' is on this machine's denylist (execution.denylist: mkfs)"


@pytest.mark.parametrize("command", ["/usr/bin/git", "Git", "git ", "sh", "sudo"])
def test_with_an_allowlist_only_what_is_written_there_runs(command: str) -> None:
    policy = Execution(allowlist=("git",))
    check("git", ["status"], policy)
    with pytest.raises(CommandDenied, match="allowlist"):
        check(command, ["git"], policy)


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "BASH_ENV", "GIT_SSH_COMMAND", "LC_ALL=x\nPATH", "LANGX", ""])
def test_with_an_allowlist_nobody_says_what_its_programs_load_or_start(name: str) -> None:
    with pytest.raises(CommandDenied, match="env: "):
        check("git", ["status"], Execution(allowlist=("git",)), ["LANG", name])
    check("git", ["status"], POLICY, [name])


def test_with_an_allowlist_what_only_changes_the_look_may_be_set() -> None:
    check("git", [], Execution(allowlist=("git",)), ["LANG", "LC_ALL", "TERM", "TZ", "COLUMNS", "NO_COLOR"])


def test_the_denylist_holds_beside_an_allowlist() -> None:
    with pytest.raises(CommandDenied, match="denylist"):
        check("sudo", ["rm", "x"], Execution(allowlist=("sudo",)))


def test_an_empty_allowlist_lets_nothing_run_and_an_empty_denylist_everything() -> None:
    check("rm", ["x"], Execution(denylist=()))
    with pytest.raises(CommandDenied):
        check("ls", [], Execution(allowlist=()))


@given(st.lists(st.sampled_from(sorted(set(WRAPPERS) - {"su", "runuser"})), max_size=7))
def test_no_honest_stack_of_wrappers_hides_a_program(stack: list[str]) -> None:
    line = [word for name in stack for word in (name, *["5"] * WRAPPERS[name].operands)]
    command, *args = [*line, "rm", "x"]
    with pytest.raises(CommandDenied):
        check(command, args, POLICY)


@given(TEXT, st.lists(st.text() | st.sampled_from(["-c", "-exec", "sh", "find", "sudo", "--", ";", "'", '"', "$("])))
def test_any_words_are_let_through_or_denied(command: str, args: list[str]) -> None:
    try:
        check(command, args, POLICY)
    except CommandDenied:
        pass


@pytest.mark.parametrize(
    "unit",
    [["-exec", "find"], ["-exec", "sh", "-c"], ["sh", "-c"], ["sudo"], ["su", "-c"], ["-c"], ["x;"], ["env", "-S"]],
)
@pytest.mark.parametrize("command", ["find", "sh", "sudo", "su", "env", "xargs"])
def test_a_peer_cannot_keep_the_reactor_busy_with_nested_words(command: str, unit: list[str]) -> None:
    started = time.thread_time()
    check(command, unit * 3000, Execution(denylist=("nothing",)))
    assert time.thread_time() - started < 2.0
