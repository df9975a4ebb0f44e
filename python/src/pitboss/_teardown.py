"""The last steps of a worker: user code's own clean-up, then ``os._exit`` and never the interpreter's finalisation."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Any, NoReturn

from pitboss import _errors

# How long atexit callbacks may take, in seconds.
_ATEXIT_LIMIT = 1.0
_exit = os._exit  # user code's os._exit is wrapped in a worker


def leave(adapter: Any) -> NoReturn:
    """Runs teardown and the atexit callbacks, flushes, and ends the process with status 0."""
    if adapter is not None:
        try:
            adapter.teardown()
        except BaseException as error:
            _complain("teardown", error)
    if atexit._ncallbacks():  # few have one, and a thread costs as much as the rest of an end
        # Callbacks that hang must not hold the process: nobody can join this timer, and the exit below ends it.
        limit = threading.Timer(_ATEXIT_LIMIT, _exit, (0,))
        limit.daemon = True
        limit.start()
        try:
            atexit._run_exitfuncs()
        except BaseException as error:
            _complain("an atexit callback", error)
    flush()
    _exit(0)


def _complain(what: str, error: BaseException) -> None:
    try:
        print(f"pitboss: {what} raised:\n{_errors.traceback_of(error)}", file=sys.stderr)
    except Exception:
        pass


def flush() -> None:
    """Writes out what was printed; a stream that user code broke is no reason to stay."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def silence() -> None:
    """Sends what is printed from here on nowhere: its readers are gone, and a write to them would raise."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.close(null)
    except OSError:
        pass
