"""Who of our children was sent KILL, since when, and what came of it.

A number is kept only while its process is an unreaped child: so long the kernel gives it to nobody else.
"""

from __future__ import annotations

import errno
import signal
import time
from typing import Dict, Iterable, List, NamedTuple, Union

from pitboss import _process

# Seconds from a KILL to the verdict that it does not help: uninterruptible sleep, or another user's process.
PATIENCE = 4.0

# Survivors that one report names, at most.
MAX_NAMED = 12


class _Sent(NamedTuple):
    at: float  # monotonic seconds of the first try
    errno: int  # of the last try, 0 if it was sent


class Kills:
    """The KILLs of one guardian. Whoever reaps a child says so with ``reaped``."""

    def __init__(self) -> None:
        self._sent: Dict[int, _Sent] = {}
        self.count = 0  # processes that got KILL, ever

    def kill(self, pid: int, counted: bool = True) -> bool:
        """Sends KILL to an unreaped child. True when that is refused for the first time."""
        number = _process.send_signal(pid, signal.SIGKILL)
        before = self._sent.get(pid)
        self._sent[pid] = _Sent(before.at if before else time.monotonic(), number)
        if counted and number == 0 and (before is None or before.errno != 0):
            self.count += 1
        return number == errno.EPERM and before is None

    def reaped(self, pid: int) -> None:
        """The number is anybody's from here on."""
        self._sent.pop(pid, None)

    def pending(self) -> List[int]:
        """The children that had KILL and are not reaped."""
        return list(self._sent)

    def told(self, pids: Iterable[int]) -> bool:
        """Whether all of these had KILL, or refused it."""
        return all(pid in self._sent for pid in pids)

    def refused(self, pids: Iterable[int]) -> bool:
        """Whether all of these refused KILL."""
        return all(pid in self._sent and self._sent[pid].errno != 0 for pid in pids)

    def overdue(self, pids: Iterable[int]) -> bool:
        """Whether all of these had KILL, or refused it, so long ago that it does not help.

        What had KILL and is runnable only waits for a processor to die on, which takes seconds on a host with a hundred such.
        """
        latest = time.monotonic() - PATIENCE
        return all(pid in self._sent and self._sent[pid].at <= latest and not self._dying(pid) for pid in pids)

    def _dying(self, pid: int) -> bool:
        return self._sent[pid].errno == 0 and _process.state_of(pid)["state"] == "R"

    def left(self, pids: Iterable[int]) -> List[Dict[str, Union[int, str]]]:
        """What the kernel says about these, for a report; ``errno`` is that of the KILL."""
        named = list(pids)[:MAX_NAMED]
        return [
            {"pid": pid, "errno": self._sent[pid].errno if pid in self._sent else 0, **_process.state_of(pid)} for pid in named
        ]
