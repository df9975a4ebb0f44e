"""Measures real launchers, keepers and workers: `make cover` lets every interpreter of the venv run this at its start.

The processes fork, exec and leave by os._exit, so each child measures itself anew and each exit saves what was measured.
What a process that is SIGKILLed ran is lost. $PITBOSS_COVERAGE_CONFIG names the configuration, $COVERAGE_FILE the data.
"""

import atexit
import contextlib
import os

import coverage


class _Measured:
    """The measurement of this process."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.now = coverage.Coverage(config_file=os.environ["PITBOSS_COVERAGE_CONFIG"], data_suffix=True)
        self.now.start()
        # A worker runs the callbacks of atexit before it is done, and what that one complains of would be on its stderr.
        atexit.unregister(self.now._atexit)

    def stop(self) -> None:
        # coverage asserts a nesting of its collectors that forks inside of forks do not keep; what was measured is there.
        with contextlib.suppress(AssertionError):
            self.now.stop()

    def save(self) -> None:
        self.stop()
        with contextlib.suppress(Exception):  # no room, no descriptors: the process under test must not notice
            self.now.save()


_measured = _Measured()
_real_exit, _real_execve = os._exit, os.execve


def _exit(status):  # type: ignore[no-untyped-def]
    _measured.save()
    _real_exit(status)


def _execve(path, argv, env):  # type: ignore[no-untyped-def]
    _measured.save()
    _real_execve(path, argv, env)


def _after_fork() -> None:
    _measured.stop()
    _measured.begin()


def _at_exit(started: int) -> None:
    if os.getpid() == started:  # one that ends by itself, as the tests do
        _measured.save()


atexit.register(_at_exit, os.getpid())
os._exit, os.execve = _exit, _execve
os.register_at_fork(after_in_child=_after_fork)
