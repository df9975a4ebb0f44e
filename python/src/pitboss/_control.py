"""The control thread: answers pings, takes orders, and notices that the agent is gone.

It takes no lock that user code could hold, and does not print, import or log: it must answer while user code does anything.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from typing import Any, Dict, Optional

from pitboss import _wire

STREAM_CHUNKS = 16
STREAM_BYTES = 1 << 20


class Credit:
    """How much of a stream may still be sent. Waited for by the thread that streams, added to by the control thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._chunks = STREAM_CHUNKS
        self._bytes = STREAM_BYTES
        self._closed = False

    def add(self, chunks: int, size: int) -> None:
        """The agent has consumed this much."""
        with self._changed:
            self._chunks += chunks
            self._bytes += size
            self._changed.notify_all()

    def close(self) -> None:
        """No credit will ever come again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, size: int) -> bool:
        """Waits until a chunk may be sent, and takes its share; False if none can be sent any more.

        A signal handler's exception interrupts the wait.
        """
        with self._changed:
            while self._chunks <= 0 or self._bytes <= 0:
                if self._closed:
                    return False
                # Python runs signal handlers in the main thread only between waits on some platforms; a bound costs nothing.
                self._changed.wait(0.5)
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
        self.started = threading.Semaphore(0)
        self._write = threading.Lock()
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
        tid = threading.get_native_id()
        decoder = _wire.Decoder(_wire.CONTROL)
        try:
            while True:
                count = self.socket.recv_into(decoder.buffer())
                if count == 0:
                    break
                decoder.received(count)
                frame = decoder.next()
                while frame is not None:
                    self._handle(frame, tid)
                    frame = decoder.next()
        except OSError:
            pass
        except _wire.ProtocolError as error:
            os.write(2, f"pitboss: {error}\n".encode())
            self.worker.exit_now(70)
        self.gone = True
        self.started.release()
        self.worker.agent_gone()

    def _handle(self, frame: _wire.Frame, tid: int) -> None:
        if frame.type == _wire.PING:
            self.progress += 1
            call = self.worker.call_id
            body = b'{"calls":[%s],"progress":%d,"control_tid":%d}' % (b"%d" % call if call else b"", self.worker.served, tid)
            self.send(_wire.encode(_wire.PONG, frame.call, body))
        elif frame.type == _wire.CREDIT:
            body_json = json.loads(frame.json)
            credit = self.worker.credit
            if credit is not None and self.worker.call_id == frame.call:
                credit.add(int(body_json["chunks"]), int(body_json["bytes"]))
        elif frame.type == _wire.CANCEL:
            self.worker.cancel(frame.call)
        elif frame.type == _wire.DRAIN:
            self.worker.drain()
        elif frame.type == _wire.GO:
            self.go = json.loads(frame.json)
            self.started.release()
        else:
            raise _wire.ProtocolError("type", f"{_wire.KINDS[frame.type].name} from the agent")
