"""Pairing with two real daemons and the real command in two terminals, and what attackers make of it."""

from __future__ import annotations

import http.client
import json
import re
import select
import subprocess
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from statistics import mean
from typing import Any

import psutil
import pytest

from loopsy.core import pairing_joiner
from loopsy.core.pairing import PER_ADDRESS
from loopsy.core.pairing_messages import Done, Finish, Hello, Reveal, decode, encode
from loopsy.testing.nodes import Node
from loopsy.testing.pairing import JOINER, fixed
from tests.core.test_pairing import Middle
from tests.integration.between import Between, Cut
from tests.integration.conftest import PATIENCE_S, until
from tests.integration.pairing_actors import Person
from tests.integration.test_rest import refused

NUMBER = r"the number here:  (\d{3} \d{3})"
CODE_SHOWN = r"the code:  (\d{3} \d{3})"


@pytest.fixture
def two(make_node: Any) -> tuple[Node, Node]:
    """Two running nodes that know nothing of each other; plain HTTP, so that somebody can be put in between."""
    return make_node("alfa").start(), make_node("bravo").start()


@pytest.fixture
def relay(two: tuple[Node, Node]) -> Iterator[Between]:
    with Between(two[0].port) as between:
        yield between


def auth(node: Node) -> dict[str, Any]:
    """What its config file says of keys, as text by name."""
    found = {}
    for section in ("allowedKeys", "peerKeys", "pinnedCerts"):
        block = re.search(rf"  {section}:\n((?:    .+\n)+)", node.layout.config.read_text())
        found[section] = dict(re.findall(r"    (\S+): (\S+)", block[1])) if block else {}
    return found


def is_keyed(node: Node) -> bool:
    return bool(auth(node)["allowedKeys"])


def state(node: Node) -> str:
    return str(node.ask("GET", "/pair/status").body["state"])


def reaches(node: Node, wanted: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        status: dict[str, Any] = node.ask("GET", "/pair/status").body
        return status if status["state"] == wanted else None

    found: dict[str, Any] = until(look, f"{node.name} {wanted}")
    return found


def start(node: Node) -> str:
    return str(node.ask("POST", "/pair/start").body["inviteCode"])


def join(node: Node, port: int, code: str) -> None:
    answer = node.ask("POST", "/pair/join", {"address": "127.0.0.1", "port": port, "code": code})
    assert answer.status == 200, answer


def met(a: Node, b: Node, port: int) -> tuple[str, str]:
    """Up to the numbers."""
    join(b, port, start(a))
    return reaches(a, "comparing")["sas"], reaches(b, "comparing")["sas"]


def yes(node: Node, sas: str) -> None:
    answer = node.ask("POST", "/pair/confirm", {"accept": True, "sas": sas})
    assert answer.status == 200, answer


def pair_up(a: Node, b: Node, port: int | None = None) -> None:
    ours, theirs = met(a, b, port or a.port)
    yes(b, theirs)
    yes(a, ours)
    reaches(a, "paired")
    reaches(b, "paired")


def both_work(a: Node, b: Node) -> None:
    for one, other in ((a, b), (b, a)):
        done = one.run("exec", other.name, "--", "echo", "hello")
        assert (done.returncode, done.stdout) == (0, b"hello\n"), done
    assert auth(a)["allowedKeys"]["bravo"] == auth(b)["peerKeys"]["alfa"]
    assert auth(b)["allowedKeys"]["alfa"] == auth(a)["peerKeys"]["bravo"]
    assert len({*auth(a)["allowedKeys"].values(), *auth(b)["allowedKeys"].values(), a.key, b.key}) == 4


def neither_is_paired(*nodes: Node) -> None:
    for node in nodes:
        assert not is_keyed(node)
        assert node.ask("GET", "/peers").body["peers"] == []


# -- two people -------------------------------------------------------------------------------------------------------
def test_two_people_pair_two_machines_over_tls(make_node: Any) -> None:
    a, b = (make_node(name, tls={"enabled": True}).start() for name in ("alfa", "bravo"))
    leo, mia = Person(a, "pair"), Person(b, "pair", f"127.0.0.1:{a.port}")
    assert leo.sees(r"loopsy pair (\S+)") == f"127.0.0.1:{a.port}"
    code = leo.sees(CODE_SHOWN)
    leo.sees(r"\(4:\d\d left\)")
    leo.sees(r"\(4:\d\d left\)")
    mia.sees("the code that is shown there: ")
    mia.types(code)
    assert mia.sees(NUMBER) == leo.sees(NUMBER)
    mia.sees(r"\[y/n\]")
    mia.types("y")
    mia.sees("waiting for the other side")
    leo.sees(r"\[y/n\]")
    leo.types("what?")
    leo.sees(r"\[y/n\]")
    leo.types("yes")
    assert (leo.ends(), mia.ends()) == (0, 0)
    assert "paired with bravo" in leo.seen
    assert "paired with alfa" in mia.seen
    both_work(a, b)
    for one, other in ((a, "bravo"), (b, "alfa")):
        pins = auth(one)["pinnedCerts"]
        assert re.fullmatch(r"[0-9a-f]{64}", pins[other])
    assert "Traceback" not in a.log + b.log


def test_a_wrong_code_may_be_corrected_and_the_third_ends_it(two: tuple[Node, Node]) -> None:
    a, b = two
    leo, mia = Person(a, "pair"), Person(b, "pair", f"127.0.0.1:{a.port}")
    code = leo.sees(CODE_SHOWN).replace(" ", "")
    wrong = f"{(int(code) + 1) % 10**6:06d}"
    mia.sees("the code that is shown there: ")
    mia.types("12345")
    mia.sees("a code has six digits")
    for left in (2, 1):
        mia.types(wrong)
        mia.sees(rf"the code is wrong \({left} of 3 tries left\)")
    leo.sees("tries left: 1")
    mia.types(wrong)
    assert (mia.ends(), leo.ends()) == (1, 1)
    assert "for the third time" in mia.seen
    assert "wrong three times" in leo.seen
    assert b.run("pair", f"127.0.0.1:{a.port}", "--code", code, "--expect-sas", "000000").returncode == 1
    neither_is_paired(a, b)


@pytest.mark.parametrize("who", ["inviter", "joiner"])
@pytest.mark.parametrize("how", ["no", "ctrl-c"])
def test_a_no_or_a_ctrl_c_of_either_ends_both(two: tuple[Node, Node], who: str, how: str) -> None:
    a, b = two
    leo, mia = Person(a, "pair"), Person(b, "pair", f"127.0.0.1:{a.port}")
    mia.sees("shown there: ")
    mia.types(leo.sees(CODE_SHOWN))
    mia.sees(r"\[y/n\]")
    leo.sees(r"\[y/n\]")
    one, other = (leo, mia) if who == "inviter" else (mia, leo)
    if how == "no":
        one.types("n")
    else:
        one.interrupts()
    assert one.ends() == (1 if how == "no" else 130)
    assert other.ends() == 1
    assert "the other side said no" in other.seen
    neither_is_paired(a, b)


def test_ctrl_c_while_the_code_is_shown_makes_it_worthless(two: tuple[Node, Node]) -> None:
    a, b = two
    leo = Person(a, "pair")
    code = leo.sees(CODE_SHOWN).replace(" ", "")
    leo.interrupts()
    assert leo.ends() == 130
    done = b.run("pair", f"127.0.0.1:{a.port}", "--code", code, "--expect-sas", "000000")
    assert done.returncode == 1
    assert b"the pairing session was ended there" in done.stderr


# -- scripts ----------------------------------------------------------------------------------------------------------
class Script:
    """``loopsy pair --json`` with pipes."""

    def __init__(self, node: Node, *words: str) -> None:
        argv = [sys.executable, "-m", "loopsy.cli.main", "pair", "--json", *words]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, env=node.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE_S)[0]
        line = self.process.stdout.readline()
        assert line, self.process.communicate()
        return dict(json.loads(line))

    def says(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def ends(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=2 * PATIENCE_S)
        return self.process.returncode, said


@pytest.mark.parametrize("same", [True, False])
def test_scripts_pair_by_carrying_the_number_over(two: tuple[Node, Node], same: bool) -> None:
    a, b = two
    one = Script(a, "--expect-sas", "-")
    other = Script(b, f"127.0.0.1:{a.port}", "--code", "-", "--expect-sas", "-")
    other.says(one.next()["inviteCode"])
    first, second = one.next(), other.next()
    assert first["sas"] == second["sas"]
    one.says(second["sas"])
    other.says(first["sas"] if same else f"{(int(first['sas']) + 1) % 10**6:06d}")
    results = one.ends(), other.ends()
    if same:
        assert [status for status, _ in results] == [0, 0]
        both_work(a, b)
    else:
        assert [status for status, _ in results] == [1, 1]
        assert "the numbers are not the same" in results[1][1]
        neither_is_paired(a, b)


def test_there_is_no_blind_yes(two: tuple[Node, Node]) -> None:
    a, b = two
    both = ("--code", "123456", "--expect-sas", "123456")
    for words in ((), ("127.0.0.1", *both[:2]), both[:2], ("--expect-sas", "12"), ("127.0.0.1:x", *both)):
        done = a.run("pair", *words, stdin=b"y\n")
        assert done.returncode == 2, (words, done)
    assert state(a) == "idle"
    refused(a.ask("POST", "/pair/confirm", {"accept": True, "sas": "123456"}), 404, 7001)
    met(a, b, a.port)
    refused(a.ask("POST", "/pair/confirm", {"accept": True}), 400, 9003, "sas")


def test_a_machine_that_is_not_there_and_a_daemon_that_is_not(two: tuple[Node, Node]) -> None:
    a, b = two
    a.stop()
    done = b.run("pair", f"127.0.0.1:{a.port}", "--code", "123456", "--expect-sas", "123456")
    assert (done.returncode, b"can't be reached" in done.stderr) == (1, True), done
    done = a.run("pair", f"127.0.0.1:{b.port}", "--code", "123456", "--expect-sas", "123456")
    assert (done.returncode, b"not running" in done.stderr) == (1, True), done


def test_one_session_at_a_time_and_another_after_it(two: tuple[Node, Node]) -> None:
    a, b = two
    start(a)
    refused(a.ask("POST", "/pair/start"), 409, 7007)
    assert a.run("pair", "--cancel").returncode == 0
    pair_up(a, b)
    before = auth(a)
    pair_up(b, a)  # again, the other way round: the keys are replaced, the names stay
    assert auth(a)["allowedKeys"].keys() == before["allowedKeys"].keys() == {"bravo"}
    assert auth(a)["allowedKeys"] != before["allowedKeys"]
    both_work(a, b)


def test_pairing_again_says_on_both_screens_whose_keys_it_replaces(two: tuple[Node, Node]) -> None:
    a, b = two
    days = {time.strftime("%Y-%m-%d")}
    pair_up(a, b)
    days.add(time.strftime("%Y-%m-%d"))  # it may be midnight
    before = auth(a)
    leo, mia = Person(a, "pair"), Person(b, "pair", f"127.0.0.1:{a.port}")
    mia.sees("shown there: ")
    mia.types(leo.sees(CODE_SHOWN))
    for person, name in ((leo, "bravo"), (mia, "alfa")):
        warned = person.sees(rf"paired with {name} \(since (\S+) \d\d:\d\d\); going on replaces its keys\r\n.*\[y/n\]")
        assert warned in days
    assert a.ask("GET", "/pair/status").body["peer"]["replaces"] == "bravo"
    leo.types("n")
    assert (leo.ends(), mia.ends()) == (1, 1)
    assert auth(a) == before
    both_work(a, b)


def test_who_claims_the_node_id_of_a_paired_machine_is_told_of(two: tuple[Node, Node], make_node: Any) -> None:
    """Eve knows the code, calls herself otherwise, and says that she has bravo's node id: alfa says whose keys go."""
    a, b = two
    pair_up(a, b)
    eve = make_node("eve")
    eve.layout.node_id.write_text(b.layout.node_id.read_text())
    eve.start()
    met(a, eve, a.port)
    peer = a.ask("GET", "/pair/status").body["peer"]
    assert (peer["hostname"], peer["replaces"]) == ("eve", "bravo")
    assert "replaces" not in eve.ask("GET", "/pair/status").body["peer"]


def test_a_second_machine_of_the_same_name_gets_another(two: tuple[Node, Node], make_node: Any, tmp_path: Any) -> None:
    a, b = two
    pair_up(a, b)
    keys = auth(a)["allowedKeys"]["bravo"]
    twin = Node(tmp_path / "twin", "bravo")
    twin.write_config()
    twin.start()
    try:
        pair_up(a, twin)
        assert auth(a)["allowedKeys"]["bravo"] == keys
        assert set(auth(a)["allowedKeys"]) == {"bravo", "bravo-2"}
    finally:
        twin.stop()


# -- somebody in between ----------------------------------------------------------------------------------------------
def test_a_man_in_the_middle_who_knows_the_code_is_seen_by_the_numbers(two: tuple[Node, Node], relay: Between) -> None:
    a, b = two
    one = Script(a, "--expect-sas", "-")
    code = one.next()["inviteCode"]
    middle = Middle(frozenset({"name", "node_id", "port"}), code=code)
    relay.to_joiner = middle.to_joiner
    # Questions stay with him: their tokens would tell the inviter at once that the joiner has another secret.
    relay.to_inviter = lambda data: middle.to_inviter(data) if isinstance(decode(data), Hello | Reveal) else None
    other = Script(b, f"127.0.0.1:{relay.port}", "--code", code, "--expect-sas", "-")
    first, second = one.next(), other.next()
    assert first["sas"] != second["sas"]
    one.says(second["sas"])
    other.says(first["sas"])
    results = one.ends(), other.ends()
    assert [status for status, _ in results] == [1, 1]
    assert any("the numbers are not the same" in said for _, said in results)
    neither_is_paired(a, b)


def test_a_listener_hears_no_secret(two: tuple[Node, Node], relay: Between) -> None:
    a, b = two
    code = start(a)
    join(b, relay.port, code)
    sas = reaches(a, "comparing")["sas"]
    reaches(b, "comparing")
    yes(b, sas)
    yes(a, sas)
    reaches(a, "paired")
    reaches(b, "paired")
    heard = b"".join(relay.passed)
    for secret in (code, sas, *auth(a)["allowedKeys"].values(), *auth(a)["peerKeys"].values()):
        assert secret.encode() not in heard
        if len(secret) == 64:
            assert bytes.fromhex(secret) not in heard


def test_replayed_messages_of_a_finished_pairing_do_nothing(two: tuple[Node, Node], relay: Between) -> None:
    a, b = two
    ours, theirs = met(a, b, relay.port)
    yes(b, theirs)
    yes(a, ours)
    reaches(b, "paired")
    keys = auth(a)
    for address in ("initiate", "messages"):
        for message in relay.passed:
            answer = a.ask("POST", f"/pair/{address}", {"message": b64encode(message).decode()}, key=None)
            assert answer.status in (200, 400, 404, 409, 410, 429)
    start(a)
    for message in relay.passed:
        a.ask("POST", "/pair/messages", {"message": b64encode(message).decode()}, key=None)
    assert auth(a) == keys
    assert "Traceback" not in a.log


# -- kill -9 ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("victim", ["inviter", "joiner"])
@pytest.mark.parametrize("step", ["inviting", "comparing", "one yes", "other yes"])
def test_a_kill_before_both_yes_leaves_nothing(two: tuple[Node, Node], victim: str, step: str) -> None:
    a, b = two
    dies = a if victim == "inviter" else b
    if step == "inviting":
        code = start(a)
    else:
        sas, _ = met(a, b, a.port)
        if step != "comparing":
            yes(b if step == "one yes" else a, sas)
    dies.kill()
    dies.start()
    if victim == "inviter" and step == "inviting":
        join(b, a.port, code)
    if victim == "inviter":
        # Gone (7001), or silent while a yes was on its way (7003): whether that arrived can't be known, so it ends.
        assert reaches(b, "ended")["fault"]["code"] in (7001, 7003)
    elif step != "inviting":
        if step != "other yes":
            a.ask("POST", "/pair/confirm", {"accept": True, "sas": sas})
        a.ask("DELETE", "/pair")
        assert state(a) == "ended"
    neither_is_paired(a, b)
    a.ask("DELETE", "/pair")
    pair_up(a, b)
    both_work(a, b)


@pytest.mark.parametrize("victim", ["inviter", "joiner", "both"])
@pytest.mark.parametrize("lost", [Finish, Done])
def test_a_kill_at_the_end_leaves_both_paired_or_neither(
    two: tuple[Node, Node], relay: Between, victim: str, lost: type
) -> None:
    """The wire loses Finish (the joiner has put its half aside, the inviter has stored nothing) or Done (the inviter
    has stored, the joiner does not know). Then one or both are killed and started again, and the wire is mended."""
    a, b = two
    cut = relay.to_inviter = relay.to_joiner = Cut(lost)
    ours, theirs = met(a, b, relay.port)
    yes(b, theirs)
    yes(a, ours)
    assert cut.met.wait(PATIENCE_S)
    assert state(b) == "finishing"
    assert is_keyed(a) == (lost is Done)
    assert not is_keyed(b)
    for node, names in ((a, ("inviter", "both")), (b, ("joiner", "both"))):
        if victim in names:
            node.kill()
            node.start()
    cut.open = True
    if lost is Finish and victim != "joiner":
        until(lambda: "nothing was kept" in b.log or state(b) == "ended", "the joiner gives up")
        neither_is_paired(a, b)
        pair_up(a, b)
    until(lambda: is_keyed(a) and is_keyed(b), "both are paired")
    both_work(a, b)
    assert "Traceback" not in a.log + b.log


# -- strangers --------------------------------------------------------------------------------------------------------
def hello(code: str, seed: str = "stranger") -> Any:
    return pairing_joiner.begin(JOINER, code, None, fixed(seed))


def says(node: Node, address: str, message: Any) -> Any:
    return node.ask("POST", f"/pair/{address}", {"message": b64encode(encode(message)).decode()}, key=None)


def test_a_stranger_may_only_knock(node: Node) -> None:
    for method, path in (("POST", "/pair/start"), ("GET", "/pair/status"), ("DELETE", "/pair")):
        refused(node.ask(method, path, key=None), 401, 1001)
        refused(node.ask(method, path, key="e" * 64), 403, 1002)
    refused(node.ask("POST", "/pair/confirm", {"accept": True, "sas": "123456"}, key=None), 401, 1001)
    refused(node.ask("POST", "/pair/join", {"address": "10.0.0.1", "code": "123456"}, key=None), 401, 1001)
    refused(says(node, "initiate", hello("123456").hello), 404, 7001)
    refused(node.ask("POST", "/pair/initiate", {"message": "AAA"}, key=None), 400, 9003, "base64")
    refused(node.ask("POST", "/pair/initiate", {"message": "A" * 5000}, key=None), 400, 9003)
    refused(node.ask("POST", "/pair/messages", b"{" + b" " * 9000 + b"}", key=None), 413, 9003)


def test_a_paired_machine_has_no_part_in_other_pairings(two: tuple[Node, Node]) -> None:
    a, b = two
    pair_up(a, b)
    key = auth(b)["peerKeys"]["alfa"]
    for method, path, body in (("POST", "/pair/start", None), ("GET", "/pair/status", None), ("DELETE", "/pair", None),
                               ("POST", "/pair/confirm", {"accept": True, "sas": "123456"})):  # fmt: skip
        refused(a.ask(method, path, body, key=key), 403, 1002)


def test_codes_can_be_tried_three_times(make_node: Any) -> None:
    node = make_node().start()
    code = int(start(node))
    ends = []
    for number in range(5):
        joiner = hello(f"{(code + 1 + number) % 10**6:06d}", str(number))
        answer = until(lambda joiner=joiner: _not_crowded(says(node, "initiate", joiner.hello)), "let in")
        if answer.status != 200:
            ends.append(answer.body["error"]["code"])
            continue
        welcome = _message(answer)
        step = pairing_joiner.receive(joiner, welcome)
        ends.append(says(node, "messages", step.say).body["error"]["code"])
    assert ends == [7002, 7002, 7002, 7002, 7002]
    assert node.ask("GET", "/pair/status").body["fault"]["code"] == 7002


def _not_crowded(answer: Any) -> Any:
    if answer.status == 429:
        time.sleep(0.3)
        return None
    return answer


def _message(answer: Any) -> Any:
    return decode(b64decode(answer.body["message"]))


JSON = {"content-type": "application/json"}


def test_a_flood_of_greetings_from_another_address_lets_the_honest_one_in(two: tuple[Node, Node]) -> None:
    a, b = two
    code = start(a)
    over = threading.Event()
    sent = [0]

    def flood() -> None:
        number = 0
        while not over.is_set():
            number += 1
            elsewhere = http.client.HTTPConnection("127.0.0.1", a.port, source_address=("127.0.0.2", 0), timeout=60)
            elsewhere.request("POST", "/api/v1/pair/initiate", stock[number % len(stock)], JSON)
            elsewhere.getresponse().read()
            elsewhere.close()
            sent[0] += 1

    hellos = [encode(hello("000000", f"flood {n}").hello) for n in range(50)]
    stock = [json.dumps({"message": b64encode(data).decode()}) for data in hellos]
    threads = [threading.Thread(target=flood, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: sent[0] > 100, "a flood")
        join(b, a.port, code)
        until(lambda: state(b) == "comparing", "the honest one")
        assert any(thread.is_alive() for thread in threads), "the flood went on meanwhile"
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert "Traceback" not in a.log


def test_refusing_a_flood_takes_no_arithmetic(make_node: Any) -> None:
    """What gets 429 costs as much as any refused request: the daemon answers others meanwhile."""
    node = make_node().start()
    start(node)
    said = [hello("000000", f"flood {n}").hello for n in range(200)]
    costs: dict[int, list[float]] = {200: [], 401: [], 429: []}
    process = psutil.Process(node.process.pid)

    def costing(ask: Callable[[], Any]) -> None:
        before = sum(process.cpu_times()[:2])
        status = ask().status
        costs[status].append(sum(process.cpu_times()[:2]) - before)

    began = time.monotonic()
    for message in said:
        costing(lambda: node.ask("POST", "/pair/confirm", {"accept": True, "sas": "123456"}, key=None))
        costing(lambda message=message: says(node, "initiate", message))
    took = time.monotonic() - began
    assert len(costs[200]) <= sum(PER_ADDRESS) + PER_ADDRESS[0] * took
    assert len(costs[429]) == len(said) - len(costs[200])
    assert mean(costs[429]) < 5 * mean(costs[401]), "it is twice as much, and would be ten times with the arithmetic"
