"""An adapter of well- and ill-behaved tools, each named for what it does."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Dict, Iterator, List

import pitboss

NOTES = os.environ.get("PITBOSS_TEST_NOTES", "")


def note(text: str) -> None:
    """One line into the file of notes: it outlives the process and goes through no wire."""
    if NOTES:
        fd = os.open(NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, f"{text}\n".encode())
        os.close(fd)


note("imported")


class Behaviours(pitboss.Adapter):
    def setup(self) -> None:
        note("setup")
        atexit.register(note, "atexit")

    def teardown(self) -> None:
        note("teardown")
        if os.environ.get("PITBOSS_TEST_SLOW_TEARDOWN"):
            note("teardown waits")
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                time.sleep(0.05)
            note("teardown ends")

    @pitboss.tool
    def add(self, a: int, b: int = 1) -> int:
        return a + b

    @pitboss.tool
    def echo(self, value: Any) -> Any:
        return value

    @pitboss.tool
    def raises(self, reason: str = "") -> None:
        if reason:
            raise pitboss.ToolError("on purpose", reason=reason, data={"n": 1}, retryable=True)
        raise ValueError("on purpose")

    @pitboss.tool
    def call_of_context(self) -> List[Any]:
        c = pitboss.context()
        left = c.deadline_left()
        return [c.call_id, c.worker, c.pool, c.index, left is not None and 0 < left <= 60]

    @pitboss.tool
    def stream(self, n: int, size: int = 0) -> Iterator[Any]:
        for i in range(n):
            note(f"item {i}")
            yield bytes(size) if size else i
        note("stream done")

    @pitboss.tool
    def sleep(self, seconds: float = 60.0) -> str:
        note("sleeping")
        try:
            time.sleep(seconds)
        except pitboss.Cancelled:
            note(f"cancelled {pitboss.context().cancelled}")
            raise
        return "slept"

    @pitboss.tool
    def survive_cancelled(self) -> str:
        note("sleeping")
        caught = 0
        end = time.monotonic() + 60
        while time.monotonic() < end and caught == 0:
            try:
                time.sleep(0.05)
            except pitboss.Cancelled:
                caught += 1
        try:  # raised once only
            time.sleep(0.3)
        except pitboss.Cancelled:
            caught += 1
        return f"caught {caught}"

    @pitboss.tool
    def until_cancelled(self) -> str:
        note("waiting")
        while not pitboss.context().cancelled:
            time.sleep(0.01)
        return "told"

    @pitboss.tool
    def fetch_too_much(self) -> bytes:
        return bytes(1 << 25)

    @pitboss.tool
    def spin(self, seconds: float) -> int:
        note("spinning")
        n, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            n += 1
        return n

    @pitboss.tool
    def ignore_term(self) -> None:
        """Goes on for ever, whatever is raised in it."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note("ignoring")
        while True:
            try:
                time.sleep(0.05)
            except BaseException:
                pass

    @pitboss.tool
    def replace_term_handler(self) -> str:
        signal.signal(signal.SIGTERM, lambda *_: note("their handler"))
        return "replaced"

    @pitboss.tool
    def count_terms(self) -> None:
        """Counts TERMs below the interpreter, and never ends by itself."""
        read, write = os.pipe2(os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        note("counting")
        while True:
            try:
                time.sleep(0.02)
                for signum in os.read(read, 4096):
                    if signum == signal.SIGTERM:
                        note("TERM")
            except BaseException:
                pass

    @pitboss.tool
    def explode(self, user: int, limit: int) -> None:
        """A fork bomb of this user, each process in a session of its own."""
        if os.fork() == 0:
            os.setresuid(user, user, user)
            resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
            end = time.monotonic() + 60  # should nobody end it
            while time.monotonic() < end:
                try:
                    if os.fork() == 0:
                        os.setsid()
                except OSError:
                    pass
            os._exit(0)

    @pitboss.tool
    def escapees(self) -> List[int]:
        """A child in the group, one in its own session, and one that its parent has left: all ignore TERM."""

        def forever() -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                time.sleep(60)

        read, write = os.pipe()

        def say_and_stay() -> None:
            os.write(write, f"{os.getpid()}\n".encode())
            forever()

        if os.fork() == 0:
            say_and_stay()
        if os.fork() == 0:
            os.setsid()
            say_and_stay()
        middle = os.fork()
        if middle == 0:
            os.setsid()
            if os.fork() == 0:
                say_and_stay()
            os._exit(0)
        os.waitpid(middle, 0)
        os.close(write)
        with os.fdopen(read) as told:
            return [int(told.readline()) for _ in range(3)]

    @pitboss.tool
    def fork_and_return(self) -> str:
        """Both parent and child return from the tool."""
        pid = os.fork()
        if pid == 0:
            return "child"
        _, status = os.waitpid(pid, 0)
        return f"parent of {os.WEXITSTATUS(status)}"

    @pitboss.tool
    def grandchild_keeps_its_files(self) -> str:
        """A forked child opens files, which get the numbers of our links, and forks again."""
        read, write = os.pipe()
        if os.fork() == 0:
            own = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
            child = os.fork()
            if child == 0:
                try:
                    for fd in own:
                        os.fstat(fd)
                    os.write(write, f"kept {own}".encode())
                except OSError as error:
                    os.write(write, f"lost: {error}".encode())
                os._exit(0)
            os.waitpid(child, 0)
            os._exit(0)
        os.close(write)
        os.wait()
        with os.fdopen(read) as told:
            return told.read()

    @pitboss.tool
    def fork_that_handles_term(self) -> str:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            os.write(write, b"!")
            while True:
                signal.pause()
        os.read(read, 1)
        os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
        return "handled" if status == 0 else str(status)

    @pitboss.tool
    def crash_in_a_fork(self) -> str:
        """A forked child opens a file, which gets a number of ours, and segfaults: what is then in that file."""
        pid = os.fork()
        if pid == 0:
            for _ in range(3):
                os.open(NOTES + ".victim", os.O_RDWR | os.O_CREAT, 0o600)
            ctypes.string_at(0)
        _, status = os.waitpid(pid, 0)
        with open(NOTES + ".victim") as file:
            return f"{os.WTERMSIG(status)} {file.read()!r}"

    @pitboss.tool
    def descriptors_of_a_command(self) -> List[str]:
        """What a program started without any care for descriptors gets."""
        read, write = os.pipe()
        os.set_inheritable(write, True)
        os.system(f"ls -l /proc/self/fd >&{write}")
        os.close(write)
        with os.fdopen(read) as told:
            return told.read().splitlines()

    @pitboss.tool
    def exits_of_commands(self, n: int) -> Dict[str, int]:
        counted: Dict[str, int] = {}
        for _ in range(n):
            code = str(subprocess.run(["/bin/sh", "-c", "exit 7"]).returncode)
            counted[code] = counted.get(code, 0) + 1
        return counted

    @pitboss.tool
    def of_another_user(self) -> int:
        """The pid of a child that has become another user's, in a session of its own."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.setresuid(65533, 65533, 65533)
            os.write(write, b"x")
            while True:
                time.sleep(60)
        os.close(write)
        os.read(read, 1)
        os.close(read)
        return pid

    @pitboss.tool
    def orphans(self, n: int) -> int:
        for _ in range(n):
            subprocess.run(["/bin/sh", "-c", "(true &)"], check=True)
        return n

    @pitboss.tool
    def wait_sees_own_children(self, n: int) -> bool:
        """os.wait() after orphans were made: only our own come back, and then there are none."""
        own = []
        for _ in range(n):
            subprocess.run(["/bin/sh", "-c", "(true &)"], check=True)
            pid = os.fork()
            if pid == 0:
                os._exit(3)
            own.append(pid)
        got = [os.wait() for _ in range(n)]
        try:
            os.wait()
        except ChildProcessError:
            return sorted(got) == sorted((pid, 3 << 8) for pid in own)
        return False

    @pitboss.tool
    def exits_of_multiprocessing(self, n: int) -> List[Any]:
        fork = multiprocessing.get_context("fork")
        processes = [fork.Process(target=os._exit, args=(i,)) for i in range(n)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return [process.exitcode for process in processes]

    @pitboss.tool
    def draws(self) -> List[float]:
        drawn = [random.random()]
        if "numpy" in sys.modules:
            drawn.append(float(sys.modules["numpy"].random.rand()))
        return drawn

    @pitboss.tool
    def prints(self, text: str) -> None:
        print(text)
        print(text, file=sys.stderr)
        sys.__stdout__.write(f"{text} again\n")  # type: ignore[union-attr]

    @pitboss.tool
    def print_for_ever(self) -> None:
        """Prints until it is told to end, and notes what print raised."""
        note("printing")
        try:
            while True:
                print("x" * 500)
        except pitboss.Cancelled:
            note("cancelled")
            for _ in range(1000):
                print("y" * 500)
            note("printed on")
            raise
        except BaseException as error:
            note(f"print raised {error!r}")
            raise

    @pitboss.tool
    def exit_from_a_thread(self) -> None:
        def leave_the_process() -> None:
            os._exit(3)

        threading.Thread(target=leave_the_process).start()
        time.sleep(60)

    @pitboss.tool
    def hang_at_exit(self) -> None:
        atexit.register(time.sleep, 60)

    @pitboss.tool
    def odd_exception(self) -> None:
        odd = type("Odd", (Exception,), {"__module__": None})
        raise odd("on purpose")

    @pitboss.tool
    def odd_tool_error(self) -> None:
        error = pitboss.ToolError("on purpose")
        error.reason = object()  # type: ignore[assignment]
        raise error

    @pitboss.tool
    def names_by_a_huge_key(self) -> Any:
        return {10**5000: 1}

    @pitboss.tool
    def facts(self) -> Dict[str, Any]:
        return {
            "session": os.getsid(0),
            "group": os.getpgid(0),
            "cwd": os.getcwd(),
            "env": os.environ.get("PITBOSS_TEST_EXTRA"),
            "stdin": sys.stdin.read(),
            "no_new_privs": "NoNewPrivs:\t1" in open("/proc/self/status").read(),
        }
