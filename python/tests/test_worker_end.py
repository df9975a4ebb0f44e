"""The graceful end of a real worker, once: ipc/PROTOCOL.md §1 "End"."""

from __future__ import annotations

import contextlib
import os
import time

import pytest
from agent_end import Worker
from conftest import Tree

from pitboss import _wire

GRACEFUL = ["teardown", "atexit"]


def end(worker: Worker, how: str) -> None:
    if how == "eof":
        worker.control.close()
    elif how == "stop":
        worker.stop(60.0)
    elif how == "drain":
        worker.control.send(_wire.DRAIN)
    else:
        os.kill(worker.pid, 15)
        os.kill(worker.pid, 15)


@pytest.fixture(params=["eof", "stop", "twice"])
def how(request: pytest.FixtureRequest) -> str:
    """The ends that interrupt: EOF on control, the keeper's TERM, two TERMs."""
    return str(request.param)


@pytest.mark.parametrize("kind", ["eof", "stop", "twice", "drain"])
def test_an_idle_worker_ends_gracefully(tree: Tree, start: str, kind: str) -> None:
    worker = tree.ready(start)
    end(worker, kind)
    assert worker.ended() == (0, None)
    assert tree.notes() == ["imported", "setup", *GRACEFUL]
    assert worker.stderr.read() == ""


def test_a_running_call_gets_cancelled_and_no_answer(tree: Tree, start: str, how: str) -> None:
    worker = tree.ready(start)
    worker.request("sleep")
    tree.noted("sleeping")
    end(worker, how)
    with pytest.raises(EOFError):
        worker.answer()
    assert worker.ended() == (0, None)
    assert tree.notes()[2:] == ["sleeping", "cancelled True", *GRACEFUL]


def test_cancelled_is_raised_once_and_who_catches_it_is_answered(tree: Tree, how: str) -> None:
    worker = tree.ready()
    worker.request("survive_cancelled")
    tree.noted("sleeping")
    end(worker, how)
    assert worker.answer() == "caught 1"
    assert worker.ended() == (0, None)
    assert tree.notes()[-2:] == GRACEFUL


def test_a_stream_that_waits_for_credit_ends(tree: Tree, how: str) -> None:
    worker = tree.ready()
    worker.request("stream", {"n": 1000})
    for _ in range(16):
        worker.chunk()
    tree.noted("item 16")
    end(worker, how)
    assert worker.data.next() is None
    assert worker.ended() == (0, None)
    assert tree.notes()[-2:] == GRACEFUL and "stream done" not in tree.notes()


def test_a_stream_that_runs_ends(tree: Tree, how: str) -> None:
    worker = tree.ready()
    worker.request("stream", {"n": 10**9})
    worker.credit(10**9, 10**15)
    worker.chunk()
    end(worker, how)
    while (frame := worker.data.next()) is not None:
        assert frame.type == _wire.CHUNK
    assert worker.ended() == (0, None)
    assert tree.notes()[-2:] == GRACEFUL


def test_drain_lets_the_running_call_end_and_serves_what_was_sent(tree: Tree) -> None:
    worker = tree.ready()
    worker.request("sleep", {"seconds": 0.5})
    tree.noted("sleeping")
    worker.data.socket.sendall(_wire.encode(_wire.REQUEST, 77, b'{"tool":"add","args":{"a":1}}'))
    worker.control.send(_wire.DRAIN)
    assert worker.answer() == "slept"
    frame = worker.data.next()
    assert frame is not None and (frame.call, frame.json) == (77, b"2")
    assert worker.data.next() is None
    assert worker.ended() == (0, None)
    assert tree.notes()[2:] == ["sleeping", *GRACEFUL]


def test_the_end_during_a_drain_cancels(tree: Tree) -> None:
    worker = tree.ready()
    worker.request("sleep")
    tree.noted("sleeping")
    worker.control.send(_wire.DRAIN)
    worker.ping()
    worker.control.close()
    assert worker.ended() == (0, None)
    assert tree.notes()[2:] == ["sleeping", "cancelled True", *GRACEFUL]


@pytest.mark.parametrize("kind", ["eof", "drain", "stop"])
def test_user_code_that_takes_the_term_handler(tree: Tree, kind: str) -> None:
    worker = tree.ready()
    assert worker.call("replace_term_handler") == "replaced"
    end(worker, kind)
    assert worker.ended() == (0, None)
    assert tree.notes()[-2:] == GRACEFUL


def test_user_code_that_takes_the_term_handler_during_a_call(tree: Tree) -> None:
    """Their handler runs, and the call is cancelled all the same."""
    worker = tree.ready()
    worker.call("replace_term_handler")
    worker.request("sleep")
    tree.noted("sleeping")
    worker.stop(60.0)
    assert worker.ended() == (0, None)
    assert sorted(tree.notes()[3:5]) == ["cancelled True", "their handler"] and tree.notes()[5:] == GRACEFUL


def test_a_fork_that_is_told_to_end_does_not_end_the_worker(tree: Tree) -> None:
    worker = tree.ready()
    assert worker.call("fork_that_handles_term") == "handled"
    assert worker.call("add", a=1) == 2
    end(worker, "stop")
    assert worker.ended() == (0, None)


def test_term_during_teardown_changes_nothing(tree: Tree) -> None:
    worker = tree.ready(env={"PITBOSS_TEST_SLOW_TEARDOWN": "1"})
    worker.control.close()
    tree.noted("teardown waits")
    worker.stop(60.0)
    for _ in range(5):
        os.kill(worker.pid, 15)
    assert worker.ended() == (0, None)
    assert tree.notes()[2:] == ["teardown", "teardown waits", "teardown ends", "atexit"]


def test_atexit_has_a_limit(tree: Tree) -> None:
    worker = tree.ready()
    worker.call("hang_at_exit")
    began = time.monotonic()
    end(worker, "drain")
    assert worker.ended() == (0, None)
    assert 1.0 <= time.monotonic() - began < 20.0


@pytest.mark.parametrize("pipes_first", [True, False])
def test_printing_into_a_dead_agent_raises_nothing(tree: Tree, pipes_first: bool) -> None:
    """An agent that dies closes its ends in any order; print may be blocked in a full pipe at that moment."""
    worker = tree.ready()
    worker.request("print_for_ever")
    tree.noted("printing")
    if not pipes_first:
        worker.control.close()
    for pipe in (worker.stdout, worker.stderr):
        pipe.close()
    if pipes_first:
        assert worker.ping()["calls"] == [1]  # still printing, and not ended by it
        worker.control.close()
    assert worker.ended() == (0, None)
    assert tree.notes()[2:] == ["printing", "cancelled", "printed on", *GRACEFUL]


def test_many_ends_at_any_moment_are_graceful(tree: Tree) -> None:
    """EOF and TERM together, at whatever the worker does: never another exit than 0."""
    launcher = tree.launcher()
    launcher.begin()
    for i in range(40):
        worker = launcher.spawn(grace=30.0).ready()
        for n in range(i % 8):
            worker.request("add", {"a": n})
        if i % 2:
            worker.control.close()
        worker.stop(30.0)
        if i % 4 == 2:
            with contextlib.suppress(BrokenPipeError):  # it may be gone already
                worker.control.send(_wire.DRAIN)
        assert worker.exited() == (0, None), worker.stderr.read()
        worker.empty()
        assert worker.stderr.read() == ""
        worker.close()
