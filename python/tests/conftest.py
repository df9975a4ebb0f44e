"""Trees of real processes for tests, and the proof after each test that nothing of them is left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
from pathlib import Path
from typing import Dict, Iterator, List, Optional

import pytest
from agent_end import Launcher, Worker, alive, eventually, kill
from hypothesis import settings

# `make fuzz`: many more examples than a test run can afford.
settings.register_profile("fuzz", max_examples=int(os.environ.get("PITBOSS_FUZZ_EXAMPLES", "2000")), deadline=None)
settings.register_profile("test", deadline=None)  # a busy machine is no failure
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))

_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="session", autouse=True)
def subreaper() -> None:
    """Keepers of a killed launcher fall to these tests, as they fall to the agent."""
    assert ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


class Tree:
    """Makes launchers and workers; everything below them carries ``token``."""

    def __init__(self, directory: Path) -> None:
        self.token = secrets.token_hex(8)
        self.directory = directory
        self.notes_file = directory / "notes"
        self.launchers: List[Launcher] = []

    def launcher(self, env: Optional[Dict[str, str]] = None) -> Launcher:
        notes = {"PITBOSS_TEST_NOTES": str(self.notes_file)}
        launcher = Launcher(self.token, {**notes, **(env or {})})
        self.launchers.append(launcher)
        return launcher

    def worker(self, start: str = "fork", env: Optional[Dict[str, str]] = None, grace: float = 3.0) -> Worker:
        """One worker of a launcher of its own, behind its start gate."""
        launcher = self.launcher(env)
        assert launcher.begin(start=start)["op"] == "ready"
        return launcher.spawn(grace=grace)

    def ready(self, start: str = "fork", env: Optional[Dict[str, str]] = None, grace: float = 3.0) -> Worker:
        """One worker that serves behaviours.py."""
        return self.worker(start, env, grace).ready()

    def module(self, name: str, text: str) -> str:
        """A module that can be preloaded with path=[its directory], which is returned."""
        (self.directory / f"{name}.py").write_text(text)
        return str(self.directory)

    def notes(self) -> List[str]:
        """What user code noted so far."""
        try:
            return self.notes_file.read_text().splitlines()
        except FileNotFoundError:
            return []

    def noted(self, text: str) -> None:
        eventually(lambda: text in self.notes(), f"a note {text!r}")

    def close(self) -> None:
        """EOF on every link must leave nothing; what is left after all is killed, and fails the test."""
        for launcher in self.launchers:
            launcher.close()
        try:
            for launcher in self.launchers:
                launcher.wait()
            eventually(lambda: not alive(self.token), "nothing is left after EOF on every link")
        finally:
            for pid in alive(self.token):
                with contextlib.suppress(ProcessLookupError):
                    kill(pid)
            with contextlib.suppress(ChildProcessError):  # what fell to us
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["fork", "exec"])
def start(request: pytest.FixtureRequest) -> str:
    """Both ways to start a worker."""
    return str(request.param)
