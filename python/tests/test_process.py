"""What is read from /proc."""

import os
from typing import Any, List

import pytest

from pitboss import _process


def test_a_list_that_a_signal_interrupts_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """os.listdir raises where os.open would try again; a launcher that died of it took a worker's proof with it."""
    listdir = os.listdir
    interrupted: List[Any] = []

    def interruptible(directory: str) -> List[str]:
        if len(interrupted) % 3 < 2:
            interrupted.append(directory)
            raise InterruptedError(4, "Interrupted system call", directory)
        interrupted.append(None)
        return listdir(directory)

    monkeypatch.setattr(os, "listdir", interruptible)
    assert _process.thread_count() == len(listdir("/proc/self/task"))
    assert {0, 1, 2} <= set(_process.open_descriptors())
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert pid in _process.children()
    assert pid in _process.children_by_scan()
    os.waitpid(pid, 0)
    assert len(interrupted) == 12


def test_a_whole_list_is_kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children that come and go later are in it, and no file is opened for a look. Not this process's copy in a child of its own."""
    monkeypatch.setattr(_process, "_kept", _process._kept)
    kept = _process.keep_list(whole=True)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0 if _process.children() == [] else 1)
    monkeypatch.setattr(_process, "_names", lambda directory: pytest.fail(f"{directory} was listed"))
    assert pid in _process.children()
    assert not _process.has_died(pid)
    os.close(read)
    os.close(write)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    assert pid not in _process.children()
    os.close(kept)
