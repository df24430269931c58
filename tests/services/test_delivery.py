"""The postman on a clock that needs no waiting, over a real database and a peer that answers what a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import define, evolve, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from loopsy.config import Auth, Config, Discovery, ManualPeer
from loopsy.core.principals import PeerPrincipal
from loopsy.errors import Forbidden, InvalidRequest, LoopsyError, PeerUnreachable, RateLimited, UnknownRoute
from loopsy.services.context import Context
from loopsy.services.delivery import Delivery
from loopsy.services.events import Events
from loopsy.services.messages import Messages
from loopsy.services.peers import Peers
from loopsy.services.settings import Settings
from loopsy.services.storage import Storage
from loopsy.services.waiting import MOST, WaitingRoom
from loopsy.store.database import Database
from loopsy.store.layout import Layout
from loopsy.wire import urls
from loopsy.wire.messages import Deliveries, Receipt, Receipts, SendMessage
from loopsy.wire.messages import Delivery as Result
from loopsy.wire.peers import NodeIdentity
from loopsy.wire.status import Health
from tests.waiting import until

KAI = NodeIdentity(node_id="k" * 32, hostname="kai", port=19, capabilities=("context", "messages"))
OWN = NodeIdentity(node_id="o" * 32, hostname="leo", port=20)


@define
class Scripted:
    """Stands for PeerClient: kai, as the test wants it."""

    asked: list[str] = field(factory=list)
    delivered: list[list[str]] = field(factory=list)
    fault: LoopsyError | None = None
    identity: NodeIdentity = KAI
    receipts: list[tuple[str, str]] = field(factory=list)
    knows_us: bool = True
    held: Deferred[None] | None = None
    results: Callable[[str], str] = lambda _: "delivered"
    at_once: int = 0
    most_at_once: int = 0

    async def ask(self, target: Any, method: bytes, path: str, answer: type, value: Any = None) -> Any:
        self.asked.append(path)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.held is not None:
                await self.held
            if not self.knows_us:
                raise Forbidden("the key is not known here")
            if self.fault is not None and (path != urls.IDENTITY or isinstance(self.fault, PeerUnreachable)):
                raise self.fault
        finally:
            self.at_once -= 1
        if path == urls.IDENTITY:
            return self.identity
        if path == urls.RECEIPTS:
            self.receipts += [(receipt.id, receipt.state) for receipt in value.receipts]
        if path == urls.DELIVER:
            ids = [envelope.id for envelope in value.envelopes]
            if "poison" in ids:
                raise InvalidRequest("can't read that")
            self.delivered.append(ids)
            return Deliveries(results=tuple(Result(id=i, result=self.results(i)) for i in ids))
        return Deliveries(results=())

    async def health(self, target: Any) -> Health:
        raise PeerUnreachable("no prober here")

    def forget_others(self, pins: Any) -> None: ...

    async def close(self) -> None: ...


@define
class Rig:
    """The services of a daemon that have to do with it."""

    clock: Clock
    kai: Scripted
    peers: Peers
    messages: Messages
    delivery: Delivery
    storage: Storage

    async def send(self, body: str = "b", **more: Any) -> str:
        """Its id."""
        (message,), _ = await self.messages.send(SendMessage(to="kai", body=body, **more))
        return message.id

    def state(self, identifier: str) -> str:
        return self.messages.get(identifier, "out").state

    def tries(self) -> int:
        return sum(path in (urls.DELIVER, urls.IDENTITY) for path in self.kai.asked)

    async def settled(self) -> None:
        """Nobody is under way."""
        await until(lambda: all(p._under_way is None for p in self.delivery._postmen.values()))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Started; stopped at the end."""
    layout = Layout(tmp_path)
    layout.make()
    config = Config(
        auth=Auth(api_key="o" * 64, allowed_keys={"kai": "k" * 64}),
        discovery=Discovery(manual_peers=(ManualPeer(address="192.0.2.1", port=19, hostname="kai"),)),
    )
    settings, clock, kai = Settings(layout, config), Clock(), Scripted()
    storage = Storage(reactor, Database(layout.database))  # type: ignore[arg-type]
    events = Events()
    peers = Peers(clock, settings, storage, kai, OWN)  # type: ignore[arg-type]
    messages = Messages(clock, settings, storage, events, peers)
    context = Context(clock, storage, settings, events)
    delivery = Delivery(clock, settings, storage, peers, messages, context)
    services = (storage, peers, messages, delivery)
    for service in services:
        service.startService()
    made = Rig(clock, kai, peers, messages, delivery, storage)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(stop(made)))


async def stop(rig: Rig) -> None:
    """As the daemon does it."""
    await rig.delivery.stopService()
    rig.messages.stopService()
    await rig.peers.stopService()
    await rig.storage.stopService()
    assert rig.clock.getDelayedCalls() == []


def back(rig: Rig) -> None:
    """kai introduces itself."""
    Deferred.fromCoroutine(rig.peers.met(KAI, "192.0.2.1", PeerPrincipal(name="kai")))


@pytest_twisted.ensureDeferred
async def test_one_request_at_a_time_and_the_rest_in_the_next(rig: Rig) -> None:
    rig.kai.held = Deferred()
    ids = [await rig.send(str(n)) for n in range(5)]
    assert rig.kai.asked == [urls.IDENTITY]
    held, rig.kai.held = rig.kai.held, None
    held.callback(None)
    await until(lambda: rig.state(ids[-1]) == "delivered")
    assert [i for batch in rig.kai.delivered for i in batch] == ids
    assert rig.kai.most_at_once == 1
    assert rig.kai.asked.count(urls.IDENTITY) == 1
    assert [len(batch) for batch in rig.kai.delivered] == [1, 4]


@pytest_twisted.ensureDeferred
async def test_tries_are_spaced_and_a_return_ends_the_wait(rig: Rig) -> None:
    rig.kai.fault = PeerUnreachable("not there")
    identifier = await rig.send()
    seen = []
    for _ in range(4):
        await until(lambda: len(seen) + 1 == rig.tries())
        await rig.settled()
        seen.append(min(c.getTime() for c in waits(rig)) - rig.clock.seconds())
        rig.clock.advance(seen[-1])
    assert all(0.8 * wait <= got <= 1.2 * wait for wait, got in zip((1, 2, 4, 8), seen, strict=True)), seen
    await rig.settled()
    assert rig.messages.get(identifier, "out").attempts == 5
    rig.kai.fault = None
    back(rig)
    await until(lambda: rig.state(identifier) == "delivered")


def waits(rig: Rig) -> list[Any]:
    """The timers of postmen."""
    return [p._timer for p in rig.delivery._postmen.values() if p._timer is not None]


@pytest_twisted.ensureDeferred
async def test_a_peer_that_asks_for_time_gets_it_though_more_is_queued(rig: Rig) -> None:
    back(rig)
    rig.kai.fault = RateLimited("slower")
    first = await rig.send()
    await until(lambda: bool(waits(rig)))
    tries = rig.tries()
    second = await rig.send()
    assert rig.tries() == tries
    rig.kai.fault = None
    rig.clock.advance(1.3)
    await until(lambda: rig.state(second) == "delivered")
    assert rig.kai.delivered == [[first, second]]


@pytest_twisted.ensureDeferred
async def test_what_is_queued_for_one_that_is_online_goes_at_once_after_another_fault(rig: Rig) -> None:
    back(rig)
    rig.kai.fault = UnknownRoute("what?")
    await rig.send()
    await until(lambda: bool(waits(rig)))
    rig.kai.fault = None
    second = await rig.send()
    await until(lambda: rig.state(second) == "delivered")


@pytest_twisted.ensureDeferred
async def test_later_keeps_what_comes_behind_it_waiting(rig: Rig) -> None:
    back(rig)
    ids = [f"m{n}" for n in range(4)]
    rig.kai.results = lambda identifier: "delivered" if identifier == "m0" else "later"
    rig.kai.held = Deferred()
    for identifier in ids:
        await rig.send(id=identifier)
    held, rig.kai.held = rig.kai.held, None
    held.callback(None)
    await until(lambda: bool(waits(rig)))
    assert [rig.state(i) for i in ids] == ["delivered", "queued", "queued", "queued"]
    assert "full" in str(rig.messages.get("m1", "out").reason)
    rig.kai.results = lambda _: "delivered"
    receipts = Receipts(receipts=(Receipt(id="m0", state="read", at=1),))
    await rig.messages.report(receipts, PeerPrincipal(name="kai"))
    await until(lambda: rig.state("m3") == "delivered")


@pytest_twisted.ensureDeferred
async def test_a_letter_that_the_peer_can_t_read_holds_up_no_other(rig: Rig) -> None:
    rig.kai.fault = PeerUnreachable("not yet")
    for identifier in ("m0", "poison", "m2", "m3"):
        await rig.send(id=identifier)
    await rig.settled()
    rig.kai.fault = None
    back(rig)
    await until(lambda: rig.state("m3") == "delivered")
    assert [rig.state(i) for i in ("m0", "poison", "m2")] == ["delivered", "refused", "delivered"]
    assert rig.messages.get("poison", "out").reason == "can't read that"
    assert [i for batch in rig.kai.delivered for i in batch] == ["m0", "m2", "m3"]


@pytest_twisted.ensureDeferred
async def test_receipts_go_out_though_the_peer_has_not_introduced_itself_yet(rig: Rig) -> None:
    await rig.peers.remove("kai")
    kai = PeerPrincipal(name="kai")
    envelope = {"id": "e", "type": "chat", "body": "b", "ts": 1, "thread": "e"}
    await rig.messages.accept([envelope], kai)
    await rig.messages.mark("e", None, "read")
    await until(lambda: bool(waits(rig)))
    back(rig)
    await until(lambda: rig.kai.receipts == [("e", "read")])
    await rig.messages.mark("e", None, "acked")
    await until(lambda: rig.kai.receipts == [("e", "read"), ("e", "acked")])


@pytest_twisted.ensureDeferred
async def test_a_peer_that_answers_nonsense_loses_nothing(rig: Rig) -> None:
    back(rig)
    rig.kai.results = lambda _: "whatever"
    identifier = await rig.send()
    await until(lambda: bool(waits(rig)))
    assert rig.state(identifier) == "queued"


@pytest_twisted.ensureDeferred
async def test_no_scope_is_final_and_an_unknown_key_is_not(rig: Rig) -> None:
    back(rig)
    rig.kai.fault = Forbidden("peer leo may not use messages here")
    refused = await rig.send()
    await until(lambda: rig.state(refused) == "refused")
    await rig.settled()  # what is sent while he still writes down the refusal is refused with it
    rig.kai.knows_us = False
    waiting = await rig.send()
    await until(lambda: bool(waits(rig)))
    assert rig.state(waiting) == "queued"
    rig.kai.knows_us, rig.kai.fault = True, None

    def later() -> bool:
        rig.clock.advance(2)  # it may have been tried in vain once or twice, and waits longer each time
        return rig.state(waiting) == "delivered"

    await until(later)


@pytest_twisted.ensureDeferred
async def test_it_stops_in_mid_request_and_sends_again_after_the_start(rig: Rig) -> None:
    rig.kai.held = Deferred(lambda d: d.errback(PeerUnreachable("cut")))
    identifier = await rig.send()
    await rig.delivery.stopService()
    assert (rig.state(identifier), waits(rig)) == ("queued", [])
    rig.kai.held = None
    rig.delivery.startService()
    await until(lambda: rig.state(identifier) == "delivered")


@pytest_twisted.ensureDeferred
async def test_another_machine_at_its_address_gets_nothing(rig: Rig) -> None:
    back(rig)
    rig.kai.identity = evolve(KAI, node_id="x" * 32)
    identifier = await rig.send()
    await until(lambda: bool(waits(rig)))
    assert rig.kai.delivered == []
    assert "another machine" in str(rig.messages.get(identifier, "out").reason)


# -- readers that wait ------------------------------------------------------------------------------------------------
def test_a_turn_ends_by_time_by_leaving_and_by_what_comes() -> None:
    clock = Clock()
    room = WaitingRoom(clock)
    heard: list[bool] = []
    turn = room.turn(5)
    turn.wait().addCallback(heard.append)
    room.wake()
    room.wake()
    assert heard == [True]
    turn.wait().addCallback(heard.append)
    clock.advance(5)
    assert heard == [True, False]
    assert turn.is_over
    turn.wait().addCallback(heard.append)
    assert heard == [True, False, False]
    assert room.turns == set()
    room.turn(0).wait().addCallback(heard.append)
    assert heard[-1] is False
    turn = room.turn(5)
    turn.wait().addCallback(heard.append)
    turn.leave()
    turn.leave()
    assert len(heard) == 5
    assert clock.getDelayedCalls() == []


def test_so_many_wait_and_no_more() -> None:
    clock = Clock()
    room = WaitingRoom(clock)
    for _ in range(MOST):
        room.turn(5)
    with pytest.raises(RateLimited):
        room.turn(5)
    room.end()
    room.turn(5)
    room.end()
    assert clock.getDelayedCalls() == []
