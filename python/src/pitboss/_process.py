"""What pitboss needs of Linux processes: prctl, children, threads, descriptors. No pidfd: some builds of Python lack it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import stat
import struct
from typing import Dict, Iterable, List, NamedTuple, Optional

# prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

# waitid(2) by number: os.waitid does not pass on the rusage that the system call can fill without reaping.
_WAITID = {"x86_64": 247, "aarch64": 95}.get(os.uname().machine)
_SIGINFO_SIZE = 128
_RUSAGE_SIZE = 144
_MAXRSS_OFFSET = 32  # after ru_utime and ru_stime, two longs each

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: object, what: str) -> None:
    if _libc.prctl(option, argument, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {what}: {os.strerror(number)}")


def become_subreaper() -> None:
    """Orphaned descendants are re-parented to this process. Kept over exec, not inherited by children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), "become a subreaper")


def set_death_signal(signum: int) -> None:
    """``signum`` (0: none) comes when the parent dies. Kept over exec, cleared in children."""
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signum), "set the parent death signal")


def die_with_parent(parent: int) -> bool:
    """Arms KILL on the death of ``parent``; False, and not armed, if the parent is another one.

    Checked before and after: a parent that died in between would never send the signal.
    """
    if os.getppid() != parent:
        return False
    set_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    return True


def no_new_privileges() -> None:
    """No exec below this process can gain privileges."""
    _prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), "set no_new_privs")


def set_name(name: str) -> None:
    """The name in ps and /proc/PID/comm, at most 15 bytes; for people only, so a sandbox may refuse it."""
    with contextlib.suppress(OSError):
        _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()), "set the process name")


def niceness() -> int:
    """That of this thread, -20 to 19 (sched(7))."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def set_niceness(nice: int) -> None:
    """Lower than it is needs CAP_SYS_NICE or RLIMIT_NICE: without, it stays."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)


def bound_niceness(nice: int) -> None:
    """Takes that niceness and the right of an unprivileged process to go below it (RLIMIT_NICE, getrlimit(2): 20 is 0, 40 is -20)."""
    set_niceness(nice)
    limits = resource.getrlimit(resource.RLIMIT_NICE)
    soft, hard = (20 - nice if limit == resource.RLIM_INFINITY else min(limit, 20 - nice) for limit in limits)
    resource.setrlimit(resource.RLIMIT_NICE, (soft, hard))


def _names(directory: str) -> List[str]:
    """What a directory holds, in spite of signals: ``os.listdir`` does not try again as ``os.open`` does (PEP 475), and where a sandbox
    or a file system in user space answers for /proc an open is interrupted (EINTR)."""
    while True:
        try:
            return os.listdir(directory)
        except InterruptedError:
            pass


def thread_count() -> int:
    """Threads of this process, those that Python does not know of included."""
    return len(_names("/proc/self/task"))


def open_descriptors() -> List[int]:
    """The open descriptors of this process."""
    return [int(name) for name in _names("/proc/self/fd")]


def close_except(keep: Iterable[int]) -> None:
    """Closes every descriptor that is not in ``keep``."""
    kept = set(keep)
    for fd in open_descriptors():
        if fd not in kept:
            try:
                os.close(fd)
            except OSError as error:
                if error.errno != errno.EBADF:  # the descriptor of the listing itself
                    raise


def null_standard_streams() -> None:
    """Points 0, 1 and 2 at /dev/null, so that the numbers stay taken."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)


def open_gpu_devices() -> List[str]:
    """Paths of the NVIDIA devices that this process holds open: a CUDA context does not survive a fork."""
    found = []
    for fd in open_descriptors():
        try:
            path = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if path.startswith("/dev/nvidia"):
            found.append(path)
    return found


class _Kept(NamedTuple):
    owner: int
    fd: int
    whole: bool


_kept = _Kept(0, -1, False)


def keep_list(whole: bool = False) -> int:
    """Opens the list of the main thread's children, where orphans appear, and keeps it for when nothing can be opened any more
    (EMFILE, ENFILE); with ``whole``, where no other thread makes children, for every look. The descriptor; -1 without
    CONFIG_PROC_CHILDREN."""
    global _kept
    try:
        _kept = _Kept(os.getpid(), os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC), whole)
    except FileNotFoundError:
        _kept = _Kept(os.getpid(), -1, whole)
    return _kept.fd


def children() -> List[int]:
    """The children of this process, zombies included.

    The kernel's list can miss some while others exit at the same time, so an empty list is no proof: ECHILD is.
    """
    kept = _kept.fd if _kept.owner == os.getpid() else -1
    if kept >= 0 and _kept.whole:
        return _pids(kept)
    found: List[int] = []
    try:
        for task in _names("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children", "rb", buffering=0) as file:
                found += _pids(file.fileno())
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return children_by_scan()
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE) or kept < 0:
            raise
        return _pids(kept)
    return found


def _pids(fd: int) -> List[int]:
    data = b""
    while piece := os.pread(fd, 1 << 16, len(data)):
        data += piece
    return list(map(int, data.split()))


def living(pids: Iterable[int]) -> List[int]:
    """Those of these children that are no zombies."""
    alive = []
    for pid in pids:
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                alive.append(pid)
        except ChildProcessError:
            pass
    return alive


def children_by_scan() -> List[int]:
    """The same from every process's stat file."""
    me = os.getpid()
    found = []
    for name in _names("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                # comm may hold spaces and brackets, so the fields are counted from its last bracket
                fields = file.read(4096).rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or another user's with hidepid=1
            continue
        if int(fields[1]) == me:
            found.append(int(name))
    return found


def send_signal(pid: int, signum: int) -> int:
    """Signals a child that has not been reaped, or with a negative number the group of one: nobody else can have the number.

    0, or why not: ESRCH (none is there), EPERM (it changed its user, and this one may not signal that).
    """
    try:
        os.kill(pid, signum)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def state_of(pid: int) -> Dict[str, str]:
    """``state``, the letter of /proc/PID/stat, and ``wchan``, the kernel function it waits in; empty where that is not told."""
    told = {"state": "", "wchan": ""}
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            told["state"] = file.read(4096).rpartition(b")")[2].split()[0].decode()
        with open(f"/proc/{pid}/wchan", "rb", buffering=0) as file:
            told["wchan"] = file.read(64).decode()
    except (OSError, IndexError):  # it is gone, or not ours to look at
        pass
    return told


class Death(NamedTuple):
    """How a process ended: exactly one of ``code`` and ``signal`` is set. ``maxrss_kb`` is 0 where it cannot be known."""

    code: Optional[int]
    signal: Optional[int]
    maxrss_kb: int

    def fields(self) -> Dict[str, Optional[int]]:
        return {"code": self.code, "signal": self.signal, "maxrss_kb": self.maxrss_kb}


def _peek_maxrss(pid: int) -> int:
    if _WAITID is None:
        return 0
    info = ctypes.create_string_buffer(_SIGINFO_SIZE)
    usage = ctypes.create_string_buffer(_RUSAGE_SIZE)
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    result = _libc.syscall(ctypes.c_long(_WAITID), ctypes.c_int(os.P_PID), ctypes.c_int(pid), info, ctypes.c_int(options), usage)
    if result != 0:
        return 0
    return int(struct.unpack_from("l", usage.raw, _MAXRSS_OFFSET)[0])


def has_died(pid: int) -> bool:
    """Whether this child is a zombie."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def peek_death(pid: int) -> Optional[Death]:
    """How this child ended, without reaping it; None while it lives."""
    result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if result is None:
        return None
    maxrss = _peek_maxrss(pid)
    if result.si_code == os.CLD_EXITED:
        return Death(result.si_status, None, maxrss)
    return Death(None, result.si_status, maxrss)


def exit_status(status: int) -> int:
    """A wait status as one number: the exit code, or minus the signal."""
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)


def is_socket(fd: int) -> bool:
    """Whether the descriptor is open and a socket."""
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


class Wakeup:
    """A pipe that becomes readable when a signal arrives, so that one poll waits for messages and children alike."""

    def __init__(self) -> None:
        # Non-blocking on both ends: a full pipe has already said what there is to say.
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _noted)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    @property
    def fds(self) -> List[int]:
        return [self.fd, self._write]

    def clear(self) -> None:
        """Takes what was written, before looking at what it announced."""
        try:
            while len(os.read(self.fd, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass


def _noted(signum: int, frame: object) -> None:
    """Python writes to the wake-up pipe only for signals that have a handler."""


def default_signals() -> None:
    """Every disposition default and nothing blocked, whatever was inherited (nohup, a background job, a wrapper).

    SIGPIPE stays ignored as in every Python process: a write to a closed socket must be an error, not a death.
    """
    for signum in signal.valid_signals():
        if signum in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE):
            continue
        try:
            if signal.getsignal(signum) is not signal.SIG_DFL:
                signal.signal(signum, signal.SIG_DFL)
        except OSError:  # numbers that the C library keeps for itself
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def seqpacket(fd: int) -> socket.socket:
    """The socket object of an inherited SOCK_SEQPACKET descriptor."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=fd)


def stream(fd: int) -> socket.socket:
    """The socket object of an inherited SOCK_STREAM descriptor."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd)
