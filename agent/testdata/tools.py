"""Well- and ill-behaved tools for the agent's tests; each is named for what it does."""

import atexit
import ctypes
import hashlib
import os
import socket
import subprocess
import sys
import threading
import time

import pitboss

DATA_FD, CONTROL_FD = 3, 4
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b


@pitboss.tool
def count(n: int):
    for i in range(n):
        yield {"i": i}
    return n


@pitboss.tool
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pitboss.tool
def nap_noting_its_pid(file: str, seconds: float) -> str:
    with open(file, "w") as f:
        f.write(str(os.getpid()))
    time.sleep(seconds)
    return "slept"


@pitboss.tool
def mark(file: str) -> None:
    with open(file, "a") as f:
        f.write("ran\n")


@pitboss.tool
def append(file: str, text: str, seconds: float = 0.0) -> None:
    time.sleep(seconds)
    with open(file, "a") as f:
        f.write(text + "\n")


@pitboss.tool
def whoami() -> dict:
    return {"pid": os.getpid(), "marker": os.environ.get("MARKER", ""), "executable": sys.executable, "argv": sys.orig_argv[-3:-1]
            if hasattr(sys, "orig_argv") else []}


@pitboss.tool
def exit_three():
    os._exit(3)


@pitboss.tool
def segfault():
    ctypes.string_at(0)


@pitboss.tool
def raises():
    raise ValueError("on purpose")


@pitboss.tool
def deadlock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@pitboss.tool
def hold_gil(file: str = ""):
    if file:
        with open(file, "w") as f:
            f.write(str(os.getpid()))
    ctypes.PyDLL(None).sleep(60)


@pitboss.tool
def burn(seconds: int) -> int:
    total, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        total += sum(range(10**7))
    return total


@pitboss.tool
def burn_in_one_c_call(file: str, seconds: float) -> float:
    with open(file, "w") as f:
        f.write(str(os.getpid()))
    begin = time.monotonic()
    sum(range(10**7))
    n = int(10**7 * seconds / (time.monotonic() - begin))
    begin = time.monotonic()
    sum(range(n))
    return time.monotonic() - begin


@pitboss.tool
def child_returns() -> str:
    return "child" if os.fork() == 0 else "parent"


@pitboss.tool
def child_raises() -> str:
    if os.fork() == 0:
        raise RuntimeError("from the child")
    return "parent"


@pitboss.tool
def child_lives_on(file: str) -> int:
    """The child waits for the end of its worker and would answer then."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        while os.getppid() == parent:
            time.sleep(0.01)
        with open(file, "a") as f:
            f.write("alive after the worker\n")
        return -1
    return pid


@pitboss.tool
def escapees() -> list:
    """A child in a new session and one that forked twice; their pids."""
    first = subprocess.Popen(SLEEP, start_new_session=True).pid
    read, write = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        second = os.fork()
        if second == 0:
            os.close(write)
            os.execv(SLEEP[0], SLEEP)
        os.write(write, str(second).encode())
        os._exit(0)
    os.close(write)
    second = int(os.read(read, 32))
    os.close(read)
    os.waitpid(middle, 0)
    return [first, second]


@pitboss.tool
def big(n: int) -> bytes:
    return b"x" * n


@pitboss.tool
def take(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pitboss.tool
def spin(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pitboss.tool
def flood(seconds: float):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        print("flood")


def shutdown(fd: int, how: int) -> None:
    with socket.socket(fileno=os.dup(fd)) as s:
        s.shutdown(how)


@pitboss.tool
def cut_control():
    shutdown(CONTROL_FD, socket.SHUT_RDWR)
    time.sleep(30)


@pitboss.tool
def close_answers():
    """The agent can write to this worker and hears no more of it."""
    shutdown(DATA_FD, socket.SHUT_WR)
    time.sleep(30)


@pitboss.tool
def close_requests() -> str:
    """This worker answers, and hears no more of the agent."""
    shutdown(DATA_FD, socket.SHUT_RD)
    return "answered"


@pitboss.tool
def print_to_nobody(directory: str):
    """Prints much after the agent's death and leaves a mark for each thing that happens."""

    def note(what: str) -> None:
        with open(os.path.join(directory, what), "a") as f:
            f.write("%d\n" % os.getpid())

    sys.excepthook = lambda *args: note("exception")
    threading.excepthook = lambda *args: note("exception")
    atexit.register(note, "atexit")
    note("running")
    try:
        time.sleep(60)
    except pitboss.Cancelled:
        try:
            for i in range(20000):
                print("into the void", i)
                print("into the void", i, file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            note("printed")
        except BaseException:
            note("exception")
        raise
