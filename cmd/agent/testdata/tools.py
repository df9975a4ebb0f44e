"""Tools for the tests of the command line."""

import ctypes
import os
import time

import pitboss


@pitboss.tool
def add(a: int, b: int) -> int:
    """The sum of two whole numbers."""
    return a + b


@pitboss.tool
def count(n: int):
    """Counts to n."""
    for i in range(n):
        yield {"i": i}


@pitboss.tool
def size(data: bytes, name: str = "x") -> dict:
    return {"size": len(data), "name": name}


@pitboss.tool
def zeros(n: int) -> bytes:
    return b"\0" * n


@pitboss.tool
def nap(seconds: float, file: str = "") -> str:
    if file:
        with open(file, "w") as f:
            f.write("begun")
    time.sleep(seconds)
    return "rested"


@pitboss.tool
def stubborn(file: str):
    """Does not end for anything but KILL."""
    with open(file, "w") as f:
        f.write("begun")
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass


@pitboss.tool
def raises():
    raise KeyError("no such thing")


@pitboss.tool
def segfault():
    ctypes.string_at(0)


@pitboss.tool
def exit_three():
    os._exit(3)


@pitboss.tool
def moment():
    import datetime

    return {"day": datetime.date(2026, 1, 2), "seen": {1}}
