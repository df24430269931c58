"""The inbox and the outbox over HTTP; and what daemons deliver to each other."""

from __future__ import annotations

from attrs import frozen

from loopsy.core.messages import OPEN, Wanted
from loopsy.core.principals import LocalOnly, Scope, Scoped
from loopsy.core.rates import Category
from loopsy.errors import InvalidRequest
from loopsy.services.daemon import Daemon
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.wire import codec, urls
from loopsy.wire.messages import (
    ACKED,
    DELIVER_BYTES,
    IN,
    OUT,
    PAGE_MAX,
    READ,
    STATES,
    WAIT_MAX_S,
    Deliver,
    Deliveries,
    Message,
    MessagePage,
    MessageRemoved,
    Receipts,
    SendMessage,
    Sent,
    Take,
    Thread,
)

FROM_PEERS = Scoped(Scope.MESSAGES)
NOTED = 20
"""Messages on the audit line."""


@frozen(eq=False)
class MessagesArea:
    """Messages of this machine's user and agents, and of its peers."""

    daemon: Daemon
    routes = Routes()

    @routes.declare("POST", urls.MESSAGES, access=LocalOnly(), takes=SendMessage, answers=Sent, status=201)
    async def send(self, call: Call[SendMessage]) -> Sent | Answered:
        """Send a message to a peer, to this machine, or (``*``) to every trusted peer. 200: it was sent before."""
        call.note(to=call.body.to)
        messages, is_new = await self.daemon.messages.send(call.body)
        call.note(message=messages[0].id)
        if is_new:
            return Sent(messages=messages)
        call.request.send_json(200, codec.dump(Sent(messages=messages)))
        return ANSWERED

    @routes.declare("GET", urls.INBOX, access=LocalOnly(), answers=MessagePage)
    async def inbox(self, call: Call[None]) -> MessagePage:
        """What came, oldest first: ``?state=&from=&thread=&after=&limit=&wait=``. It changes nothing."""
        return await self._page(call, IN, "from")

    @routes.declare("GET", urls.OUTBOX, access=LocalOnly(), answers=MessagePage)
    async def outbox(self, call: Call[None]) -> MessagePage:
        """What was sent, oldest first: ``?state=&to=&thread=&after=&limit=&wait=``, ``newest=1`` for the last ones."""
        return await self._page(call, OUT, "to")

    async def _page(self, call: Call[None], direction: str, peer: str) -> MessagePage:
        wanted = Wanted(
            direction=direction,
            states=states(call.query("state") or "all"),
            peer=call.query(peer),
            thread=call.query("thread"),
            after=number(call, "after", 0, 2**62, None),
            limit=number(call, "limit", 1, PAGE_MAX, 50) or 50,
            newest=call.query("newest") == "1",
        )
        turn = self.daemon.messages.turn(seconds(call))
        call.request.notifyFinish().addBoth(turn.leave)
        return await self.daemon.messages.page(wanted, turn)

    @routes.declare("POST", urls.TAKE, access=LocalOnly(), takes=Take, answers=MessagePage)
    async def take(self, call: Call[Take]) -> MessagePage:
        """The oldest unread messages, which are read from now on. No two readers get the same."""
        turn = self.daemon.messages.turn(call.body.wait)
        call.request.notifyFinish().addBoth(turn.leave)
        page = await self.daemon.messages.take(call.body, turn)
        call.note(messages=[message.id for message in page.messages[:NOTED]])
        return page

    @routes.declare("GET", urls.MESSAGE_THREAD, access=LocalOnly(), answers=Thread)
    def thread(self, call: Call[None], thread: str) -> Thread:
        """A conversation both ways, oldest first."""
        return Thread(messages=self.daemon.messages.thread(thread))

    @routes.declare("GET", urls.MESSAGE, access=LocalOnly(), answers=Message)
    def show(self, call: Call[None], message_id: str) -> Message:
        """One message; ``?box=in|out`` where it is in both."""
        return self.daemon.messages.get(message_id, box(call))

    @routes.declare("POST", urls.MESSAGE_READ, access=LocalOnly(), answers=Message)
    async def read(self, call: Call[None], message_id: str) -> Message:
        """A message was read."""
        call.note(message=message_id)
        return await self.daemon.messages.mark(message_id, box(call), READ)

    @routes.declare("POST", urls.MESSAGE_ACK, access=LocalOnly(), answers=Message)
    async def ack(self, call: Call[None], message_id: str) -> Message:
        """A message was understood, or done: its sender learns that."""
        call.note(message=message_id)
        return await self.daemon.messages.mark(message_id, box(call), ACKED)

    @routes.declare("DELETE", urls.MESSAGE, access=LocalOnly(), answers=MessageRemoved)
    async def remove(self, call: Call[None], message_id: str) -> MessageRemoved:
        """Cancel a message that waits, or strike any other from our list."""
        call.note(message=message_id)
        await self.daemon.messages.remove(message_id, box(call))
        return MessageRemoved(success=True, id=message_id)

    @routes.declare(
        "POST", urls.DELIVER, access=FROM_PEERS, rate=Category.DELIVERIES, takes=Deliver, answers=Deliveries,
        body_limit=DELIVER_BYTES,
    )  # fmt: skip
    async def deliver(self, call: Call[Deliver]) -> Deliveries:
        """A peer delivers messages; what it answers for is on disk."""
        call.note(messages=len(call.body.envelopes))
        return await self.daemon.messages.accept(call.body.envelopes, call.principal)

    @routes.declare(
        "POST", urls.RECEIPTS, access=FROM_PEERS, rate=Category.DELIVERIES, takes=Receipts, answers=Deliveries,
        body_limit=DELIVER_BYTES,
    )  # fmt: skip
    async def receipts(self, call: Call[Receipts]) -> Deliveries:
        """A peer tells what became of messages that we sent it."""
        call.note(receipts=len(call.body.receipts))
        return await self.daemon.messages.report(call.body, call.principal)


def box(call: Call[None]) -> str | None:
    """Which box is meant: ``?box=in|out``, or None.

    :raises InvalidRequest: another.
    """
    named = call.query("box")
    if named not in (None, IN, OUT):
        raise InvalidRequest("box must be in or out")
    return named


def states(word: str) -> tuple[str, ...]:
    """The states that ``?state=`` means: one, ``open``, or ``all`` (none of them in particular).

    :raises InvalidRequest: it means none.
    """
    if word == "all":
        return ()
    if word == "open":
        return OPEN
    if word not in STATES:
        raise InvalidRequest(f"state must be one of all, open, {', '.join(STATES)}")
    return (word,)


def number(call: Call[None], name: str, low: int, high: int, default: int | None) -> int | None:
    """A whole number of the query.

    :raises InvalidRequest: it is none, or too small or large.
    """
    text = call.query(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not low <= int(text) <= high:
        raise InvalidRequest(f"{name} must be a whole number from {low} to {high}")
    return int(text)


def seconds(call: Call[None]) -> float:
    """``?wait=``.

    :raises InvalidRequest: it is no number of seconds, or too many.
    """
    text = call.query("wait") or "0"
    try:
        wait = float(text)
    except ValueError:
        wait = -1
    if not 0 <= wait <= WAIT_MAX_S:  # not-a-number is refused too
        raise InvalidRequest(f"wait must be a number of seconds from 0 to {WAIT_MAX_S}")
    return wait
