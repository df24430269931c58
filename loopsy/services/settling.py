"""The end of a pairing on the joiner's side, which survives a kill -9 at any point.

    put aside on disk → tell the inviter to store (its config.yaml is the moment of pairing) → store → forget the first

What was put aside and not settled is settled at the next start.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from loopsy.client.peer import PeerClient, Target
from loopsy.core.pairing import Prepared, settles
from loopsy.errors import (
    Forbidden,
    LoopsyError,
    NoPairingSession,
    PairingEnded,
    PairingViolation,
    PeerTimeout,
    PeerUnreachable,
)
from loopsy.services.clock import now_ms
from loopsy.services.storage import Storage
from loopsy.store.database import PAIRING_PREPARED, get_fact, set_fact
from loopsy.wire import codec, urls
from loopsy.wire.pairing import PairMessage
from loopsy.wire.peers import NodeIdentity

FACT = PAIRING_PREPARED
WAITS_S = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0)
"""Between tries to reach the inviter; the last goes on."""
GIVE_UP_MS = 24 * 3600 * 1000
"""An inviter that stays away for a day after the session is not waited for: the pair is made anew."""

Keep = Callable[[Prepared], Awaitable[str]]


class Settling:
    """Puts aside, settles, forgets."""

    log = Logger()

    def __init__(self, reactor: Any, storage: Storage, client: PeerClient, keep: Keep) -> None:
        self._reactor = reactor
        self._storage = storage
        self._client = client
        self._keep = keep
        self.is_stopped = False
        self._pause: Deferred[None] | None = None

    def stop(self) -> None:
        """Ask no more."""
        self.is_stopped = True
        if self._pause is not None:
            self._pause.cancel()

    def left_over(self) -> Prepared | None:
        """What an earlier run of the daemon put aside and did not settle."""
        text = get_fact(self._storage.reader, FACT)
        return codec.parse(Prepared, json.loads(text)) if text else None

    async def settle(self, prepared: Prepared) -> str:
        """To the end; returns what the peer is called.

        :raises PairingEnded: the inviter has not stored its half, and never will. :raises LoopsyError: ours can't be.
        """
        await self._remember(codec.dump(prepared).decode())
        return await self.resume(prepared)

    async def resume(self, prepared: Prepared) -> str:
        """The same for what is put aside already.

        :raises PairingEnded: :raises LoopsyError:
        """
        if not await self._is_stored_there(prepared):
            await self._remember("")
            raise PairingEnded("the other machine did not finish the pairing; nothing was kept, on either side")
        name = await self._keep(prepared)
        await self._remember("")
        return name

    async def _remember(self, text: str) -> None:
        await self._storage.write(lambda db: set_fact(db, FACT, text))

    async def _is_stored_there(self, prepared: Prepared) -> bool:
        tries = 0
        while now_ms() < prepared.until + GIVE_UP_MS and not self.is_stopped:
            found = await self._ask(prepared)
            if found is not None:
                return found
            await self._wait(WAITS_S[min(tries, len(WAITS_S) - 1)])
            tries += 1
        if self.is_stopped:
            raise PairingEnded("the daemon is stopping; the pairing is settled when it is back")
        return False

    async def _wait(self, seconds: float) -> None:
        self._pause = deferLater(self._reactor, seconds)
        try:
            await self._pause
        except CancelledError:
            pass
        finally:
            self._pause = None

    async def _ask(self, prepared: Prepared) -> bool | None:
        """By the message, while its session is known there; by the new key after that. None: not to be told yet."""
        target = Target(prepared.address, prepared.port, pin=prepared.pin)
        message = PairMessage.of(bytes.fromhex(prepared.finish))
        try:
            answer = await self._client.ask(target, b"POST", urls.PAIR_MESSAGES, PairMessage, message)
            return settles(prepared, answer.data)
        except (PeerUnreachable, PeerTimeout):
            return None
        except LoopsyError as error:
            is_gone = isinstance(error, NoPairingSession)
            return await self._try_key(prepared, evolve(target, key=prepared.our_key), is_gone)

    async def _try_key(self, prepared: Prepared, target: Target, session_is_gone: bool) -> bool | None:
        try:
            node = await self._client.ask(target, b"GET", urls.IDENTITY, NodeIdentity)
        except Forbidden:
            return False if session_is_gone or now_ms() > prepared.until else None
        except LoopsyError as error:
            self.log.info("not settled with {name} yet: {error}", name=prepared.node.hostname, error=error)
            return None
        if node.node_id != prepared.node.node_id:
            raise PairingViolation("another machine answers there now")
        return True
