"""A tool file of the release tests: each worker takes a port and a lock, writes down how that went, and leaves an escapee with both.

Environment: NEED_PORT, NEED_LOCK (file); NEED_ESCAPEE: leave a process in a session of its own that ignores TERM and holds both.
"""

import errno
import fcntl
import os
import signal
import socket

import pitboss

VERSION = "1"


def take() -> str:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", int(os.environ["NEED_PORT"])))
        listener.listen()
    except OSError as e:
        return errno.errorcode[e.errno]
    lock = open(os.environ["NEED_LOCK"], "a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        return errno.errorcode[e.errno]
    keep.extend([listener, lock])
    if os.environ.get("NEED_ESCAPEE"):
        escape()
    return "ok"


def escape() -> None:
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = os.fork()
        while child == 0:
            signal.pause()
        with open("escapees", "a") as f:
            f.write(f"{child}\n")
        os._exit(0)
    os.wait()


keep: list = []
got = take()
with open("took", "a") as f:
    f.write(f"{got}\n")


@pitboss.tool
def version(nonce: str, seconds: float = 0.0) -> str:
    with open("ran", "a") as f:
        f.write(nonce + "\n")
    return VERSION
