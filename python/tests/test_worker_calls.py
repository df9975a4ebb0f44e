"""Calls and streams of a real worker: ipc/PROTOCOL.md §1."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, Tuple

import pytest
from agent_end import ToolFailed, eventually, kill, stat
from conftest import Tree

from pitboss import _wire


def test_a_call_has_its_context(tree: Tree, start: str) -> None:
    worker = tree.ready(start)
    worker.request("call_of_context", timeout_us=60_000_000)
    assert worker.answer() == [1, "w-0", "p", 0, True]
    worker.request("call_of_context")
    assert worker.answer() == [2, "w-0", "p", 0, False]


def test_values_come_back(tree: Tree) -> None:
    worker = tree.ready()
    for value in (None, -0.0, 1.5, 2**200, 10**5000, b"\0" * 100_000, [b"a", {"$x": b""}], {"$part": 1}, "\u20ac\0"):
        assert worker.call("echo", value=value) == value


BAD_CALLS: Tuple[Tuple[str, Dict[str, Any], str, str], ...] = (
    ("raises", {}, "TOOL_RAISED", "on purpose"),
    ("raises", {"reason": "NO_STOCK"}, "TOOL_RAISED", "on purpose"),
    ("nope", {}, "UNKNOWN_TOOL", "there is no tool 'nope'"),
    ("add", {}, "BAD_ARGUMENTS", "'a'"),
    ("add", {"a": "1"}, "BAD_ARGUMENTS", "must be int, not str"),
    ("add", {"a": 1, "c": 1}, "BAD_ARGUMENTS", "no parameter 'c'"),
    # What Python refuses to show must not end the worker: an int of so many digits, lists in lists in lists.
    ("draws", {"x": 10**5000}, "BAD_ARGUMENTS", "no parameter 'x'"),
    ("add", {"a": [10**5000]}, "BAD_ARGUMENTS", "must be int, not list"),
    ("odd_exception", {}, "TOOL_RAISED", "on purpose"),
    ("odd_tool_error", {}, "TOOL_RAISED", "on purpose"),
    ("names_by_a_huge_key", {}, "TOOL_RAISED", "keys must be str"),
    ("fetch_too_much", {}, "PAYLOAD_TOO_LARGE", "over the payload limit"),
)


def test_every_error_has_its_reason_and_the_worker_lives_on(tree: Tree) -> None:
    worker = tree.ready()
    for tool, args, reason, named in BAD_CALLS:
        with pytest.raises(ToolFailed) as failed:
            worker.call(tool, **args)
        assert failed.value.body["reason"] == reason and named in failed.value.body["message"], failed.value
        assert worker.call("add", a=1) == 2
    eventually(lambda: worker.ping()["progress"] == 2 * len(BAD_CALLS), "every call counts")


def test_an_error_on_purpose_carries_its_data(tree: Tree) -> None:
    with pytest.raises(ToolFailed) as failed:
        tree.ready().call("raises", reason="NO_STOCK")
    body = failed.value.body
    assert (body["reason"], body["tool_reason"]) == ("TOOL_RAISED", "NO_STOCK"), body
    assert (body["data"], body["retryable"], body["type"]) == ({"n": 1}, True, "pitboss.ToolError")
    assert "in raises" in body["traceback"] and "pitboss/_" not in body["traceback"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b'{"tool":"add","args":[1]}', []),
        (b'{"tool":"add"}', []),
        (b'["add"]', []),
        (b'{"tool":"add","args":{"a":1}', []),
        (b'{"tool":["add"],"args":{}}', []),
        (b'{"args":{}}', []),
        (b'{"tool":"add","args":{"a":{"$part":1}}}', [b""]),
        (b'{"tool":"add","args":{"a":1}}', [b"unused"]),
        (b'{"tool":"add","args":{"a":' + b"[" * 3000 + b"]" * 3000 + b"}}", []),
        (b'{"tool":"add","args":{"a":' + b"1" * 5000 + b"}}", []),
        (b'{"tool":"add","args":{"a":NaN}}', []),
        (b'{"tool":"add","args":{"a":"\xff"}}', []),
    ],
)
def test_a_bad_request_costs_one_call(tree: Tree, text: bytes, parts: Any) -> None:
    worker = tree.ready()
    worker.data.socket.sendall(_wire.encode(_wire.REQUEST, 9, text, parts))
    frame = worker.data.next()
    assert frame is not None and (frame.type, frame.call) == (_wire.ERROR, 9), frame
    assert json.loads(frame.json)["reason"] == "BAD_ARGUMENTS"
    assert worker.call("add", a=1) == 2


@pytest.mark.parametrize("depth", range(890, 1000, 12))
def test_no_depth_of_nesting_ends_the_worker(tree: Tree, depth: int) -> None:
    """Somewhere here the limit of recursion is reached, in the parser or in what looks at the value after it."""
    worker = tree.ready()
    worker.data.socket.sendall(_wire.encode(_wire.REQUEST, 9, b'{"tool":"add","args":{"a":' + b"[" * depth + b"]" * depth + b"}}"))
    frame = worker.data.next()
    assert frame is not None and json.loads(frame.json)["reason"] == "BAD_ARGUMENTS"
    assert worker.call("add", a=1) == 2


def items(tree: Tree) -> int:
    """How far the generator ran."""
    return sum(line.startswith("item ") for line in tree.notes())


def test_a_slow_reader_stops_the_generator_by_chunks(tree: Tree) -> None:
    worker = tree.ready()
    worker.request("stream", {"n": 1000})
    assert [worker.chunk() for _ in range(16)] == list(range(16))
    eventually(lambda: items(tree) == 17, "the item that waits for credit")
    for _ in range(3):  # it waits and answers
        assert worker.ping()["calls"] == [worker.last_call]
    assert items(tree) == 17
    worker.credit(2, 0)
    assert [worker.chunk(), worker.chunk()] == [16, 17]
    eventually(lambda: items(tree) == 19, "the next item")
    worker.control.send(_wire.CREDIT, worker.last_call + 1, {"chunks": 100, "bytes": 0})  # another call's
    worker.ping()
    assert items(tree) == 19
    worker.credit(5000, 0)
    assert [worker.chunk() for _ in range(982)] == list(range(18, 1000))
    assert worker.answer() is None and items(tree) == 1000


def test_a_slow_reader_stops_the_generator_by_bytes(tree: Tree) -> None:
    worker = tree.ready()
    worker.request("stream", {"n": 6, "size": 600_000})
    # 1 MiB: the second chunk passes, because some window is left, the third does not.
    assert [len(worker.chunk()) for _ in range(2)] == [600_000] * 2
    eventually(lambda: items(tree) == 3, "the item that waits for credit")
    worker.ping()
    assert items(tree) == 3
    worker.credit(2, 1)  # the window is still overdrawn
    worker.ping()
    assert items(tree) == 3 and worker.orders.silent(0)
    worker.credit(0, 1 << 20)
    assert [len(worker.chunk()) for _ in range(2)] == [600_000] * 2
    worker.credit(100, 1 << 30)
    assert [len(worker.chunk()) for _ in range(2)] == [600_000] * 2
    assert worker.answer() is None


@pytest.mark.parametrize("tool", ["sleep", "spin"])
def test_pings_are_answered_during_a_call(tree: Tree, tool: str) -> None:
    worker = tree.ready()
    worker.request(tool, {"seconds": 1.0})
    tree.noted("sleeping" if tool == "sleep" else "spinning")
    for stamp in range(10):
        pong = worker.ping(stamp)
        assert pong["calls"] == [1] and pong["progress"] == 0
        assert str(pong["control_tid"]) in os.listdir(f"/proc/{worker.pid}/task") and pong["control_tid"] != worker.pid
    assert worker.answer()
    # A PONG that crosses the answer may still name the call.
    eventually(lambda: worker.ping() == {"calls": [], "progress": 1, "control_tid": pong["control_tid"]}, "no call is in flight")


def test_cancel_is_told_to_the_call(tree: Tree) -> None:
    worker = tree.ready()
    worker.request("until_cancelled")
    tree.noted("waiting")
    worker.control.send(_wire.CANCEL, 99)  # another call's
    worker.ping()
    worker.control.send(_wire.CANCEL, 1)
    assert worker.answer() == "told"


def test_a_fork_in_a_tool_answers_once(tree: Tree, start: str) -> None:
    worker = tree.ready(start)
    assert worker.call("fork_and_return") == "parent of 70"
    assert worker.call("add", a=1) == 2


def test_a_forks_files_are_its_own(tree: Tree) -> None:
    worker = tree.ready()
    assert worker.call("grandchild_keeps_its_files").startswith("kept")


def test_a_forks_crash_writes_into_no_file_of_its_own(tree: Tree) -> None:
    worker = tree.ready()
    assert worker.call("crash_in_a_fork") == "11 ''"
    assert worker.call("add", a=1) == 2


def test_a_program_that_a_tool_starts_gets_no_link(tree: Tree, start: str) -> None:
    listed = tree.ready(start).call("descriptors_of_a_command")
    assert any("pipe:" in line for line in listed)  # the one that was meant for it
    assert not [line for line in listed if "socket:" in line or "memfd" in line], listed


def test_stray_output_breaks_nothing(tree: Tree) -> None:
    worker = tree.ready()
    worker.call("prints", text="caf\u00e9 \U0001f600")
    assert worker.stdout.wait("again").splitlines() == ["caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600 again"]
    assert worker.stderr.wait("\n") == "caf\u00e9 \U0001f600\n"
    assert worker.call("add", a=1) == 2


HEADERS = {
    "version": _wire.encode(_wire.REQUEST, 1, b"{}").replace(b"\1", b"\2", 1),
    "type": b"\1\x63" + bytes(22),
    "socket": _wire.encode(_wire.PING, 1),
    "direction": _wire.encode(_wire.RESULT, 1, b"{}"),
    "too_large": b"\1\1\0\0\xff\xff\xff\xff" + bytes(16),
}


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_nonsense_on_data_ends_the_worker(tree: Tree, name: str) -> None:
    worker = tree.ready()
    worker.data.socket.sendall(HEADERS[name])
    assert worker.exited() == (70, None)
    worker.empty()
    assert worker.stderr.read().startswith("pitboss: protocol error: ")


CONTROL_FRAMES = {
    "garbage": b"GET / HTTP/1.1\r\n\r\nAccept: */*",
    "socket": _wire.encode(_wire.REQUEST, 1, b"{}"),
    "direction": _wire.encode(_wire.PONG, 1, b"{}"),
    "over 1 MiB": b"\1\x15\0\0\0\x10\0\1" + bytes(16),
    "no json": _wire.encode(_wire.CREDIT, 1, b"{"),
    "no object": _wire.encode(_wire.CREDIT, 1, b"[1]"),
    "no field": _wire.encode(_wire.CREDIT, 1, b'{"chunks":1}'),
    "no number": _wire.encode(_wire.CREDIT, 1, b'{"chunks":"x","bytes":1}'),
    "too deep": _wire.encode(_wire.CREDIT, 1, b"[" * 100_000),
    "not utf-8": _wire.encode(_wire.GO, 1, b"\xff"),
}


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("name", sorted(CONTROL_FRAMES))
def test_nonsense_on_control_ends_the_worker(tree: Tree, name: str, busy: bool) -> None:
    worker = tree.ready()
    worker.request("stream" if busy else "add", {"n": 100} if busy else {"a": 1})
    worker.data.next()
    worker.control.socket.sendall(CONTROL_FRAMES[name])
    assert worker.exited() == (70, None)
    worker.empty()
    assert worker.stderr.read().startswith("pitboss: protocol error: ")


def test_a_go_that_is_none_ends_the_worker(tree: Tree) -> None:
    worker = tree.worker()
    worker.control.send(_wire.GO, 0, {"adapter": "x"})
    assert worker.exited() == (70, None)
    worker.empty()
    assert worker.stderr.read().startswith("pitboss: protocol error: ")


def test_a_frame_that_ends_early_is_the_end(tree: Tree) -> None:
    worker = tree.ready()
    worker.control.socket.sendall(_wire.encode(_wire.PING, 1)[:10])
    worker.control.close()
    assert worker.ended() == (0, None)


def test_a_stopped_worker_answers_when_it_goes_on(tree: Tree) -> None:
    worker = tree.ready()
    kill(worker.pid, 19)
    eventually(lambda: stat(worker.pid)[0] == "T", "stopped")
    worker.control.send(_wire.PING, 5)
    began = time.monotonic()
    kill(worker.pid, 18)
    frame = worker.control.next()
    assert frame is not None and frame.call == 5 and time.monotonic() - began < 30
