"""Labels: kept with a peer's record, shown, refused where they are none, and told to nobody."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from loopsy.testing.nodes import Node
from tests.integration.conftest import until


def labels_of(node: Node, name: str) -> list[str]:
    (peer,) = [one for one in node.ask("GET", "/peers").body["peers"] if one.get("name") == name]
    found: list[str] = peer["labels"]
    return found


def test_labels_are_added_taken_away_and_shown(pair: tuple[Node, Node]) -> None:
    alfa, bravo = pair
    assert alfa.run("peers", "label", "bravo", "linux", "gpu", check=True).stdout == b"gpu linux\n"
    assert alfa.run("peers", "label", "bravo", "gpu", "x.y_z-1", check=True).stdout == b"gpu linux x.y_z-1\n"
    assert labels_of(alfa, "bravo") == ["gpu", "linux", "x.y_z-1"]
    shown = alfa.run("peers", check=True).stdout
    assert b"LABELS" in shown
    assert b"gpu,linux,x.y_z-1" in shown
    done = alfa.run("peers", "label", "bravo", "--remove", "linux", "x.y_z-1", "--json", check=True)
    assert json.loads(done.stdout)["labels"] == ["gpu"]
    assert alfa.run("peers", "label", "bravo", check=True).stdout == b"gpu\n"
    told = alfa.ask("GET", "/peers", key=alfa_key_of(bravo))
    assert told.status == 200
    assert "gpu" not in json.dumps(told.body), "a peer is not told what we call others, or it"
    assert alfa.run("peers", "label", "bravo", "--remove", check=True).stdout == b"no labels\n"
    assert b"LABELS" not in alfa.run("peers", check=True).stdout


def alfa_key_of(bravo: Node) -> str:
    """The key that bravo presents to alfa."""
    return str(yaml.safe_load(bravo.layout.config.read_text())["auth"]["peerKeys"]["alfa"])


@pytest.mark.parametrize(
    "labels", [["a b"], ["-x"], [""], ["ü"], ["x" * 65], ["a,b"], [f"l{n}" for n in range(33)], "gpu", [1]]
)
def test_what_is_no_label_is_refused(pair: tuple[Node, Node], labels: Any) -> None:
    alfa, _ = pair
    answer = alfa.ask("PUT", "/peers/bravo/labels", {"labels": labels})
    assert (answer.status, answer.body["error"]["code"]) == (400, 9003)
    assert labels_of(alfa, "bravo") == []


def test_only_the_own_key_may_and_only_for_a_known_peer(pair: tuple[Node, Node]) -> None:
    alfa, bravo = pair
    assert alfa.ask("PUT", "/peers/bravo/labels", {"labels": ["x"]}, key=alfa_key_of(bravo)).status == 403
    assert alfa.ask("PUT", "/peers/nobody/labels", {"labels": ["x"]}).status == 404
    assert alfa.run("peers", "label", "nobody", "x").returncode == 1


def test_labels_outlast_restarts_and_a_new_node_id_of_the_peer(make_node: Any) -> None:
    """A peer that is set up anew under the same name keeps what it is called here."""
    from loopsy.testing.nodes import keyed_pair

    alfa, bravo = make_node("alfa"), make_node("bravo")
    keyed_pair(alfa, bravo)
    alfa.start()
    assert alfa.run("peers", "label", "bravo", "gpu", check=True).stdout == b"gpu\n"
    manual = alfa.ask("GET", "/peers").body["peers"][0]["nodeId"]
    assert manual.startswith("manual-")
    bravo.start()  # it introduces itself, or is asked
    until(lambda: alfa.ask("GET", "/peers").body["peers"][0]["nodeId"] != manual, "its node id is learnt")
    assert labels_of(alfa, "bravo") == ["gpu"]
    alfa.stop()
    alfa.start()
    assert labels_of(alfa, "bravo") == ["gpu"]
    bravo.stop()
    known = bravo.layout.node_id
    known.unlink(missing_ok=True)
    bravo.start()
    fresh = known.read_text().strip()
    until(lambda: alfa.ask("GET", "/peers").body["peers"][0]["nodeId"] == fresh, "its new node id is learnt")
    assert labels_of(alfa, "bravo") == ["gpu"]
