"""The tools that the booted tests call."""

import os
import signal
import socket
import subprocess
import time

import pitboss


@pitboss.tool
def add(a: int, b: int) -> int:
    return a + b


@pitboss.tool
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@pitboss.tool
def stuck() -> None:
    """Nothing but KILL ends this one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    while True:
        time.sleep(3600)


@pitboss.tool
def escape() -> None:
    """Leave a process behind that has left session and parent."""
    subprocess.run(["setsid", "--fork", "sleep", "3600"], check=True)


@pitboss.tool
def identity() -> dict:
    """Say who this worker is and what it may write."""
    writable = [d for d in ("/etc", "/usr", "/srv", "/home", "/run/pitboss", "/tmp", "/dev/shm", os.environ["HOME"]) if os.access(d, os.W_OK)]
    return {"uid": os.getuid(), "cwd": os.getcwd(), "home": os.environ.get("HOME", ""), "writable": writable}


@pitboss.tool
def reach(path: str) -> None:
    """Connect to a socket."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)


@pitboss.tool
def matrix(n: int) -> float:
    """Work with numpy: the sum of an n by n product of ones, n * n * n."""
    import numpy

    ones = numpy.ones((n, n))
    return float((ones @ ones).sum())
