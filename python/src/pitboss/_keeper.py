"""The keeper: one tiny process that guards one worker and outlives it until nothing of it is left.

It runs no user code, holds no descriptor of the agent's but its link, and is the subreaper of everything that its worker
starts. Its exit status 0 is the proof that the worker's tree is empty.
"""

from __future__ import annotations

import faulthandler
import fcntl
import io
import os
import random
import resource
import select
import signal
import socket
import sys
import time
from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Sequence, Tuple

from pitboss import _kills, _ladder, _orders, _process
from pitboss._worker import run_worker

DUMP_SIGNAL = signal.SIGRTMIN + 4
CANCEL_SIGNAL = signal.SIGRTMIN + 5

_CRASH_FD = 5
_REFUSED = 71
_LEFT = 72  # something of the tree is left
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

# The exec start hands a fresh interpreter the same first lines that the launcher got.
BOOT = """import sys
if sys.path and sys.path[0] == "": del sys.path[0]
other = sys.modules.get("pitboss")
if other: sys.exit("pitboss: %s was imported at start-up (by a .pth file?), ahead of the agent's own half; remove it" % other.__file__)
sys.path.insert(0, sys.argv[2])
from pitboss._boot import main
main(sys.argv)
"""


class Spawn(NamedTuple):
    """One order to spawn, as the keeper needs it."""

    worker: str
    grace: float  # seconds between TERM and KILL when the agent is gone
    env: Dict[str, str]
    nofile: int
    core: int
    execute: bool  # a fresh interpreter instead of a fork
    library: str
    path: List[str]
    nice: Optional[int]  # the worker's; None: the keeper's
    fds: List[int]  # keeper link, data, control, crash, stdout, stderr


def run_keeper(spawn: Spawn) -> NoReturn:
    """The whole life of a keeper, in the process that the launcher has just forked."""
    try:
        keeper = _Keeper(spawn)
        os._exit(keeper.run())  # and it is not freed before: an open socket that is makes Python look for a warning's filter
    except BaseException as error:  # whatever it is: never run the launcher's code
        try:
            _orders.send(_process.seqpacket(spawn.fds[0]), "refused", reason="FORK", message=f"{type(error).__name__}: {error}")
        finally:
            os._exit(_REFUSED)


class _Keeper:
    def __init__(self, spawn: Spawn) -> None:
        self.spawn = spawn
        self.pid = os.getpid()
        self.worker = 0
        self.seen = False
        self.gone = False  # the agent's end of the link is closed
        self.kills = _kills.Kills()
        self.ladder = _ladder.Ladder()

    def run(self) -> int:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for signum in _IGNORED:
            signal.signal(signum, signal.SIG_IGN)
        _process.set_name("pb-keeper")
        _process.become_subreaper()
        _process.close_except([0, 1, 2, *self.spawn.fds])
        self.link = _process.seqpacket(self.spawn.fds[0])
        threads = _process.thread_count()
        if threads != 1:
            _orders.send(self.link, "refused", reason="THREADS", message=_thread_message(threads))
            return _REFUSED
        self.worker = os.fork()
        if self.worker == 0:
            start_worker(self.spawn, self.pid)
        self.wakeup = _process.Wakeup()
        _process.close_except([self.link.fileno(), *self.wakeup.fds])
        _process.null_standard_streams()
        _process.keep_list(whole=True)
        _orders.send(self.link, "worker", keeper=self.pid, pid=self.worker, dump_signal=int(DUMP_SIGNAL))
        self.poll = select.poll()
        self.poll.register(self.link, select.POLLIN)
        self.poll.register(self.wakeup.fd, select.POLLIN)
        while True:
            status = self.turn()
            if status is not None:
                return status

    def turn(self) -> Optional[int]:
        """Looks, decides and acts once, then waits for the next event. The exit status when that was all."""
        seen = self.look()
        now = time.monotonic()
        self.ladder, actions = _ladder.decide(self.ladder, seen, now)
        unfinished = False
        for action in actions:
            if action == _ladder.FINISH:
                if self.finished():
                    self.tell("empty", killed=self.kills.count)
                    return 0
                unfinished = True  # a child that the look had missed; its death may have been announced already
            elif action == _ladder.GIVE_UP:
                self.tell("left", killed=self.kills.count, left=self.kills.left(_process.children()))
                return _LEFT
            else:
                self.act(action)
        wait = _ladder.LOOK_AGAIN if unfinished else _ladder.wait(self.ladder, seen, time.monotonic())
        for fd, _ in self.poll.poll(None if wait is None else wait * 1000 + 0.5):
            if fd == self.wakeup.fd:
                self.wakeup.clear()
            else:
                self.receive()
        return None

    def look(self) -> _ladder.Seen:
        """Reaps adopted zombies, never the leader, and sees what is left."""
        dead = self.ladder.reaped or _process.has_died(self.worker)
        ending = self.ladder.killing or (dead and not self.ladder.termed)
        while True:
            listed = _process.children()
            in_group, strays = self.sort(listed)
            overdue = self.kills.overdue(in_group + strays)
            # A zombie counts for RLIMIT_NPROC and pids.max. While none is reaped, a fork bomb that has reached its limit cannot grow, and
            # each KILL leaves less of it. Where all are dead, what they leave is ours by now, and in the next list.
            if ending and not overdue:
                break
            if not ending or not set(_process.children()) - set(listed):
                self.reap(listed)
                break
        graceful = self.ladder.termed and not self.ladder.killing
        due = strays if graceful else in_group + strays + ([] if dead else [self.worker])
        may_reap = self.seen or self.gone
        return _ladder.Seen(dead, may_reap, bool(in_group), bool(strays), self.kills.told(due), overdue)

    def sort(self, pids: List[int]) -> Tuple[List[int], List[int]]:
        """The living of these children, but not the worker: those in its group, those in another."""
        in_group: List[int] = []
        strays: List[int] = []
        for pid in _process.living(pid for pid in pids if pid != self.worker):
            try:
                (in_group if os.getpgid(pid) == self.worker else strays).append(pid)
            except ProcessLookupError:
                continue
        return in_group, strays

    def reap(self, pids: List[int]) -> None:
        """Collects the dead of these, but not the worker."""
        for pid in pids:
            if pid != self.worker and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None:
                self.kills.reaped(pid)

    def act(self, action: str) -> None:
        if action == _ladder.REPORT:
            death = None if self.gone else _process.peek_death(self.worker)
            if death is not None:
                self.tell("exited", pid=self.worker, **death.fields())
        elif action == _ladder.TERM:
            _process.send_signal(-self.worker, signal.SIGTERM)
            _process.send_signal(-self.worker, signal.SIGCONT)
        elif action == _ladder.KILL_STRAYS:
            self.kill(self.sort(_process.children())[1])
        elif action == _ladder.KILL_ALL:
            if not self.ladder.reaped:  # an unreaped leader pins the group's number; after that it may be anybody's
                _process.send_signal(-self.worker, signal.SIGKILL)
                self.kill([self.worker])
            self.kill_children()
        elif action == _ladder.REAP:
            os.waitpid(self.worker, 0)
            self.kills.reaped(self.worker)

    def kill_children(self) -> None:
        in_group, strays = self.sort(_process.children())
        self.kill(in_group + strays)

    def kill(self, pids: List[int]) -> None:
        """By number: they are our children, and between their list and the kill nobody reaps them."""
        for pid in pids:
            if self.kills.kill(pid, counted=pid != self.worker):
                self.tell("denied", **self.kills.left([pid])[0])

    def finished(self) -> bool:
        """Only ECHILD proves that no child is left."""
        try:
            death = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return True
        if death is not None:
            self.kills.reaped(death.si_pid)
        self.kill_children()
        return False

    def tell(self, op: str, **fields: Any) -> None:
        """Nothing when the agent is gone: all keepers end at once then, and nobody would read it."""
        if not self.gone:
            _orders.send(self.link, op, **fields)

    def receive(self) -> None:
        try:
            order = _orders.receive(self.link, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except _orders.OrderError:
            order = None
        now = time.monotonic()
        if order is None:
            if not self.gone:
                self.gone = True
                self.poll.unregister(self.link)
                self.ladder = _ladder.stop(self.ladder, now, self.spawn.grace)
            return
        _orders.close_all(order.fds)
        if order.op == "seen":
            self.seen = True
        elif order.op == "stop":
            self.ladder = _ladder.stop(self.ladder, now, order.fields.get("grace_us", 0) / 1e6)
        elif order.op == "kill":
            self.ladder = _ladder.kill(self.ladder)


def _thread_message(threads: int) -> str:
    return (
        f"the process has {threads} threads after the fork: an at-fork hook of a preloaded module started one; "
        "remove that module from preload, or use start: exec"
    )


def start_worker(spawn: Spawn, keeper: int) -> NoReturn:
    """Turns the freshly forked child of the keeper into the worker."""
    try:
        os.setsid()
        _process.default_signals()
        _set_limits(spawn)
        if spawn.nice is not None:
            _process.bound_niceness(spawn.nice)
        _place_descriptors(spawn.fds[1:])
        os.environ.update(spawn.env)
        if spawn.execute:
            for fd in range(6):
                os.set_inheritable(fd, True)
            argv = [sys.executable, "-c", BOOT, "worker", spawn.library, str(keeper), *spawn.path]
            os.execve(sys.executable, argv, os.environ)
        enter_worker(keeper)
    except BaseException as error:
        os.write(2, f"pitboss: cannot start worker {spawn.worker}: {type(error).__name__}: {error}\n".encode())
        os._exit(70)


def enter_worker(keeper: int) -> NoReturn:
    """What a worker needs whether it was forked or executed; then the worker itself."""
    _process.set_name("pb-worker")
    if not _process.die_with_parent(keeper):
        os._exit(70)
    _process.no_new_privileges()
    for fd in (3, 4, _CRASH_FD):  # they had to pass the exec of a fresh interpreter, and no other one
        os.set_inheritable(fd, False)
    faulthandler.enable(file=_CRASH_FD, all_threads=True)
    # Only the thread that takes the signal, the main one: the frames of another one that runs meanwhile change and are freed while
    # faulthandler reads them, and that kills the process (SIGSEGV).
    faulthandler.register(DUMP_SIGNAL, file=_CRASH_FD, all_threads=False, chain=False)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False))
    sys.stdout = _text_stream(1)
    sys.stderr = _text_stream(2)
    setattr(sys, "__stdout__", sys.stdout)  # noqa: B010 (typed as final; ours are the originals from here on)
    setattr(sys, "__stderr__", sys.stderr)  # noqa: B010
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()
    run_worker(int(DUMP_SIGNAL), int(CANCEL_SIGNAL))


class _LogPipe(io.FileIO):
    """A log pipe. Once its reader, the agent, is gone, what is printed goes nowhere and raises nothing."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


def _text_stream(fd: int) -> io.TextIOWrapper:
    raw = _LogPipe(fd, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _set_limits(spawn: Spawn) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    core = spawn.core if hard == resource.RLIM_INFINITY else min(spawn.core, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (core, hard))
    if spawn.nofile:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = spawn.nofile if hard == resource.RLIM_INFINITY else min(spawn.nofile, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _place_descriptors(fds: Sequence[int]) -> None:
    """data, control, crash, stdout, stderr become 3, 4, 5, 1, 2; 0 is /dev/null; nothing else stays open."""
    # First out of the way, so that no target overwrites a source.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in fds]
    null = fcntl.fcntl(os.open(os.devnull, os.O_RDONLY), fcntl.F_DUPFD_CLOEXEC, 64)
    for source, target in zip([null, high[3], high[4], high[0], high[1], high[2]], range(6)):
        os.dup2(source, target, inheritable=target < 3)
    _process.close_except(range(6))


def spawn_of(fields: Dict[str, Any], fds: List[int], execute: bool, library: str, path: List[str], nice: Optional[int]) -> Spawn:
    """The order's fields, typed."""
    env: Optional[Dict[str, str]] = fields.get("env")
    return Spawn(
        worker=str(fields["worker"]),
        grace=int(fields.get("grace_us", 0)) / 1e6,
        env=dict(env or {}),
        nofile=int(fields.get("nofile", 0)),
        core=int(fields.get("core", 0)),
        execute=execute,
        library=library,
        path=path,
        nice=nice,
        fds=fds,
    )
