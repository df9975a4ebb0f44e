"""The agent's side of the wires, small: starts a real launcher, orders real workers from it, speaks frames with them.

It is written from ipc/PROTOCOL.md §1 to §3 and takes only the frame codec from the library, which the golden frames hold.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from pitboss import _keeper, _values, _wire

LIBRARY = str(Path(__file__).resolve().parents[1] / "src")
BEHAVIOURS = str(Path(__file__).resolve().parent / "behaviours.py")
TOKEN_ENV = "PITBOSS_TEST_TOKEN"
# Bounds every wait for an event, in seconds; long, because the machine may be busy.
PATIENCE = float(os.environ.get("PITBOSS_TEST_PATIENCE", "30"))


class ToolFailed(Exception):
    """An ERROR frame; ``body`` is its JSON object."""

    def __init__(self, body: Dict[str, Any]) -> None:
        super().__init__(f"{body['reason']}: {body['message']}\n{body['traceback']}")
        self.body = body


def eventually(reached: Callable[[], Any], what: str) -> Any:
    """Looks until ``reached()`` is true, and returns that."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = reached()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.002)


class Link:
    """Our end of an orders link."""

    def __init__(self) -> None:
        self.socket, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)

    def send(self, op: str, fds: Sequence[int] = (), **fields: Any) -> None:
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([json.dumps({"op": op, **fields}).encode()], beside)

    def receive(self) -> Optional[Dict[str, Any]]:
        """The next message, None at the end."""
        try:
            data = self.socket.recv(1 << 17)
        except ConnectionError:
            return None
        assert len(data) <= 64 << 10
        return dict(json.loads(data)) if data else None

    def expect(self, op: str) -> Dict[str, Any]:
        message = self.receive()
        assert message is not None and message["op"] == op, message
        return message

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        return not select.select([self.socket], [], [], seconds)[0]

    def close(self) -> None:
        self.theirs.close()
        self.socket.close()


class Output:
    """A log pipe and what came out of it."""

    def __init__(self) -> None:
        self.fd, self.theirs = os.pipe()
        os.set_blocking(self.fd, False)
        self.seen = b""

    def read(self) -> str:
        """Everything so far, without waiting."""
        if self.fd >= 0:
            try:
                while piece := os.read(self.fd, 1 << 16):
                    self.seen += piece
            except BlockingIOError:
                pass
        return self.seen.decode("utf-8", "replace")

    def wait(self, text: str) -> str:
        eventually(lambda: text in self.read(), f"{text!r} in the output, which is {self.seen!r}")
        return self.read()

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Frames:
    """Our end of a data or control socket."""

    def __init__(self, kind: str) -> None:
        self.socket, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.decoder = _wire.Decoder(kind)

    def send(self, type: int, call: int = 0, body: Any = None, parts: Sequence[bytes] = ()) -> None:
        text = b"" if body is None else json.dumps(body).encode()
        self.socket.sendall(_wire.encode(type, call, text, parts))

    def next(self) -> Optional[_wire.Frame]:
        """The next frame, None at the end."""
        while True:
            frame = self.decoder.next()
            if frame is not None:
                return frame
            try:
                count = self.socket.recv_into(self.decoder.buffer())
            except ConnectionError:
                return None
            if count == 0:
                self.decoder.end()
                return None
            self.decoder.received(count)

    def close(self) -> None:
        self.theirs.close()
        self.socket.close()


class Launcher:
    """A launcher process, our child. ``token`` is in the environment of everything below it."""

    def __init__(self, token: str, env: Optional[Dict[str, str]] = None) -> None:
        self.link = Link()
        self.stdout, self.stderr = Output(), Output()
        self.workers: List[Worker] = []
        self.status: Optional[int] = None
        null = os.open(os.devnull, os.O_RDWR)
        # First out of the way of the numbers that they shall get.
        sources = [null, self.stdout.theirs, self.stderr.theirs, self.link.theirs.fileno()]
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in sources]
        self.pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", _keeper.BOOT, "launcher", LIBRARY],
            {**os.environ, TOKEN_ENV: token, **(env or {})},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(high)],
            setpgroup=0,
        )
        for fd in [null, self.stdout.theirs, self.stderr.theirs, *high]:
            os.close(fd)
        self.link.theirs.close()

    def begin(
        self,
        start: str = "fork",
        preload: Sequence[str] = (),
        path: Sequence[str] = (),
        parent: Optional[int] = None,
        nice: Optional[int] = None,
    ) -> Dict[str, Any]:
        """Says init and returns ready, the modules that were preloaded under "preloaded"."""
        self.hello = self.link.expect("hello")
        self.link.send(
            "init",
            run_id="test",
            pool="p",
            generation=1,
            parent=os.getpid() if parent is None else parent,
            start=start,
            preload=list(preload),
            path=list(path),
            workdir="/",
            nice=nice,
        )
        preloaded = []
        while True:
            message = self.link.receive()
            assert message is not None, self.stderr.read()
            if message["op"] != "preloading":
                return {**message, "preloaded": preloaded}
            preloaded.append(message["module"])

    def spawn(self, **options: Any) -> Worker:
        """A worker behind its start gate."""
        worker = Worker(self, f"w-{len(self.workers)}", len(self.workers), **options)
        self.workers.append(worker)
        return worker

    def reap(self, worker: Worker) -> Dict[str, Any]:
        self.link.send("reap", keeper=worker.keeper)
        message = self.link.expect("reaped")
        assert message["keeper"] == worker.keeper
        return message

    def wait(self) -> int:
        """Its exit code, or minus the signal."""
        if self.status is None:
            _, status = eventually(lambda: _waited(self.pid), f"the end of launcher {self.pid}")
            self.status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        return self.status

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self.link.close()
        self.stdout.close()
        self.stderr.close()


def _waited(pid: int) -> Optional[Tuple[int, int]]:
    found, status = os.waitpid(pid, os.WNOHANG)
    return (found, status) if found else None


class Worker:
    """One worker and its keeper, with our ends of their links."""

    def __init__(
        self, launcher: Launcher, name: str, index: int, grace: float = 3.0, env: Optional[Dict[str, str]] = None, seen: bool = True
    ) -> None:
        self.launcher, self.name, self.index = launcher, name, index
        self.last_call = 0
        self.orders, self.data, self.control = Link(), Frames(_wire.DATA), Frames(_wire.CONTROL)
        self.stdout, self.stderr = Output(), Output()
        self.crash = os.memfd_create("crash")
        theirs = [
            self.orders.theirs.fileno(),
            self.data.theirs.fileno(),
            self.control.theirs.fileno(),
            self.crash,
            self.stdout.theirs,
            self.stderr.theirs,
        ]
        order = {"worker": name, "index": index, "grace_us": int(grace * 1e6), "env": env or {}, "nofile": 0, "core": 0}
        launcher.link.send("spawn", theirs, **order)
        self.inodes = {os.fstat(fd).st_ino for fd in theirs[:3]}
        for end in (self.orders, self.data, self.control):
            end.theirs.close()
        os.close(self.stdout.theirs)
        os.close(self.stderr.theirs)
        try:
            self.keeper = int(launcher.link.expect("forked")["keeper"])
            self.report = self.orders.receive()
        except BaseException:
            self.close()
            raise
        if self.report is not None and self.report["op"] == "worker":
            self.pid = int(self.report["pid"])
            if seen:
                self.orders.send("seen")

    # Start ---------------------------------------------------------------------------------------------------------

    def go(self, adapter: str = BEHAVIOURS, workdir: str = "/", payload_limit: int = 1 << 24, serialization: str = "strict") -> _wire.Frame:
        """Opens the start gate; the frame that ended the start: READY or FAILED. What it was doing is left in ``doing``."""
        body = {"adapter": adapter, "workdir": workdir, "payload_limit": payload_limit, "pool": "p", "worker": self.name}
        self.control.send(_wire.GO, 0, {**body, "index": self.index, "run_id": "test", "serialization": serialization})
        self.doing: List[str] = []
        while True:
            frame = self.control.next()
            assert frame is not None, self.stderr.read()
            if frame.type != _wire.DOING:
                return frame
            self.doing.append(json.loads(frame.json)["doing"])

    def ready(self, **options: Any) -> Worker:
        """go(), which must end in READY."""
        frame = self.go(**options)
        assert frame.type == _wire.READY, frame
        self.tools = {row["name"]: row for row in _strict(frame.json)["tools"]}
        return self

    # Calls ---------------------------------------------------------------------------------------------------------

    def request(self, tool: str, args: Any = None, timeout_us: Optional[int] = None) -> int:
        text, parts = _values.encode(args or {})
        self.last_call += 1
        head: Dict[str, Any] = {"tool": tool} if timeout_us is None else {"tool": tool, "timeout_us": timeout_us}
        raw = json.dumps(head)[:-1].encode() + b',"args":' + text + b"}"
        self.data.socket.sendall(_wire.encode(_wire.REQUEST, self.last_call, raw, parts))
        return self.last_call

    def answer(self) -> Any:
        """The value of the RESULT that comes next; ToolFailed for an ERROR, EOFError at the end."""
        frame = self.data.next()
        if frame is None:
            raise EOFError(self.stderr.read())
        assert frame.call == self.last_call, frame
        if frame.type == _wire.ERROR:
            raise ToolFailed(json.loads(frame.json))
        assert frame.type == _wire.RESULT, frame
        return _values.decode(frame.json, frame.parts)

    def call(self, tool: str, **args: Any) -> Any:
        self.request(tool, args)
        return self.answer()

    def chunk(self) -> Any:
        """The value of the CHUNK that comes next."""
        frame = self.data.next()
        assert frame is not None and frame.type == _wire.CHUNK and frame.call == self.last_call, frame
        return _values.decode(frame.json, frame.parts)

    def credit(self, chunks: int, size: int) -> None:
        self.control.send(_wire.CREDIT, self.last_call, {"chunks": chunks, "bytes": size})

    def ping(self, stamp: int = 7) -> Dict[str, Any]:
        """Sends PING and returns the body of its PONG."""
        self.control.send(_wire.PING, stamp)
        frame = self.control.next()
        assert frame is not None and frame.type == _wire.PONG and frame.call == stamp, frame
        return dict(json.loads(frame.json))

    # End -----------------------------------------------------------------------------------------------------------

    def stop(self, grace: float) -> None:
        self.orders.send("stop", grace_us=int(grace * 1e6))

    def exited(self) -> Tuple[Optional[int], Optional[int]]:
        """Exit code and signal of the worker, by its keeper."""
        report = self.orders.expect("exited")
        return report["code"], report["signal"]

    def empty(self) -> int:
        """Waits until its tree is proven empty, reaps the keeper, and returns how many had to be killed."""
        killed = int(self.orders.expect("empty")["killed"])
        assert self.orders.receive() is None
        assert self.launcher.reap(self)["status"] == 0
        return killed

    def ended(self) -> Tuple[Optional[int], Optional[int]]:
        """exited() and then empty()."""
        how = self.exited()
        self.empty()
        return how

    def stacks(self) -> str:
        """What is in the crash file."""
        return os.pread(self.crash, 1 << 20, 0).decode("utf-8", "replace")

    def close(self) -> None:
        for end in (self.orders, self.data, self.control, self.stdout, self.stderr):
            end.close()
        if self.crash >= 0:
            os.close(self.crash)
            self.crash = -1


def _strict(text: bytes) -> Dict[str, Any]:
    """JSON as Go's decoder takes it: Python's own would also accept NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON: {text!r}")

    return dict(json.loads(text, parse_constant=refuse))


# What the operating system says ------------------------------------------------------------------------------------


def alive(token: str) -> List[int]:
    """The processes with the token in their environment; zombies have none."""
    entry = f"{TOKEN_ENV}={token}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environ = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue
        if entry in environ.split(b"\0"):
            found.append(int(name))
    return found


def stat(pid: int) -> List[str]:
    """The fields of /proc/PID/stat from the state on (0: state, 1: parent, 2: group, 3: session); none when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def children(pid: int) -> List[int]:
    """The children of a process, zombies included."""
    return [int(name) for name in filter(str.isdigit, os.listdir("/proc")) if stat(int(name))[1:2] == [str(pid)]]


def descriptors(pid: int) -> Dict[int, str]:
    """The open descriptors of a process and what they are."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
    return found


def socket_inodes(pid: int) -> Set[int]:
    return {int(link[8:-1]) for link in descriptors(pid).values() if link.startswith("socket:[")}


def kill(pid: int, signum: int = signal.SIGKILL) -> None:
    """Signals a process that these tests started and nobody has reaped yet."""
    os.kill(pid, signum)
