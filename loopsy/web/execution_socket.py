"""A command with its standard input, over a WebSocket (docs/protocol/terminals.md): both ways at once, at the pace of
whoever is slower. A request's body can't do that through the gateway, where an answer only begins after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from loopsy.errors import InternalError, InvalidRequest, LoopsyError
from loopsy.services.daemon import Daemon
from loopsy.services.execution import RunningJob, Sink
from loopsy.web.execution import note
from loopsy.web.routes import Call
from loopsy.wire import codec, frames
from loopsy.wire.execution import ExecuteRequest, Outcome

POLICY = 1008


@implementer(IPushProducer)
class InputSocket(Sink):
    """The socket's Endpoint, the job's Sink, and the producer of its input."""

    def __init__(self, daemon: Daemon, call: Call[None]) -> None:
        self.socket: Any = None
        self._daemon = daemon
        self._call = call
        self._job: RunningJob | None = None
        self._started = False
        self._gone = False
        self._is_slow = False
        self._early = b""
        self._input_over = False

    # -- from the client ------------------------------------------------------------------------------------------
    def text(self, words: Mapping[str, Any]) -> None:
        """First the command, at the end of its input ``{"type": "eof"}``."""
        if words.get("type") == "eof":
            self._input_over = True
            if self._job is not None and self._job.group is not None:
                self._job.group.close_input()
        elif self._started:
            self.socket.close(POLICY, "one command for each connection")
        else:
            self._started = True
            Deferred.fromCoroutine(self._start(words)).addErrback(self._failed)

    async def _start(self, words: Mapping[str, Any]) -> None:
        request = codec.parse(ExecuteRequest, dict(words))
        if request.detach:
            raise InvalidRequest("detach: a command that reads this connection's input can't outlive it")
        note(self._call, request)
        self.socket.read_no_more()
        node = self._daemon.peers.node_of(self._call.principal)
        job = await self._daemon.execution.start(request, self._call.principal, node, self, has_input=True)
        self._job = job
        self._call.note(job=job.job_id)
        if self._gone:
            self._daemon.execution.cancel_if_running(job.job_id)
            return
        self.socket.say(type="started", jobId=job.job_id)
        self.socket.read_on()
        if job.group is not None:
            job.group.feed_from(self)
            job.group.write(self._early)
            if self._input_over:
                job.group.close_input()

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        if not isinstance(error, LoopsyError):
            failure.printTraceback()
            error = InternalError()
        if not self._gone:
            self.socket.send(frames.encode(frames.ERROR, codec.dump(error.body())))
            self.socket.close()

    def data(self, data: bytes) -> None:
        """Some of its input."""
        if not self._started:
            self.socket.close(POLICY, "the command comes first")
        elif self._input_over:
            self.socket.close(POLICY, "the input has ended")
        elif self._job is None:
            self._early += data
        elif self._job.group is not None:
            self._job.group.write(data)

    def slow(self) -> None:
        """The client takes no more output for now."""
        if self._job is not None:
            self._job.pause()

    def ready(self) -> None:
        """It does again."""
        if self._job is not None:
            self._job.resume()

    def gone(self) -> None:
        """It left: so ends what it started."""
        self._gone = True
        if self._job is not None:
            self._daemon.execution.cancel_if_running(self._job.job_id)
            self._job.resume()

    # -- the command's input: it takes no more for now, it does again, it has closed it -----------------------------
    def pauseProducing(self) -> None:
        """Full."""
        self.socket.read_no_more()

    def resumeProducing(self) -> None:
        """Not full."""
        self.socket.read_on()

    def stopProducing(self) -> None:
        """Closed: what still comes is thrown away."""
        self.socket.read_on()

    # -- from the job ---------------------------------------------------------------------------------------------
    def out(self, data: bytes) -> None:
        """Standard output."""
        self._send(frames.OUT, data)

    def err(self, data: bytes) -> None:
        """Standard error."""
        self._send(frames.ERR, data)

    def done(self, outcome: Outcome) -> None:
        """The job is over."""
        self._call.note(exit=outcome.exit_code, **({"signal": outcome.signal} if outcome.signal else {}))
        self._send(frames.EXIT, codec.dump(outcome))
        if not self._gone:
            self.socket.close()

    def _send(self, kind: int, payload: bytes) -> None:
        if not self._gone:
            self.socket.send(frames.encode(kind, payload))
