"""Running commands over HTTP: to the end (``/execute``), or as they go (``/execute/stream``)."""

from __future__ import annotations

import codecs
import json
import shlex
from base64 import b64encode
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from loopsy.core.principals import Scope, Scoped
from loopsy.core.rates import Category
from loopsy.services.clock import now_ms
from loopsy.services.daemon import Daemon
from loopsy.services.execution import Capture, RunningJob
from loopsy.web.request import EdgeRequest
from loopsy.web.routes import ANSWERED, Answered, Call, Routes
from loopsy.wire import codec, frames, sse, urls
from loopsy.wire.execution import ExecuteRequest, ExecuteResult, JobCancelled, JobList, JobRecords, Outcome
from loopsy.wire.execution_socket import SUBPROTOCOL

ACCESS = Scoped(Scope.EXECUTE)
NOTED = 4096
"""Characters of a command line in the audit log."""
JOB_ID = b"x-loopsy-job-id"


@frozen(eq=False)
class ExecutionArea:
    """Commands."""

    daemon: Daemon
    routes = Routes()

    @routes.declare(
        "POST", urls.EXECUTE, access=ACCESS, rate=Category.EXECUTE, takes=ExecuteRequest, answers=ExecuteResult
    )
    async def execute(self, call: Call[ExecuteRequest]) -> ExecuteResult:
        """Run a command and answer with its output. Ends with its reader, unless detached."""
        note(call, call.body)
        capture = Capture(self.daemon.settings.config.execution.max_output)
        execution = self.daemon.execution
        if not call.body.detach:
            call.request.notifyFinish().addErrback(lambda _: execution.abandon(capture))
        result = await execution.run(call.body, call.principal, self._node(call), capture)
        call.note(job=result.job_id, exit=result.exit_code)
        return result

    @routes.declare("POST", urls.EXECUTE_STREAM, access=ACCESS, rate=Category.EXECUTE, takes=ExecuteRequest)
    async def stream(self, call: Call[ExecuteRequest]) -> Answered:
        """Run a command and stream its output: server-sent events, or frames where those are accepted."""
        note(call, call.body)
        framed = frames.CONTENT_TYPE in (call.request.header(b"accept") or "")
        format_: Format = Frames() if framed else Events(call.body.encoding == "base64")
        stream = OutputStream(self.daemon, call, format_)
        if call.body.detach:
            job = await self._start_detached(call, stream)
        else:
            job = await self.daemon.execution.start(call.body, call.principal, self._node(call), stream)
        call.note(job=job.job_id)
        stream.begin(job)
        return ANSWERED

    async def _start_detached(self, call: Call[ExecuteRequest], stream: OutputStream) -> RunningJob:
        """A job whose output is kept, for readers that come later."""
        detached, node = self.daemon.detached, self._node(call)
        kept = await detached.begin(call.body, call.principal, node)
        kept.reader = stream
        job_id = kept.record.job_id
        try:
            job = await self.daemon.execution.start(call.body, call.principal, node, kept, job_id=job_id)
        except BaseException:
            detached.failed(kept)
            raise
        if job.group is not None:
            detached.started(kept, job.group.pid)
        return job

    @routes.declare("GET", urls.EXECUTE_SOCKET, access=ACCESS, rate=Category.EXECUTE)
    def socket(self, call: Call[None]) -> Answered:
        """Run a command with its standard input (WebSocket)."""
        from loopsy.web.execution_socket import InputSocket
        from loopsy.web.websocket import accept  # only when asked for: it loads a parser

        endpoint = InputSocket(self.daemon, call)
        endpoint.socket = accept(call.request, SUBPROTOCOL, endpoint, is_patient=True)
        return ANSWERED

    @routes.declare("GET", urls.JOBS, access=ACCESS, answers=JobList)
    def jobs(self, call: Call[None]) -> JobList | JobRecords:
        """What runs now: all of it for the own key, for a peer what it started itself; ``?all=1``: detached ones that
        are over too."""
        running = self.daemon.execution.jobs(call.principal)
        if call.query("all") != "1":
            return JobList(jobs=running)
        return JobRecords(jobs=running, detached=self.daemon.detached.records(call.principal))

    @routes.declare("DELETE", urls.JOB, access=ACCESS, answers=JobCancelled)
    def cancel(self, call: Call[None], job_id: str) -> JobCancelled:
        """End a job: TERM to its process group, KILL five seconds later."""
        call.note(job=job_id)
        self.daemon.execution.cancel(job_id, call.principal)
        return JobCancelled(success=True, job_id=job_id)

    def _node(self, call: Call[Any]) -> str:
        return self.daemon.peers.node_of(call.principal)


def note(call: Call[Any], request: ExecuteRequest) -> None:
    """Put the command on the audit line."""
    call.note(command=shlex.join([request.command, *request.args])[:NOTED])
    if request.cwd is not None:
        call.note(cwd=request.cwd)


# -- how output travels -----------------------------------------------------------------------------------------------
class Format(Protocol):
    """Output and end as bytes on the wire."""

    content_type: str

    def output(self, job_id: str, kind: str, data: bytes) -> bytes:
        """Some output; ``kind`` is stdout or stderr."""

    def end(self, job_id: str, outcome: Outcome) -> bytes:
        """The end."""


class Frames:
    """Byte for byte (see wire/frames.py)."""

    content_type = frames.CONTENT_TYPE

    def output(self, job_id: str, kind: str, data: bytes) -> bytes:
        """One frame."""
        return frames.encode(frames.OUT if kind == "stdout" else frames.ERR, data)

    def end(self, job_id: str, outcome: Outcome) -> bytes:
        """The last frame."""
        return frames.encode(frames.EXIT, codec.dump(outcome))


class Events:
    """Server-sent events, as existing nodes send them. Text is decoded as it comes, so that no character breaks at the
    end of a piece."""

    content_type = sse.CONTENT_TYPE

    def __init__(self, exact: bool) -> None:
        self._exact = exact
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {"stdout": decoder("replace"), "stderr": decoder("replace")}

    def output(self, job_id: str, kind: str, data: bytes) -> bytes:
        """One event; none while a character is not whole."""
        if self._exact:
            return self._event(kind, b64encode(data).decode("ascii"), job_id, encoding="base64")
        text = self._decoders[kind].decode(data)
        return self._event(kind, text, job_id) if text else b""

    def end(self, job_id: str, outcome: Outcome) -> bytes:
        """What was left of half a character, and the exit."""
        rests = [(kind, decoder.decode(b"", True)) for kind, decoder in self._decoders.items()]
        last = b"".join(self._event(kind, text, job_id) for kind, text in rests if text)
        more = {key: value for key, value in codec.plain_value(outcome).items() if value is not None}
        more["exitCode"] = outcome.exit_code
        return last + self._event("exit", json.dumps(outcome.exit_code), job_id, **more)

    def _event(self, kind: str, data: str, job_id: str, **more: Any) -> bytes:
        return sse.encode({"type": kind, "data": data, "jobId": job_id, "timestamp": now_ms(), **more})


@implementer(IPushProducer)
class OutputStream:
    """A job's sink that writes to its reader: a slow one pauses the process, one that leaves ends it."""

    def __init__(self, daemon: Daemon, call: Call[ExecuteRequest], format_: Format) -> None:
        self._daemon = daemon
        self._call = call
        self._request: EdgeRequest = call.request
        self._format = format_
        self._job: RunningJob | None = None
        self._early: list[tuple[str, bytes]] = []
        self._outcome: Outcome | None = None
        self._gone = False
        self._paused = False
        self._request.notifyFinish().addErrback(self._reader_left)

    def begin(self, job: RunningJob) -> None:
        """The job runs: send the head, then what it printed already."""
        self._job = job
        if self._gone:
            self._leave()
            return
        self._request.responseHeaders.setRawHeaders(JOB_ID, [job.job_id.encode()])
        self._request.begin(200, self._format.content_type.encode())
        self._request.write(b"")
        self._request.registerProducer(self, True)
        early, self._early = self._early, []
        for kind, data in early:
            self._write(kind, data)
        if self._outcome is not None:
            self.done(self._outcome)

    # -- from the job
    def out(self, data: bytes) -> None:
        """Standard output."""
        self._write("stdout", data)

    def err(self, data: bytes) -> None:
        """Standard error."""
        self._write("stderr", data)

    def _write(self, kind: str, data: bytes) -> None:
        if self._gone:
            return
        if self._job is None:
            self._early.append((kind, data))
            return
        self._request.write(self._format.output(self._job.job_id, kind, data))

    def done(self, outcome: Outcome) -> None:
        """The job is over."""
        self._outcome = outcome
        self._call.note(exit=outcome.exit_code, **({"signal": outcome.signal} if outcome.signal else {}))
        if self._gone or self._job is None:
            return
        self._request.unregisterProducer()
        self._request.write(self._format.end(self._job.job_id, outcome))
        self._request.finish()

    # -- from the reader
    def pauseProducing(self) -> None:
        """It is slow."""
        if self._job is not None:
            self._job.pause()

    def resumeProducing(self) -> None:
        """It takes more."""
        if self._job is not None:
            self._job.resume()

    def stopProducing(self) -> None:
        """It left; notifyFinish tells too."""

    def _reader_left(self, _: Failure) -> None:
        self._gone = True
        if self._job is not None:
            self._leave()

    def _leave(self) -> None:
        assert self._job is not None
        if not self._call.body.detach:
            self._daemon.execution.cancel_if_running(self._job.job_id)
        self._job.resume()
