"""The control thread: answers pings, takes orders, and notices that the agent is gone.

It takes no lock that user code could hold, and does not print, import or log: it must answer while user code does anything.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
from queue import SimpleQueue
from typing import Any, Dict, List, Optional, Tuple

from pitboss import _wire

STREAM_CHUNKS = 16
STREAM_BYTES = 1 << 20
# Between two signals to a main thread that has not noticed the end, in milliseconds.
NUDGE_MS = 20
GO_FIELDS = {
    "adapter": str,
    "workdir": str,
    "payload_limit": int,
    "pool": str,
    "worker": str,
    "index": int,
    "serialization": str,
}


class Credit:
    """How much of a stream may still be sent: counted by the thread that streams alone.

    The control thread only puts grants into a queue whose operations are atomic. A lock that both take could stay locked for
    ever: the exception of a signal handler can come between its acquisition and the block that releases it.
    """

    def __init__(self) -> None:
        self._granted: SimpleQueue[Tuple[int, int]] = SimpleQueue()
        self._chunks = STREAM_CHUNKS
        self._bytes = STREAM_BYTES
        self._closed = False

    def add(self, chunks: int, size: int) -> None:
        """The agent has consumed this much."""
        self._granted.put((chunks, size))

    def close(self) -> None:
        """No credit will ever come again."""
        self._closed = True
        self._granted.put((0, 0))  # wakes whoever waits

    def take(self, size: int) -> bool:
        """Waits until a chunk may be sent, and takes its share; False if none can be sent any more.

        A signal handler's exception interrupts the wait.
        """
        while not self._closed and (self._chunks <= 0 or self._bytes <= 0):
            chunks, more = self._granted.get()
            self._chunks += chunks
            self._bytes += more
        if self._closed:
            return False
        self._chunks -= 1
        self._bytes -= size
        return True


class Control:
    """The control socket and its thread."""

    def __init__(self, fd: int, worker: Any) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd)
        self.worker = worker
        self.go: Optional[Dict[str, Any]] = None
        self.gone = False
        self.progress = 0
        self.started: SimpleQueue[None] = SimpleQueue()  # one item: GO came, or it never will
        self._write = threading.Lock()
        # A signal that comes just before a blocking call does not interrupt it, and its handler in Python would wait for that
        # call to end. What the handler in C writes here is seen by the control thread whatever the main thread does, and also
        # when user code has taken the signal.
        self.signals = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.signals[1], warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(self.socket, select.POLLIN)
        self._poll.register(self.signals[0], select.POLLIN)
        self.thread = threading.Thread(target=self._run, name="pitboss-control", daemon=True)

    def start(self) -> None:
        """The thread inherits a full signal mask, so TERM and Cancelled always interrupt the main thread."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def send(self, frame: bytes) -> None:
        """Sends one frame; what the agent can no longer read is dropped."""
        try:
            with self._write:
                self.socket.sendall(frame)
        except OSError:
            pass

    def tell(self, type: int, body: Dict[str, Any]) -> None:
        """Sends one frame with a JSON body."""
        self.send(_wire.encode(type, 0, json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")))

    def _run(self) -> None:
        decoder = _wire.Decoder(_wire.CONTROL)
        tid = threading.get_native_id()
        wait: Optional[int] = None
        while True:
            term = False
            for fd, _ in self._poll.poll(wait):
                if fd == self.signals[0]:
                    if signal.SIGTERM in os.read(fd, 4096):
                        self.worker.end_from_control()
                        term = True
                elif not self._receive(decoder, tid):
                    self._poll.unregister(self.socket)
                    self.gone = True
                    self.worker.agent_gone()
            if self.worker.ending:
                self.started.put(None)
            # TERM itself has interrupted the main thread; a handler of user code for it is not cut short at once.
            wait = NUDGE_MS if term else self.worker.nudge()

    def _receive(self, decoder: _wire.Decoder, tid: int) -> bool:
        """Handles what has come; False at the end."""
        try:
            count = self.socket.recv_into(decoder.buffer())
            if count == 0:
                return False
            decoder.received(count)
            frame = decoder.next()
            while frame is not None:
                self._handle(frame, tid)
                frame = decoder.next()
        except OSError:
            return False
        except _wire.ProtocolError as error:
            self.worker.fail(error)
        return True

    def _handle(self, frame: _wire.Frame, tid: int) -> None:
        if frame.type == _wire.PING:
            self.progress += 1
            call = self.worker.call_id
            body = b'{"calls":[%s],"progress":%d,"control_tid":%d}' % (b"%d" % call if call else b"", self.worker.served, tid)
            self.send(_wire.encode(_wire.PONG, frame.call, body))
        elif frame.type == _wire.CREDIT:
            chunks, size = _fields(frame, {"chunks": int, "bytes": int})
            credit = self.worker.credit
            if credit is not None and self.worker.call_id == frame.call:
                credit.add(chunks, size)
        elif frame.type == _wire.CANCEL:
            self.worker.cancel(frame.call)
        elif frame.type == _wire.DRAIN:
            self.worker.drain()
        elif frame.type == _wire.GO:
            self.go = dict(zip(GO_FIELDS, _fields(frame, GO_FIELDS)))
            self.started.put(None)
        else:
            raise _wire.ProtocolError("type", f"{_wire.KINDS[frame.type].name} from the agent")


def _fields(frame: _wire.Frame, types: Dict[str, type]) -> List[Any]:
    """The fields of a frame's JSON object, in the order of ``types``. ProtocolError if one is missing or of another type."""
    name = _wire.KINDS[frame.type].name
    try:
        body = json.loads(frame.json)
        found = [body[field] for field in types]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _wire.ProtocolError("json", f"{name} cannot be read: {type(error).__name__}: {error}") from None
    for (field, wanted), value in zip(types.items(), found):
        if type(value) is not wanted:
            raise _wire.ProtocolError("json", f"{name} with {field} of type {type(value).__name__}")
    return found
