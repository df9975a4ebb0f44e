"""The launcher: one single-threaded process per pool generation that imports what is preloaded and forks keepers.

It is the subreaper of its keepers: what a killed keeper leaves behind falls to it, and it kills what it did not start.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import socket
import sys
from typing import Any, Dict, List, NoReturn, Optional, Set, Union

from pitboss import __version__, _errors, _keeper, _kills, _ladder, _orders, _process

PROTOCOL = 1
_LINK_FD = 3
_SPAWN_FDS = 6


def run_launcher(library: str) -> NoReturn:
    """The whole life of a launcher."""
    _process.default_signals()
    launcher = _Launcher(library)
    try:
        status = launcher.run()
    except BaseException as error:
        print(f"pitboss: launcher failed: {_errors.traceback_of(error)}", file=sys.stderr, flush=True)
        status = 70
    os._exit(status)


class _Launcher:
    def __init__(self, library: str) -> None:
        self.library = library
        self.link = _process.seqpacket(_LINK_FD)
        self.keepers: Set[int] = set()
        self.reap_asked: Set[int] = set()
        self.failed: Dict[int, List[int]] = {}  # ended keepers, still zombies, to whom was killed of what they left
        self.kills = _kills.Kills()
        self.stopping = False  # fork no more; end after the last keeper
        self.gone = False  # the agent's end is closed: keepers are reaped without being asked for
        self.start = "fork"
        self.frozen = False
        self.armed = False
        self.parent = 0
        self.path: List[str] = []
        self.watched: Optional[int] = None  # niceness of preloads and workers, where that of the guardians is another one

    def run(self) -> int:
        _process.set_name("pb-launcher")
        _process.become_subreaper()
        _process.keep_list()
        _orders.send(
            self.link,
            "hello",
            pid=os.getpid(),
            ppid=os.getppid(),
            version=__version__,
            protocol=PROTOCOL,
            python="%d.%d.%d" % sys.version_info[:3],
            executable=sys.executable,
        )
        order = _orders.receive(self.link)
        if order is None:
            return 0
        if order.op != "init" or not self.begin(order.fields):
            return 1
        self.wakeup = _process.Wakeup()
        self.poll = select.poll()
        self.poll.register(self.link, select.POLLIN)
        self.poll.register(self.wakeup.fd, select.POLLIN)
        while not (self.stopping and not self.keepers):
            for fd, _ in self.poll.poll(self.patience()):
                if fd == self.wakeup.fd:
                    self.wakeup.clear()
                else:
                    self.receive()
            self.reap()
        return 0

    def begin(self, fields: Dict[str, Any]) -> bool:
        """Arms the death signal, prepares the path, preloads. False if it cannot serve."""
        self.parent = int(fields["parent"])
        # A launcher stuck in an import would outlive the agent: KILL until the first keeper exists, then EOF is enough.
        if not _process.die_with_parent(self.parent):
            return False
        self.armed = True
        self.path = [str(entry) for entry in fields.get("path") or []]
        sys.path[1:1] = self.path
        self.start = str(fields.get("start", "fork"))
        refusal: Optional[Dict[str, str]] = None
        nice: Optional[int] = fields.get("nice")
        if nice is not None:
            self.watched = _process.niceness()
        if self.start == "fork":
            for module in fields.get("preload") or []:
                _orders.send(self.link, "preloading", module=module)
                if not self.preload(module):
                    return False
                refusal = refusal or why_not_fork(f"after the import of {module!r}")
        if refusal is not None:
            self.start = "exec"
        if nice is not None:
            _process.set_niceness(nice)
        _orders.send(self.link, "ready", start=self.start, refusal=refusal)
        return True

    def preload(self, module: str) -> bool:
        try:
            importlib.import_module(module)
        except BaseException as error:
            told = _errors.describe(error, "PRELOAD_IMPORT")
            _orders.send(
                self.link,
                "failed",
                reason="PRELOAD_IMPORT",
                message=f"cannot import {module!r}: {told['type']}: {told['message']}",
                traceback=told["traceback"],
            )
            return False
        return True

    def receive(self) -> None:
        try:
            order = _orders.receive(self.link, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if order is None:
            self.stopping = self.gone = True
            self.poll.unregister(self.link)
            return
        if order.op == "spawn":
            self.spawn(order)
        elif order.op == "reap":
            self.reap_asked.add(int(order.fields["keeper"]))
        elif order.op == "stop":
            self.stopping = True
        if order.op != "spawn":
            _orders.close_all(order.fds)

    def spawn(self, order: _orders.Order) -> None:
        """Forks one keeper. Its descriptors are closed here before the next order is read."""
        worker = str(order.fields.get("worker"))
        refusal: Optional[Dict[str, str]] = None
        if not order.whole or len(order.fds) != _SPAWN_FDS:
            refusal = {"reason": "FDS", "message": f"{len(order.fds)} of {_SPAWN_FDS} descriptors came; raise the descriptor limit"}
        elif self.stopping:
            refusal = {"reason": "FORK", "message": "the launcher is stopping"}
        elif self.start == "fork":
            refusal = why_not_fork("before a fork")
        pid = 0
        if refusal is None:
            try:
                pid = self.fork_keeper(order)
            except OSError as error:
                refusal = {"reason": "FORK", "message": f"cannot fork: {error}"}
        _orders.close_all(order.fds)
        if refusal is not None:
            _orders.send(self.link, "refused", worker=worker, **refusal)
            return
        self.keepers.add(pid)
        _orders.send(self.link, "forked", worker=worker, keeper=pid)
        if self.armed:
            self.armed = False
            _process.set_death_signal(0)

    def fork_keeper(self, order: _orders.Order) -> int:
        spawn = _keeper.spawn_of(order.fields, order.fds, self.start == "exec", self.library, self.path, self.watched)
        if not self.frozen:
            # What is alive now is shared with every worker; moving it out of the collector's sight keeps its pages shared.
            self.frozen = True
            gc.collect()
            gc.freeze()
        pid = os.fork()
        if pid == 0:
            _keeper.run_keeper(spawn)
        return pid

    def patience(self) -> Optional[float]:
        """Milliseconds until the next look at strays that are being killed; None when there are none."""
        if not self.failed:
            return None
        strays = _process.living(self.strays())
        return 1000 * (_ladder.LOOK_RARELY if strays and self.kills.told(strays) else _ladder.LOOK_AGAIN)

    def strays(self) -> List[int]:
        """The children that it did not start."""
        return [pid for pid in _process.children() if pid not in self.keepers]

    def reap(self) -> None:
        """Collects ended keepers that were asked for, or all of them once the agent is gone, and what was killed here."""
        if not self.failed:
            for pid in self.kills.pending():
                self.reap_stray(pid)
        for pid in list(self.keepers):
            if (self.gone or pid in self.reap_asked) and pid not in self.failed:
                death = _process.peek_death(pid)
                if death is not None and death.code == 0:
                    self.reaped(pid, [], [])
                elif death is not None:
                    self.failed[pid] = []
        if self.failed:
            self.kill_strays()
        self.reap_asked &= self.keepers

    def reaped(self, keeper: int, killed: List[int], left: List[Dict[str, Union[int, str]]]) -> None:
        _, status = os.waitpid(keeper, 0)
        self.keepers.discard(keeper)
        self.reap_asked.discard(keeper)
        status = _process.exit_status(status)
        _orders.send(self.link, "reaped", keeper=keeper, status=status, killed=killed[:100], left=left)

    def kill_strays(self) -> None:
        """One look: kills every child that it did not start, whose children fall to us in turn.

        Answers for the keepers that left them once none is left, or only such as KILL does not help against: it never waits here,
        so that the pool can fork meanwhile.
        """
        found = self.strays()
        left = _process.living(found)
        for pid in left:
            if not self.kills.told([pid]):
                for killed in self.failed.values():
                    killed.append(pid)
            self.kills.kill(pid)  # a child of ours, and nobody but us reaps it
        hopeless = [pid for pid in left if self.kills.refused([pid]) or self.kills.overdue([pid])]
        # While one may still die nobody is reaped: a zombie takes the room that a fork bomb at its limit would fill. What the dead have
        # left is ours by now, and in the next list.
        if len(hopeless) < len(left) or set(self.strays()) - set(found):
            return
        for pid in found:
            self.reap_stray(pid)
        for keeper, killed in list(self.failed.items()):
            del self.failed[keeper]
            self.reaped(keeper, [pid for pid in killed if pid not in left], self.kills.left(left))

    def reap_stray(self, pid: int) -> bool:
        """Collects a child that it did not start; False while that lives."""
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None:
                return False
        except ChildProcessError:
            pass
        self.kills.reaped(pid)
        return True


def why_not_fork(when: str) -> Optional[Dict[str, str]]:
    """Why a fork would be unsafe now: threads do not survive one, and neither does a CUDA context."""
    threads = _process.thread_count()
    if threads != 1:
        return {
            "reason": "THREADS",
            "message": f"{threads} threads {when}; set OPENBLAS_NUM_THREADS=1 and the like, or remove it from preload",
        }
    devices = _process.open_gpu_devices()
    if devices:
        return {"reason": "CUDA", "message": f"{devices[0]} is open {when}; a CUDA context does not survive a fork"}
    return None
