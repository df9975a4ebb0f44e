"""What user code can ask about the call that it serves."""

from __future__ import annotations

import threading
import time
from typing import Optional


class Context:
    """One call, or the worker outside of one (``call_id`` is then 0)."""

    #: Names of the worker and its pool, and the worker's index from 0: the same for every call of a process.
    worker: str = ""
    pool: str = ""
    index: int = 0

    def __init__(self, call_id: int = 0, timeout_us: Optional[int] = None) -> None:
        #: Id of the call, unique within the agent's life; 0 outside of a call.
        self.call_id = call_id
        #: True once the call was cancelled or the worker is asked to end: stop soon.
        self.cancelled = False
        self._deadline = None if timeout_us is None else time.monotonic() + timeout_us / 1e6

    def deadline_left(self) -> Optional[float]:
        """Seconds left of the call's budget, never below 0; None without a deadline."""
        if self._deadline is None:
            return None
        return max(self._deadline - time.monotonic(), 0.0)


_current = threading.local()
_worker_context = Context()


def context() -> Context:
    """The context of the call that this thread runs."""
    found = getattr(_current, "context", None)
    return found if found is not None else _worker_context


def enter(call: Optional[Context]) -> None:
    """Makes ``call`` this thread's context; None ends it."""
    _current.context = call


def set_worker(worker: str, pool: str, index: int) -> None:
    """What every context says of this process."""
    Context.worker, Context.pool, Context.index = worker, pool, index
