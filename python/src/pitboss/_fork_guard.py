"""What user code forks in a worker is no worker: it holds no end of a link and can never answer a call."""

from __future__ import annotations

import faulthandler
import os
import signal
import warnings
from typing import Callable, NoReturn, Sequence, Tuple

_exit = os._exit


class ForkGuard:
    """Installed once in a worker; ``in_child`` runs in each child, first of all."""

    def __init__(self, dump_signal: int, crash_fd: int, fds: Sequence[int], wakeup: int, in_child: Callable[[], None]) -> None:
        self._dump_signal = dump_signal
        self._crash_fd = crash_fd
        self._fds: Tuple[int, ...] = tuple(fds)
        self._wakeup = wakeup
        self._in_child = in_child
        self._forked = False  # true in what user code forked

    def install(self) -> None:
        # The control thread makes every fork one of a multi-threaded process; ours is safe to lose.
        warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*", category=DeprecationWarning)
        os._exit = self._exit_with_stack
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        if self._forked:  # a child of that child, where the numbers are of files of its own
            return
        self._forked = True
        os._exit = _exit
        # The crash file is the worker's: what the child opens next may get its number.
        faulthandler.disable()
        faulthandler.unregister(self._dump_signal)
        theirs = signal.set_wakeup_fd(-1)
        if theirs != self._wakeup:
            signal.set_wakeup_fd(theirs)
        for fd in self._fds:
            try:
                os.close(fd)
            except OSError:
                pass
        self._in_child()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _exit_with_stack(self, status: int) -> NoReturn:
        """``os._exit`` of user code: leaves the stack of whoever called it, so that a post-mortem can name the line."""
        try:
            faulthandler.dump_traceback(file=self._crash_fd, all_threads=True)
        finally:
            _exit(status)
