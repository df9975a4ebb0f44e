"""Orders: one JSON object per SOCK_SEQPACKET message, descriptors beside it (ipc/PROTOCOL.md §2 and §3)."""

from __future__ import annotations

import array
import json
import os
import socket
from typing import Any, Dict, List, NamedTuple, Optional

from pitboss._errors import cut_front

MAX_MESSAGE = 64 << 10
# Escaping makes a text longer in JSON, at worst six times ("\u0000"), so texts are cut until the message fits.
_LONG_TEXTS = ("traceback", "message")
# One more than any order carries, so that a message with too many is seen as that and not as truncated.
_MAX_FDS = 8


class OrderError(Exception):
    """A message that may not be."""


class Order(NamedTuple):
    """One message. ``whole`` is False when the kernel could not deliver every descriptor (MSG_CTRUNC)."""

    op: str
    fields: Dict[str, Any]
    fds: List[int]
    whole: bool


def encode(op: str, fields: Dict[str, Any]) -> bytes:
    """The bytes of one message, long texts cut from the front until it fits."""
    message = {"op": op, **fields}
    text = json.dumps(message).encode()
    limit = MAX_MESSAGE // 2
    while len(text) > MAX_MESSAGE and limit > 64:
        for name in _LONG_TEXTS:
            if isinstance(message.get(name), str):
                message[name] = cut_front(message[name], limit)
        text = json.dumps(message).encode()
        limit //= 2
    if len(text) > MAX_MESSAGE:
        raise OrderError(f"cannot send order {op!r}: {len(text)} bytes are over the limit of {MAX_MESSAGE}")
    return text


def send(link: socket.socket, op: str, **fields: Any) -> bool:
    """Sends one message. False when the agent is gone: its EOF will be seen by whoever reads the link."""
    try:
        link.send(encode(op, fields))
    except (BrokenPipeError, ConnectionError):
        return False
    return True


def close_all(fds: List[int]) -> None:
    """Closes descriptors that came with a message."""
    for fd in fds:
        os.close(fd)


def _descriptors(ancillary: List[Any]) -> List[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def receive(link: socket.socket, flags: int = 0) -> Optional[Order]:
    """The next message, or None at the end of the link. BlockingIOError with MSG_DONTWAIT and nothing there."""
    space = socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize)
    flags |= socket.MSG_CMSG_CLOEXEC
    try:
        data, ancillary, message_flags, _ = link.recvmsg(MAX_MESSAGE, space, flags)
    except ConnectionResetError:
        # An agent that ended with messages unread sets this error once, ahead of what it sent: its last orders lie behind.
        data, ancillary, message_flags, _ = link.recvmsg(MAX_MESSAGE, space, flags)
    except ConnectionError:
        return None
    fds = _descriptors(ancillary)
    if not data:
        close_all(fds)
        return None
    try:
        if message_flags & socket.MSG_TRUNC:
            raise OrderError(f"an order is longer than {MAX_MESSAGE} bytes")
        fields = json.loads(data)
        op = fields.pop("op") if isinstance(fields, dict) else None
        if not isinstance(op, str):
            raise OrderError(f"an order without op: {data[:80]!r}")
    except (ValueError, KeyError, OrderError) as error:
        close_all(fds)
        raise error if isinstance(error, OrderError) else OrderError(f"a bad order: {error!r}") from None
    return Order(op, fields, fds, not message_flags & socket.MSG_CTRUNC)
