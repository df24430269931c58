"""A command's output as it comes from ``POST /execute/stream``: frames, or an older node's server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from loopsy.client.http1 import Response
from loopsy.wire import frames

ACCEPT = f"{frames.CONTENT_TYPE}, text/event-stream"
Part = tuple[int, bytes | memoryview]
"""A frame's kind and (some of) its payload."""


class CommandOutput:
    """An answer of ``/execute/stream``, asked for with ``ACCEPT`` and ``"encoding": "base64"``."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._is_events = response.headers.get("content-type", "").startswith("text/event-stream")
        self.job_id = response.headers.get("x-loopsy-job-id", "")
        """An older node names the job in its events: there it is known with the first of them."""

    def parts(self) -> Iterator[Part]:
        """What comes, to its end, which is of the kind EXIT or ERROR unless the answer was cut.

        :raises ConnectionBroken: it was cut. :raises ValueError: it is neither frames nor events.
        """
        if self._is_events:
            for event in self._events():
                self.job_id = self.job_id or str(event.get("jobId", ""))
                yield frame_of(event)
            return
        decoder = frames.Decoder()
        for piece in self._response.stream():
            yield from decoder.feed(piece)

    def wait_for_job_id(self) -> str:
        """The job's id, if need be from the first event that names it."""
        if self._is_events and not self.job_id:
            self.job_id = next((str(event["jobId"]) for event in self._events() if "jobId" in event), "")
        return self.job_id

    def _events(self) -> Iterator[dict[str, Any]]:
        from loopsy.wire import sse

        decoder = sse.Decoder()
        for piece in self._response.stream():
            for text in decoder.feed(piece):
                event = json.loads(text)
                if isinstance(event, dict):
                    yield event


def frame_of(event: dict[str, Any]) -> Part:
    """An event as the frame it would be. An older node's exit is text (``"0"``), its output plain text."""
    data = event.get("data", "")
    if event.get("type") in ("stdout", "stderr"):
        from base64 import b64decode

        raw = b64decode(data) if event.get("encoding") == "base64" else str(data).encode("utf-8", "surrogatepass")
        return (frames.OUT if event["type"] == "stdout" else frames.ERR), raw
    if event.get("type") == "exit":
        if "exitCode" not in event:
            event["exitCode"] = int(data) if str(data).lstrip("-").isdigit() else None
            event["killed"] = event["exitCode"] is None
        return frames.EXIT, json.dumps(event).encode()
    if event.get("type") == "error":
        message = data.get("error", data) if isinstance(data, dict) else data
        error = event.get("error") if isinstance(event.get("error"), dict) else message
        return frames.ERROR, json.dumps({"error": error}).encode()
    return frames.OUT, b""
