"""Who signals by number, and that nobody else can have the number there; and the record of KILLs itself."""

from __future__ import annotations

import ast
import errno
import os
import signal
import time
from pathlib import Path
from typing import Iterator

import pytest
from agent_end import LIBRARY, eventually, stat

from pitboss import _kills, _process

# Every mention of what signals by number, and why the number cannot be another process's.
BY_NUMBER = {
    "_process.send_signal": "the one place; its callers are below",
    "_keeper.act": "the group of the worker, which is this keeper's child and unreaped: REAP comes after the last of these",
    "_kills.kill": "an unreaped child of its guardian, which is single-threaded and reaps nobody between listing and kill",
    "_keeper.kill": "kill of Kills, for what was just listed as children, or the unreaped worker",
    "_keeper.kill_children": "the method above",
    "_launcher.kill_strays": "kill of Kills, for children that were just seen alive",
    "_worker.nudge": "a thread of this very process",
}
_CALLS = {"kill", "killpg", "pthread_kill", "send_signal", "tgkill", "tkill"}


def places(name: str, text: str) -> Iterator[str]:
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(function):
                called = isinstance(node, ast.Attribute) and node.attr in _CALLS
                if called or (isinstance(node, ast.ImportFrom) and _CALLS & {alias.name for alias in node.names}):
                    yield f"{name}.{function.name}"


def test_nothing_else_signals_by_number() -> None:
    found = set()
    for path in Path(LIBRARY, "pitboss").glob("*.py"):
        found |= set(places(path.stem, path.read_text()))
    found.discard("_keeper.receive")  # _ladder.kill, which signals nobody
    assert found == set(BY_NUMBER)


def test_the_search_sees_them() -> None:
    bodies = {"a": "os.kill(1, 2)", "b": "f = signal.pthread_kill", "c": "from os import killpg", "d": "os.waitpid(1, 0)"}
    text = "".join(f"def {name}():\n    {body}\n" for name, body in bodies.items())
    assert list(places("m", text)) == ["m.a", "m.b", "m.c"]


@pytest.fixture
def child() -> Iterator[int]:
    pid = os.posix_spawn("/bin/sleep", ["sleep", "600"], os.environ)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_kill_is_counted_once_and_forgotten_with_its_number(child: int) -> None:
    kills = _kills.Kills()
    assert not kills.told([child]) and kills.told([])
    assert kills.kill(child) is False and kills.kill(child) is False
    assert kills.count == 1 and kills.told([child]) and not kills.refused([child]) and not kills.overdue([child])
    eventually(lambda: stat(child)[0] == "Z", "its end")
    (left,) = kills.left([child])
    assert (left["pid"], left["errno"], left["state"]) == (child, 0, "Z")
    kills.reaped(child)
    assert not kills.told([child]) and kills.pending() == []
    kills.kill(child)  # the number came back: it is another one
    assert kills.count == 2


def test_a_refusal_is_told_once(child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = _kills.Kills()
    monkeypatch.setattr(os, "kill", _refuse)
    assert kills.kill(child) is True and kills.kill(child) is False
    assert kills.refused([child]) and kills.count == 0 and kills.left([child])[0]["errno"] == errno.EPERM
    monkeypatch.undo()
    assert kills.kill(child) is False  # it changed its user back
    assert not kills.refused([child]) and kills.count == 1


def test_overdue_counts_from_the_first_try(child: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = _kills.Kills()
    kills.kill(child)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + _kills.PATIENCE)
    kills.kill(child)
    eventually(lambda: stat(child)[0] == "Z", "its end")
    assert kills.overdue([child])
    monkeypatch.setattr(_process, "state_of", lambda pid: {"state": "R", "wchan": ""})
    assert not kills.overdue([child])  # it only waits for a processor
    monkeypatch.setattr(os, "kill", _refuse)
    kills.kill(child)
    assert kills.overdue([child])  # whatever it does: it refuses
    monkeypatch.undo()


def _refuse(pid: int, signum: int) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
