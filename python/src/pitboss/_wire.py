"""Frames of the data and control sockets: bytes in, frames out, no input or output here.

A transcription of ipc/PROTOCOL.md §1. The Go half replays the same golden bytes (ipc/testdata/frames).
"""

from __future__ import annotations

import struct
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

VERSION = 1
HEADER_SIZE = 24
MAX_PARTS = 1024
MAX_CONTROL_JSON = 1 << 20
DEFAULT_PAYLOAD_LIMIT = 128 << 20

REQUEST, CHUNK, RESULT, ERROR = 1, 2, 3, 4
PING, PONG, CANCEL, CREDIT, DRAIN, GO, READY, FAILED, DOING = 16, 17, 18, 19, 20, 21, 22, 23, 24

DATA, CONTROL = "data", "control"

Buffer = Union[bytes, bytearray, memoryview]


class Kind(NamedTuple):
    """One row of the table of types."""

    name: str
    socket: str
    json: bool
    parts: bool


KINDS: Dict[int, Kind] = {
    REQUEST: Kind("REQUEST", DATA, True, True),
    CHUNK: Kind("CHUNK", DATA, True, True),
    RESULT: Kind("RESULT", DATA, True, True),
    ERROR: Kind("ERROR", DATA, True, False),
    PING: Kind("PING", CONTROL, False, False),
    PONG: Kind("PONG", CONTROL, True, False),
    CANCEL: Kind("CANCEL", CONTROL, False, False),
    CREDIT: Kind("CREDIT", CONTROL, True, False),
    DRAIN: Kind("DRAIN", CONTROL, False, False),
    GO: Kind("GO", CONTROL, True, False),
    READY: Kind("READY", CONTROL, True, False),
    FAILED: Kind("FAILED", CONTROL, True, False),
    DOING: Kind("DOING", CONTROL, True, False),
}

# version, type, flags, json length, call id, parts section length, part count, reserved
_HEADER = struct.Struct("!BBHIQIHH")
_LENGTH = struct.Struct("!I")
# A frame that fits is received and decoded in this buffer; the body of a larger one gets memory of its own size, once its
# header has passed every limit.
_BUFFER_SIZE = 64 << 10


class ProtocolError(Exception):
    """A frame that may not be. The connection it came on cannot be read any further.

    ``code`` names the broken rule: version, type, socket, flags, reserved, json, parts, too_large or eof (cut short).
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"protocol error: {detail}")
        self.code = code


class TooLargeError(ProtocolError):
    """A frame over a limit, refused before anything was allocated for it."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__("too_large", f"{what} of {size} bytes is over the limit of {limit}")
        self.size = size
        self.limit = limit


class Frame(NamedTuple):
    """One message. ``call`` is the call id, or the stamp of a ping; ``json`` is UTF-8, empty when there is none."""

    type: int
    call: int
    json: bytes
    parts: List[bytes]


def payload_size(json: Buffer, parts: Sequence[Buffer]) -> int:
    """What the payload limit bounds: the json text and the parts section, in bytes."""
    return len(json) + 4 * len(parts) + sum(map(len, parts))


def encode_head(type: int, call: int, json: Buffer = b"", parts: Sequence[Buffer] = ()) -> bytes:
    """Everything of a frame but the bytes of its parts."""
    section = 4 * len(parts) + sum(map(len, parts))
    header = _HEADER.pack(VERSION, type, 0, len(json), call, section, len(parts), 0)
    return b"".join((header, json, *(_LENGTH.pack(len(part)) for part in parts)))


def encode(type: int, call: int, json: Buffer = b"", parts: Sequence[Buffer] = ()) -> bytes:
    """The bytes of one frame. The caller has checked the size against the limit of the link."""
    if not parts:
        return _HEADER.pack(VERSION, type, 0, len(json), call, 0, 0, 0) + json
    return b"".join((encode_head(type, call, json, parts), *parts))


class _Header(NamedTuple):
    type: int
    call: int
    json: int
    section: int
    parts: int


def _parse_header(buffer: Buffer, at: int, socket: str, limit: int) -> _Header:
    """Every rule of PROTOCOL.md §1 for a header; ProtocolError names the first that is broken."""
    version, type, flags, json, call, section, parts, reserved = _HEADER.unpack_from(buffer, at)
    if version != VERSION:
        raise ProtocolError("version", f"frame version {version}")
    kind = KINDS.get(type)
    if kind is None:
        raise ProtocolError("type", f"unknown frame type {type}")
    if kind.socket != socket:
        raise ProtocolError("socket", f"{kind.name} does not belong on this socket")
    if flags:
        raise ProtocolError("flags", f"{kind.name} with undefined flags {flags}")
    if reserved:
        raise ProtocolError("reserved", f"{kind.name} with reserved bytes set")
    if json and not kind.json:
        raise ProtocolError("json", f"{kind.name} with a json text, bytes {json}")
    if kind.json and not json:
        raise ProtocolError("json", f"{kind.name} without a json text")
    if parts and not kind.parts:
        raise ProtocolError("parts", f"{kind.name} with parts {parts}")
    if parts > MAX_PARTS:
        raise TooLargeError("part count", parts, MAX_PARTS)
    if json + section > limit:
        raise TooLargeError(f"{kind.name} payload", json + section, limit)
    if section < 4 * parts or (section and not parts):
        raise ProtocolError("parts", f"{kind.name} with a parts section of bytes {section}")
    return _Header(type, call, json, section, parts)


def _split_parts(section: memoryview, count: int) -> List[bytes]:
    parts: List[bytes] = []
    at, end = 4 * count, len(section)
    for (size,) in _LENGTH.iter_unpack(section[:at]):
        if size > end - at:
            raise ProtocolError("parts", f"part beyond its section, length {size}")
        parts.append(bytes(section[at : at + size]))
        at += size
    if at != end:
        raise ProtocolError("parts", f"parts section with bytes of no part {end - at}")
    return parts


class Decoder:
    """Finds the frames in what a socket delivers.

    Fill ``buffer()``, say how much with ``received(n)``, then take frames with ``next()`` until it returns None. A frame that
    may not be raises ProtocolError and is not consumed: every later call raises it again.
    """

    def __init__(self, socket: str, limit: int = DEFAULT_PAYLOAD_LIMIT) -> None:
        self._socket = socket
        self._with_json = frozenset(number for number, kind in KINDS.items() if kind.socket == socket and kind.json)
        self.limit = limit
        self._buffer = bytearray(_BUFFER_SIZE)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        # The frame whose body does not fit into the buffer: its header, its own memory, how much of that is filled.
        self._large: Optional[Tuple[_Header, bytearray]] = None
        self._filled = 0

    @property
    def limit(self) -> int:
        """The most bytes of json text plus parts section; on a control socket never more than MAX_CONTROL_JSON."""
        return self._limit

    @limit.setter
    def limit(self, value: int) -> None:
        self._limit = min(value, MAX_CONTROL_JSON) if self._socket == CONTROL else value

    def buffer(self) -> memoryview:
        """Memory to receive into, never empty once next() has returned None."""
        if self._large is not None:
            return memoryview(self._large[1])[self._filled :]
        if self._start == self._end:
            self._start = self._end = 0
            return self._view
        if self._end == _BUFFER_SIZE:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start :]
            self._start, self._end = 0, rest
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """The first ``count`` bytes of the last buffer() are filled."""
        if self._large is not None:
            self._filled += count
        else:
            self._end += count

    def next(self) -> Optional[Frame]:
        """The next whole frame, or None when more bytes are needed."""
        if self._large is not None:
            return self._next_large()
        start = self._start
        have = self._end - start
        if have < HEADER_SIZE:
            return None
        version, type, flags, json, call, section, parts, reserved = _HEADER.unpack_from(self._buffer, start)
        size = HEADER_SIZE + json
        # The usual frame, a whole one without parts: what this admits, _parse_header admits too.
        if version == VERSION and type in self._with_json and not (flags or section or parts or reserved) and 0 < json <= self._limit:
            if have >= size:
                self._start = start + size
                return Frame(type, call, bytes(self._view[start + HEADER_SIZE : start + size]), [])
        header = _parse_header(self._buffer, start, self._socket, self._limit)
        size += header.section
        if have >= size:
            frame = self._frame(header, self._view, self._start + HEADER_SIZE)
            self._start += size
            return frame
        if size > _BUFFER_SIZE:
            body = bytearray(size - HEADER_SIZE)
            self._filled = have - HEADER_SIZE
            body[: self._filled] = self._view[self._start + HEADER_SIZE : self._end]
            self._large = (header, body)
            self._start = self._end = 0
        return None

    def _next_large(self) -> Optional[Frame]:
        assert self._large is not None
        header, body = self._large
        if self._filled < len(body):
            return None
        frame = self._frame(header, memoryview(body), 0)
        self._large, self._filled = None, 0
        return frame

    @staticmethod
    def _frame(header: _Header, view: memoryview, at: int) -> Frame:
        middle = at + header.json
        json = bytes(view[at:middle])
        parts = _split_parts(view[middle : middle + header.section], header.parts) if header.parts else []
        return Frame(header.type, header.call, json, parts)

    def feed(self, data: Buffer) -> Iterator[Frame]:
        """Every whole frame that these bytes complete."""
        rest = memoryview(data)
        while True:
            frame = self.next()
            while frame is not None:
                yield frame
                frame = self.next()
            if not rest:
                return
            room = self.buffer()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            self.received(count)

    def end(self) -> None:
        """The other end closed: raises ProtocolError if that was inside a frame."""
        if self._large is not None or self._start != self._end:
            raise ProtocolError("eof", "connection closed inside a frame")
