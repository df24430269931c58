"""A command on several machines: real daemons, one slow, one failing, one away, one that denies, one unknown."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psutil
import pytest
from ptyprocess import PtyProcess

from loopsy.testing.nodes import Node
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.fleet import Fleet
from tests.integration.test_mcp import Agent, as_agent

LIVE = ("able", "bear", "cora", "deny")
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
sys.stderr.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""
"""Between us and a command: what is forked from a large process counts that one's memory as its own."""
ESCAPES = re.compile(rb"\x1b\[\d*m")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Four that run, one of which denies sh, and one that doesn't run."""
    sections = {"deny": {"execution": {"denylist": ["sh"]}}}
    made = Fleet(tmp_path_factory.mktemp("fleet"), (*LIVE, "gone"), sections).start(but=("gone",))
    for name, labels in {"able": ("gpu", "linux"), "bear": ("linux",), "gone": ("gpu",)}.items():
        made.chief.run("peers", "label", name, *labels, check=True)
    yield made
    made.stop()
    assert "Traceback" not in made.log


def result_of(done: subprocess.CompletedProcess[bytes]) -> dict[str, dict[str, Any]]:
    """By machine."""
    return {one["peer"]: one for one in json.loads(done.stdout)["results"]}


def lines_of(output: bytes) -> dict[str, list[bytes]]:
    """What stands behind each machine's name; every line must have one."""
    found: dict[str, list[bytes]] = {}
    assert output == b"" or output.endswith(b"\n")
    for line in output.split(b"\n")[:-1]:
        name, bar, text = line.partition(b" | ")
        assert bar, line
        found.setdefault(name.strip().decode(), []).append(text)
    return found


# -- which ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "hosts"),
    [
        (("--on", "able,cora"), {"able", "cora"}),
        (("--on=cora", "--on", "able,,able"), {"able", "cora"}),
        (("--on", ".,able"), {".", "able"}),
        (("--on", ".", "--label", "linux"), {".", "able", "bear"}),
        (("--label", "linux", "--label", "gpu"), {"able"}),
        (("--all",), {*LIVE, "gone"}),
        (("--all", "--label", "gpu"), {"able", "gone"}),
    ],
)
def test_machines_are_chosen_by_name_by_label_or_all(fleet: Fleet, words: tuple[str, ...], hosts: set[str]) -> None:
    done = fleet.chief.run("exec", *words, "--json", "true")
    assert set(result_of(done)) == hosts


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--label", "mainframe", "true"), 255, b"no paired peer has the label mainframe"),
        (("--label", "gpu", "--label", "x", "true"), 255, b"no paired peer has all the labels gpu, x"),
        (("--on", ",", "true"), 2, b"--on names no machine"),
        (("--all",), 2, b"what should run there?"),
        (("able", "--all", "true"), 2, b"no peer with them"),
        (("--all", "-t", "true"), 2, b"--tty is for one machine"),
        (("--all", "-i", "true"), 2, b"--input is for one machine"),
        (("--all", "--forks", "0", "true"), 2, b"not a number from 1 to 256"),
    ],
)
def test_what_chooses_nobody_says_so(fleet: Fleet, words: tuple[str, ...], status: int, said: bytes) -> None:
    done = fleet.chief.run("exec", *words)
    assert (done.returncode, done.stdout) == (status, b"")
    assert said in done.stderr


def test_a_machine_without_peers_says_so(node: Node) -> None:
    done = node.run("exec", "--all", "true")
    assert done.returncode == 255
    assert b"no peer is paired" in done.stderr


# -- what becomes of each ---------------------------------------------------------------------------------------------
def test_each_fate_is_told(fleet: Fleet) -> None:
    """One ends well, slowly; one fails; one denies; one is away; one nobody knows."""
    script = "case ${HOME##*home-} in able) sleep 1; echo well;; bear) echo bad >&2; exit 7;; esac"
    hosts = "able,bear,deny,gone,nobody"
    done = fleet.chief.run("exec", "--on", hosts, "--json", "--", "sh", "-c", script)
    found = result_of(done)
    assert done.returncode == json.loads(done.stdout)["status"] == 255
    assert (found["able"]["status"], found["able"]["stdout"], found["able"]["state"]) == (0, "well\n", "ended")
    assert found["able"]["seconds"] >= 1
    assert (found["bear"]["status"], found["bear"]["exitCode"], found["bear"]["stderr"]) == (7, 7, "bad\n")
    codes = {name: found[name]["error"]["code"] for name in ("deny", "gone", "nobody")}
    assert codes["deny"] == 3001
    assert codes["gone"] in (2002, 2003)
    assert codes["nobody"] == 2001
    assert {found[name]["state"] for name in codes} == {"failed"}
    assert {found[name]["status"] for name in codes} == {255}
    plain = fleet.chief.run("exec", "--on", hosts, "--", "sh", "-c", script)
    assert lines_of(plain.stdout) == {"able": [b"well"]}
    table = plain.stderr.decode()
    assert "bear   | bad\n" in table
    took = re.search(r"^able +0 +([\d.]+)", table, re.MULTILINE)
    assert took is not None
    assert float(took[1]) >= 1
    assert re.search(r"^bear +7 ", table, re.MULTILINE)
    assert re.search(r"^gone +failed .*(offline|reached)", table, re.MULTILINE)
    assert re.search(r"^nobody +failed .*no peer is called", table, re.MULTILINE)


def test_the_highest_status_is_ours_and_success_is_silent(fleet: Fleet) -> None:
    script = "case ${HOME##*home-} in able) exit 3;; bear) exit 9;; esac"
    assert fleet.chief.run("exec", "--on", "able,bear,cora", "--", "sh", "-c", script).returncode == 9
    done = fleet.chief.run("exec", "--on", "able,bear,cora", "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = fleet.chief.run("exec", "--on", "able,bear", "--timeout", "300ms", "sleep", "60")
    assert done.returncode == 124
    assert done.stderr.count(b"timed out") == 2
    killed = fleet.chief.run("exec", "--on", "able", "--", "sh", "-c", "kill -9 $$")
    assert killed.returncode == 137
    assert b"SIGKILL" in killed.stderr


def test_directory_and_variables_go_to_all(fleet: Fleet) -> None:
    words = ("--cwd", "/", "--env", "WORD=hello", "--", "sh", "-c", "pwd; echo $WORD; cat")
    done = fleet.chief.run("exec", "--on", "able,.", *words, stdin=b"not for them\n")
    assert lines_of(done.stdout) == {"able": [b"/", b"hello"], ".": [b"/", b"hello"]}


# -- output -----------------------------------------------------------------------------------------------------------
def test_lines_stay_whole_however_they_come(fleet: Fleet, tmp_path: Path) -> None:
    """Halves of lines from three machines at once, on both streams, and a last line without its end. Each waits, before
    every tenth line, until what all three have printed so far is here."""
    wait = 'while [ ! -e "$0/$i" ]; do sleep 0.01; done'
    line = "printf 'head-%s-' $i; sleep 0.005; echo tail; echo e$i >&2"
    script = f"for i in $(seq 1 60); do case $i in *1) {wait};; esac; {line}; done; printf last"
    words = [sys.executable, "-m", "loopsy.cli.main", "exec", "--on", "able,bear,cora", "--", "sh", "-c", script]
    with (tmp_path / "errors").open("wb") as errors:
        running = subprocess.Popen(
            [*words, str(tmp_path)], env=fleet.chief.environment, stdout=subprocess.PIPE, stderr=errors
        )
    with running:
        assert running.stdout is not None
        out = []
        for number in range(1, 61, 10):
            (tmp_path / str(number)).touch()
            out += [running.stdout.readline() for _ in range(30)]
        out += running.stdout.readlines()
    assert running.returncode == 0
    wanted = [*(f"head-{number}-tail".encode() for number in range(1, 61)), b"last"]
    told = [b"e%d" % number for number in range(1, 61)]
    assert lines_of(b"".join(out)) == dict.fromkeys(("able", "bear", "cora"), wanted)
    assert lines_of((tmp_path / "errors").read_bytes()) == dict.fromkeys(("able", "bear", "cora"), told)
    order = [line.split(b" ")[0] for line in out]
    assert sum(a != b for a, b in pairwise(order)) > 5, "they came one after the other"


def test_bytes_stay_as_they_are_in_a_pipe_and_escapes_do_not_reach_a_terminal(fleet: Fleet) -> None:
    evil = r"printf '\033]0;owned\007\033[31mred\377\r\tend\n'"
    done = fleet.chief.run("exec", "--on", "able,bear", "--", "sh", "-c", evil, check=True)
    wanted = b"\x1b]0;owned\x07\x1b[31mred\xff\r\tend"
    assert lines_of(done.stdout) == {"able": [wanted], "bear": [wanted]}
    shown, status = on_terminal(fleet, "exec", "--on", "able,bear", "--", "sh", "-c", evil)
    assert status == 0
    assert shown.count(rb"\x1b]0;owned\x07\x1b[31mred") == 2
    assert ESCAPES.sub(b"", shown).count(b"\x1b") == 0, "only our own colours"
    assert b"\x07" not in shown


def on_terminal(fleet: Fleet, *words: str) -> tuple[bytes, int]:
    """What a terminal was sent, and the status."""
    terminal = spawn(fleet, *words)
    shown = b""
    try:
        while True:
            shown += terminal.read(65536)
    except EOFError:
        terminal.wait()
    return shown, terminal.exitstatus


def spawn(fleet: Fleet, *words: str) -> PtyProcess:
    """The command on a terminal of its own."""
    environment = {**fleet.chief.environment, "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    return PtyProcess.spawn([sys.executable, "-m", "loopsy.cli.main", *words], env=environment, dimensions=(40, 120))


def test_on_a_terminal_machines_have_colours_and_there_is_a_table(fleet: Fleet) -> None:
    shown, status = on_terminal(fleet, "exec", "--on", "able,bear", "--", "echo", "hello")
    assert status == 0
    colours = {ESCAPES.match(line)[0] for line in shown.splitlines() if line.endswith(b"hello")}  # type: ignore[index]
    assert len(colours) == 2
    plain = ESCAPES.sub(b"", shown)
    assert b"able | hello" in plain
    assert re.search(rb"HOST +EXIT +TIME", plain)
    assert re.search(rb"able +0 ", plain)


def test_much_output_of_all_takes_no_memory(fleet: Fleet, tmp_path: Path) -> None:
    """40 MB of three each, one of them without a single line end."""
    script = "case ${HOME##*home-} in cora) head -c 40000000 /dev/zero;; *) yes | head -c 40000000;; esac"
    words = [sys.executable, "-m", "loopsy.cli.main", "exec", "--on", "able,bear,cora", "--", "sh", "-c", script]
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *words],
            env=fleet.chief.environment,
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=5 * PATIENCE_S,
            check=True,
        )
    assert int(done.stderr) < 45 * 1024, "KiB at its peak"
    counted = dict.fromkeys(("able", "bear", "cora"), 0)
    with (tmp_path / "out").open("rb") as out:
        for line in out:
            name, _, text = line.partition(b" | ")
            counted[name.decode()] += len(text) - (name == b"cora")
    assert counted == {"able": 40_000_000, "bear": 40_000_000, "cora": 40_000_000}
    (tmp_path / "out").unlink()  # disks are small


def test_json_keeps_so_much_and_says_that_there_was_more(fleet: Fleet) -> None:
    done = fleet.chief.run("exec", "--on", "able,bear", "--json", "--", "head", "-c", "11000000", "/dev/zero")
    found = result_of(done)
    assert {(len(one["stdout"]), one["truncated"], one["status"]) for one in found.values()} == {(10 * 2**20, True, 0)}


def test_a_reader_that_leaves_ends_them_all(fleet: Fleet, tmp_path: Path) -> None:
    script = f'echo $$ > "{tmp_path}/${{HOME##*home-}}"; yes'
    words = [sys.executable, "-m", "loopsy.cli.main", "exec", "--on", "able,bear", "--", "sh", "-c", script]
    running = subprocess.Popen(words, env=fleet.chief.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.readline()
    pids = until(lambda: written(tmp_path, ("able", "bear")), "both run")
    running.stdout.close()
    assert running.wait(PATIENCE_S) == 141
    until(lambda: not any(map(psutil.pid_exists, pids)), "both have ended")


def written(directory: Path, names: tuple[str, ...]) -> list[int]:
    """The process ids in these files, once all are there."""
    files = [directory / name for name in names]
    texts = [file.read_text().strip() for file in files if file.exists()]
    return [int(text) for text in texts] if len(texts) == len(names) and all(texts) else []


# -- how many, and when no more ---------------------------------------------------------------------------------------
def test_no_more_than_so_many_run_at_once(fleet: Fleet, tmp_path: Path) -> None:
    """Each counts those that run, and runs on until so many have counted; with --forks 2 never a third does, with 4 all
    do."""
    count = 'mkdir on-$$; ls -d on-* | wc -l >> "counts-$1"'
    hold = 'while [ $(wc -l < "counts-$1") -lt "$1" ]; do sleep 0.02; done; sleep 0.5'
    script = f'cd "$0"; {count}; {hold}; mv on-$$ off-$$'
    for forks in ("1", "2", "4"):
        words = ("--", "sh", "-c", script, str(tmp_path), forks)
        fleet.chief.run("exec", "--on", "able,bear,cora,.", "--forks", forks, *words, check=True)
        counts = [int(text) for text in (tmp_path / f"counts-{forks}").read_text().split()]
        assert (len(counts), max(counts)) == (4, int(forks))


def test_after_a_failure_no_more_begin(fleet: Fleet, tmp_path: Path) -> None:
    """What runs already ends well, here long after the failure; the rest is told as skipped."""
    note = 'echo $$ > "$0/${HOME##*home-}"; case ${HOME##*home-} in able) exit 4;; esac'
    script = f'{note}; until [ -s "$0/able" ] && ! kill -0 $(cat "$0/able"); do sleep 0.05; done 2>/dev/null; sleep 2'
    words = ("exec", "--on", "able,bear,cora,.", "--stop-on-error", "--forks", "2")
    done = fleet.chief.run(*words, "--json", "--", "sh", "-c", script, str(tmp_path))
    assert done.returncode == 4
    states = {name: (one["state"], one["status"]) for name, one in result_of(done).items()}
    skipped = ("skipped", None)
    assert states == {"able": ("ended", 4), "bear": ("ended", 0), "cora": skipped, ".": skipped}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["able", "bear"]
    (tmp_path / "able").unlink()
    table = fleet.chief.run(*words, "--", "sh", "-c", script, str(tmp_path)).stderr
    assert re.search(rb"^cora +skipped$", table, re.MULTILINE)


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------
def test_ctrl_c_ends_them_all_with_what_they_started(fleet: Fleet, tmp_path: Path) -> None:
    script = (
        'name=${HOME##*home-}; sh -c \'echo $$ > "$0"; exec sleep 600\' "$0/$name-child" & echo $$ > "$0/$name"; wait'
    )
    terminal = spawn(fleet, "exec", "--on", "able,bear,cora", "--", "sh", "-c", script, str(tmp_path))
    names = tuple(f"{name}{kind}" for name in ("able", "bear", "cora") for kind in ("", "-child"))
    pids = until(lambda: written(tmp_path, names), "all six run")
    terminal.sendintr()
    shown = b""
    try:
        while True:
            shown += terminal.read(65536)
    except EOFError:
        terminal.wait()
    assert terminal.exitstatus == 130
    until(lambda: not any(map(psutil.pid_exists, pids)), "all six have ended")
    assert ESCAPES.sub(b"", shown).count(b"cancelled") == 3
    until(lambda: fleet.peers["able"].ask("GET", "/execute/jobs").body["jobs"] == [], "no job is left")


def test_a_signal_while_one_hangs_cancels_the_others_and_the_second_leaves(fleet: Fleet, tmp_path: Path) -> None:
    """A stopped daemon answers nothing, not even that it was asked to end the command."""
    bear = fleet.peers["bear"]
    assert bear.process is not None
    script = 'echo $$ > "$0/${HOME##*home-}"; exec sleep 600'
    words = [sys.executable, "-m", "loopsy.cli.main", "exec", "--on", "able,bear", "--", "sh", "-c", script]
    running = subprocess.Popen(
        [*words, str(tmp_path)], env=fleet.chief.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    pids = until(lambda: written(tmp_path, ("able", "bear")), "both run")
    bear.process.send_signal(signal.SIGSTOP)
    try:
        running.send_signal(signal.SIGTERM)
        until(lambda: not psutil.pid_exists(pids[0]), "the other one has ended")
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE_S) == 143
    finally:
        bear.process.send_signal(signal.SIGCONT)
    until(lambda: not psutil.pid_exists(pids[1]), "it ends there, too")


# -- detached ---------------------------------------------------------------------------------------------------------
def test_detached_ones_are_told_by_machine_and_id(fleet: Fleet) -> None:
    done = fleet.chief.run("exec", "--on", "able,bear,nobody", "--detach", "--", "sh", "-c", "echo kept; exit 5")
    assert done.returncode == 255
    ids = dict(line.split() for line in done.stdout.decode().splitlines())
    assert set(ids) == {"able", "bear"}
    assert b"no peer is called" in done.stderr
    for name, job in ids.items():
        assert fleet.chief.run("jobs", "wait", job, "--peer", name).returncode == 5
        assert fleet.chief.run("jobs", "logs", job, "--peer", name).stdout == b"kept\n"
    found = result_of(fleet.chief.run("exec", "--on", "able,bear", "--detach", "--json", "true", check=True))
    assert all(len(one["jobId"]) == 36 for one in found.values())


# -- by an agent ------------------------------------------------------------------------------------------------------
def test_an_agent_runs_a_command_on_several(fleet: Fleet) -> None:
    """Each has its result; nothing of keys or addresses is in it, not even where one can't be reached."""
    script = "case ${HOME##*home-} in able) echo well;; bear) exit 7;; esac"
    given = {"command": "sh", "args": ["-c", script]}

    async def talk(agent: Agent) -> None:
        peers = ["able", "bear", "deny", "gone", "nobody", "this machine"]
        shown = await agent.good("loopsy_execute_many", **given, peers=peers)
        found = {one["peer"]: one for one in shown["results"]}
        assert list(found) == peers
        assert (found["able"]["exitCode"], found["able"]["stdout"]) == (0, "well\n")
        assert found["bear"]["exitCode"] == 7
        assert {name: found[name]["state"] for name in ("deny", "gone", "nobody")} == dict.fromkeys(
            ("deny", "gone", "nobody"), "failed"
        )
        assert (shown["succeeded"], shown["notSucceeded"]) == (2, 4)
        labelled = await agent.good("loopsy_execute_many", command="true", labels=["linux"])
        assert [one["peer"] for one in labelled["results"]] == ["able", "bear"]
        started = await agent.good("loopsy_execute", **given, peer="able", detach=True)
        told = await agent.good("loopsy_job_output", jobId=started["jobId"], peer="able", waitSeconds=60)
        assert (told["status"], told["exitCode"], told["stdout"]) == ("ended", 0, "well\n")

    as_agent(fleet.chief, talk, *fleet.peers.values())


def test_a_call_that_an_agent_cancels_ends_on_all(fleet: Fleet, tmp_path: Path) -> None:
    script = 'echo $$ > "$0/${HOME##*home-}"; exec sleep 600'
    given = {"command": "sh", "args": ["-c", script, str(tmp_path)], "peers": ["able", "bear", "this machine"]}
    names = ("able", "bear", "chief")

    async def talk(agent: Agent) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: agent.result("loopsy_execute_many", **given))
            pids = await anyio.to_thread.run_sync(until, lambda: written(tmp_path, names))
            group.cancel_scope.cancel()
        await anyio.to_thread.run_sync(until, lambda: not any(map(psutil.pid_exists, pids)), "the end of all three")

    as_agent(fleet.chief, talk, *fleet.peers.values())


# -- the shell --------------------------------------------------------------------------------------------------------
def completes(fleet: Fleet, line: str, out: Path, words: set[str]) -> None:
    """The shell offers these behind ``line``, if not at once, as the command does not wait for a busy daemon."""
    until(lambda: completed(fleet, line, out) == words, f"{words} behind {line!r}")


def completed(fleet: Fleet, line: str, out: Path) -> set[str]:
    """What the shell offers behind ``line`` now."""
    out.unlink(missing_ok=True)
    shell = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_STDOUT_FILENAME": str(out)}
    environment = {**fleet.chief.environment, **shell, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, "-m", "loopsy.cli.main"]
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * PATIENCE_S)
    return {word.strip() for word in out.read_text().split("\n")} - {""}


def test_the_shell_completes_machines_labels_and_jobs(fleet: Fleet, tmp_path: Path) -> None:
    out = tmp_path / "out"
    completes(fleet, "loopsy exec --on be", out, {"bear"})
    completes(fleet, "loopsy exec --on able,", out, {f"able,{name}" for name in ("bear", "cora", "deny", "gone", ".")})
    completes(fleet, "loopsy exec --label ", out, {"gpu", "linux"})
    completes(fleet, "loopsy send --label l", out, {"linux"})
    job = fleet.chief.run("exec", "--detach", ".", "true", check=True).stdout.decode().strip()
    completes(fleet, f"loopsy jobs logs {job[:6]}", out, {job})
