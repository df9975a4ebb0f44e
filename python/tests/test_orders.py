"""Orders: any message gives an order or one typed error, and leaks no descriptor (ipc/PROTOCOL.md §2)."""

from __future__ import annotations

import array
import json
import os
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitboss import _orders

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("op"), inner, max_size=3),
)


BESIDE = os.memfd_create("beside an order")


def open_count() -> int:
    """How often that file is open here."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:beside an order")
        except OSError:
            continue
    return found


@given(st.binary(min_size=1, max_size=300) | JSON.map(lambda value: json.dumps(value).encode()), st.integers(0, 12))
def test_any_message_is_an_order_or_one_typed_error(raw: bytes, descriptors: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = open_count()
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [BESIDE] * descriptors))] if descriptors else []
        ours.sendmsg([raw], beside)
        try:
            order = _orders.receive(theirs)
        except _orders.OrderError:
            assert open_count() == before
            return
        assert order is not None and isinstance(order.op, str) and isinstance(order.fields, dict)
        assert len(order.fds) == min(descriptors, 8) and order.whole == (descriptors <= 8)
        assert not any(map(os.get_inheritable, order.fds))
        _orders.close_all(order.fds)
        assert open_count() == before


def test_a_message_over_the_limit_is_an_error() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(b'{"op":"' + b"x" * (64 << 10) + b'"}')
        with pytest.raises(_orders.OrderError, match="longer than 65536"):
            _orders.receive(theirs)
        ours.close()
        assert _orders.receive(theirs) is None


@given(st.text(), st.integers(0, 20_000), st.sampled_from(["traceback", "message"]))
def test_any_text_is_cut_to_one_message(text: str, times: int, name: str) -> None:
    raw = _orders.encode("failed", {name: text * times, "reason": "X"})
    sent: Any = json.loads(raw)
    assert len(raw) <= _orders.MAX_MESSAGE
    end = (text * times).encode("utf-8", "replace").decode()[-10:]
    assert sent["op"] == "failed" and sent["reason"] == "X" and sent[name].endswith(end)
