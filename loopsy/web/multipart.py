"""multipart/form-data of one pushed file, read as it comes."""

from __future__ import annotations

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from loopsy.core import transfer as rules
from loopsy.errors import InvalidRequest, LoopsyError, WrongContentType
from loopsy.services.intake import Intake
from loopsy.services.transfer import Incoming

MAX_FIELD = 128 * 1024
"""Bytes of a field: a path has at most 32,768 characters."""
MAX_PARTS = 8


def boundary(content_type: str | None) -> str:
    """What stands between the parts.

    :raises WrongContentType: the body isn't multipart/form-data. :raises InvalidRequest: it doesn't say.
    """
    kind, options = parse_options_header(content_type or "")
    if kind != "multipart/form-data":
        raise WrongContentType("a push is multipart/form-data")
    if not options.get("boundary"):
        raise InvalidRequest("the content-type names no boundary")
    return str(options["boundary"])


@implementer(IConsumer)
class Form:
    """Stands between the body and the intake: fields go to the Incoming, the file's bytes to the Intake."""

    def __init__(self, boundary: str, incoming: Incoming, intake: Intake) -> None:
        self._incoming = incoming
        self._intake = intake
        try:
            self._parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS, strict=True)
        except MultipartError as error:
            raise InvalidRequest(f"the body is not multipart/form-data: {error}") from None
        self._segment: MultipartSegment | None = None
        self._field = bytearray()
        self._seen_file = False

    def check_length(self, length: int | None, limit: int) -> None:
        """From the head alone: whether the file can't be small enough.

        :raises FileTooLarge:
        """
        if length is not None:
            rules.check_size(length, limit)

    def write(self, data: bytes) -> None:
        """Some of the body. What is wrong with it ends the intake."""
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._end_part()
                else:
                    self._content(bytes(event))
        except MultipartError as error:
            self._intake.fail(InvalidRequest(f"the body is not multipart/form-data: {error}"))
        except LoopsyError as error:
            self._intake.fail(error)

    def _begin(self, segment: MultipartSegment) -> None:
        self._segment = segment
        self._field.clear()
        if segment.filename is None:
            return
        if self._seen_file:
            raise InvalidRequest("there are two files; one at a time is pushed")
        self._seen_file = True
        self._incoming.filename = segment.filename
        if self._incoming.path is not None:
            self._intake.look()  # so that a place that can't be written to is refused now

    def _content(self, data: bytes) -> None:
        assert self._segment is not None
        if self._segment.filename is not None:
            self._intake.add(data)
            return
        self._field += data
        if len(self._field) > MAX_FIELD:
            raise InvalidRequest(f"the field {self._segment.name!r} has more than {MAX_FIELD} bytes")

    def _end_part(self) -> None:
        assert self._segment is not None
        if self._segment.filename is not None:
            return
        try:
            text = self._field.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest(f"the field {self._segment.name!r} is not UTF-8") from None
        if self._segment.name == "destPath":
            self._incoming.path = text
            self._incoming.transfer.parts(text)
        elif self._segment.name == "checksum" and text:
            self._incoming.checksum = rules.checksum_text(text)

    def end(self) -> None:
        """That was all.

        :raises InvalidRequest: something is missing.
        """
        try:
            self._parser.close()
        except MultipartError as error:
            raise InvalidRequest(f"the body is not multipart/form-data: {error}") from None
        if not self._seen_file:
            raise InvalidRequest("there is no part with a file name, so no file")
        if self._incoming.path is None:
            raise InvalidRequest("the field destPath is missing")

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """The body calls startProducing instead."""

    def unregisterProducer(self) -> None:
        """As above."""
