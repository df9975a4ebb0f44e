"""The worker: loads one adapter and runs its tools, one call at a time, in the main thread."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from types import FrameType
from typing import Any, Dict, List, NoReturn, Optional

from pitboss import _adapter, _answers, _context, _errors, _teardown, _values, _wire
from pitboss._control import NUDGE_MS, Control, Credit
from pitboss._fork_guard import ForkGuard
from pitboss._tools import BadArguments, Tool, ready_body

DATA_FD, CONTROL_FD, CRASH_FD = 3, 4, 5
_exit = os._exit  # user code's is wrapped
_LIBRARY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run_worker(dump_signal: int, cancel_signal: int) -> NoReturn:
    """The whole life of a worker, in a process whose descriptors and limits are in place."""
    worker = _Worker(dump_signal, cancel_signal)
    try:
        worker.run()
    except _wire.ProtocolError as error:
        worker.fail(error)
    except BaseException as error:  # a fault of ours: never silent, never interpreter finalisation
        try:
            os.write(2, f"pitboss: worker failed: {_errors.traceback_of(error)}\n".encode("utf-8", "replace"))
        finally:
            _exit(70)
    _exit(70)


class _End(BaseException):
    """Leaves the loop when the end begins while nothing runs."""


class _Worker:
    def __init__(self, dump_signal: int, cancel_signal: int) -> None:
        self.pid = os.getpid()
        self.dump_signal = dump_signal
        self.cancel_signal = cancel_signal
        self.data = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=DATA_FD)
        self.control = Control(CONTROL_FD, self)
        self.main = threading.get_ident()
        self.limit = _wire.DEFAULT_PAYLOAD_LIMIT
        self.markers = False
        self.adapter: Any = None
        self.tools: Dict[str, Tool] = {}
        self.call_id = 0
        self.served = 0
        self.credit: Optional[Credit] = None
        self.context: Optional[_context.Context] = None
        self.ending = False
        self.cancelled = False  # Cancelled was raised in the present call, or must not be any more
        self.interruptible = False  # user code runs: an end raises Cancelled in it
        self.waiting = False  # the main thread waits for a request: an end leaves the loop

    def run(self) -> None:
        fds = (DATA_FD, CONTROL_FD, CRASH_FD, *self.control.signals)
        ForkGuard(self.dump_signal, CRASH_FD, fds, self.control.signals[1], self._in_fork).install()
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(self.cancel_signal, self._on_cancel)
        self.control.start()
        try:
            self._wait_for_go()
            if self._begin():
                self._loop()
        except (_End, _errors.Cancelled):  # also Cancelled that came while a failed start was being told
            pass
        self._finish()

    # Start ---------------------------------------------------------------------------------------------------------

    def _wait_for_go(self) -> None:
        self.waiting = True
        if not self.ending:
            self.control.started.get()
        self.waiting = False
        if self.ending or self.control.go is None:
            raise _End

    def _begin(self) -> bool:
        go = self.control.go
        assert go is not None
        self.limit = go["payload_limit"]
        self.markers = go["serialization"] == "markers"
        _context.set_worker(go["worker"], go["pool"], go["index"])
        place, class_name = _adapter.split(go["adapter"])
        reason = "ADAPTER_IMPORT"
        try:
            os.chdir(go["workdir"])
            self.control.tell(_wire.DOING, {"doing": f"importing {place}"})
            self._allow_interrupt()
            self.adapter, self.tools = _adapter.find(_adapter.load_module(place, _LIBRARY), class_name)
            if self.adapter is not None:
                reason = "SETUP_RAISED"
                self.control.tell(_wire.DOING, {"doing": f"running setup of {type(self.adapter).__name__}"})
                self.adapter.setup()
            self.interruptible = False
            ready = ready_body(self.tools, self.pid)
        except _errors.Cancelled:
            return False
        except BaseException as error:
            self.interruptible = False
            if isinstance(error, (_errors.AdapterError, _errors.ToolDefinitionError)):
                reason = "ADAPTER_INVALID"
            self.control.tell(_wire.FAILED, _errors.describe(error, reason))
            _teardown.flush()
            _exit(1)
        self.control.tell(_wire.READY, ready)
        return True

    # Calls ---------------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        decoder = _wire.Decoder(_wire.DATA, self.limit)
        receive = self.data.recv_into
        # A reader that sleeps in recv is also woken whenever the agent takes an answer out of the other end (unix_write_space,
        # seen on Linux 6.18), for nothing: two context switches per call. One that sleeps in poll is not.
        poller = select.poll()
        poller.register(DATA_FD, select.POLLIN)
        while not self.ending:
            frame = decoder.next()
            if frame is None:
                self.waiting = True
                if self.ending:
                    self.waiting = False  # from here on nothing may be raised
                    return
                try:
                    poller.poll()
                    count = receive(decoder.buffer())
                except OSError:
                    count = 0
                self.waiting = False
                if os.getpid() != self.pid:
                    _exit(70)
                if count == 0:
                    return
                decoder.received(count)
                continue
            self._serve(frame)
            del frame
            self.served += 1

    def _serve(self, frame: _wire.Frame) -> None:
        """Runs one call to its one answer."""
        if frame.type != _wire.REQUEST:
            raise _wire.ProtocolError("type", f"{_wire.KINDS[frame.type].name} from the agent")
        self.cancelled = False
        self.call_id = frame.call
        try:
            try:
                self._answer(frame)
            except _errors.Cancelled as error:
                self._cancelled(frame.call, error)
        except _errors.Cancelled as error:  # it came while an answer was being put together
            self._cancelled(frame.call, error)
        finally:
            self.call_id = 0
            self.credit = None

    def _answer(self, frame: _wire.Frame) -> None:
        try:
            name, arguments, timeout_us = _values.parse_request(frame.json, frame.parts)
        except _values.ValueFormatError as error:
            self._send_error(frame.call, error, "BAD_ARGUMENTS")
            return
        tool = self.tools.get(name)
        if tool is None:
            message = f"there is no tool {name!r}; there are: {', '.join(sorted(self.tools))}"
            self._send_error(frame.call, LookupError(message), "UNKNOWN_TOOL")
            return
        try:
            tool.check(arguments)
        except BadArguments as error:
            self._send_error(frame.call, error, "BAD_ARGUMENTS")
            return
        self.context = context = _context.Context(frame.call, timeout_us)
        _context.enter(context)
        try:
            self._run(tool, arguments, frame.call)
        finally:
            self.interruptible = False
            self.context = None
            _context.enter(None)

    def _run(self, tool: Tool, arguments: Dict[str, Any], call: int) -> None:
        try:
            self._allow_interrupt()
            if tool.stream:
                result = self._stream(tool, arguments, call)
            else:
                result = tool.function(**arguments)
                self.interruptible = False
            text, parts = _values.encode(result, "result", self.markers)
        except BaseException as error:
            self.interruptible = False
            if os.getpid() != self.pid:
                _exit(70)
            if isinstance(error, _errors.Cancelled):
                self._cancelled(call, error)
            else:
                self._send_error(call, error, "TOOL_RAISED")
            return
        self._send(_wire.RESULT, call, text, parts)

    def _cancelled(self, call: int, error: _errors.Cancelled) -> None:
        """A call that only ended because its worker ends has no answer: what ended the worker is its outcome."""
        if not self.ending:
            self._send_error(call, error, "TOOL_RAISED")

    def _stream(self, tool: Tool, arguments: Dict[str, Any], call: int) -> Any:
        credit = Credit()
        self.credit = credit
        if self.control.gone:  # it was lost before anybody could close this credit
            credit.close()
        generator = tool.function(**arguments)
        index = 0
        try:
            while True:
                try:
                    item = next(generator)
                except StopIteration as end:
                    return end.value
                text, parts = _values.encode(item, f"chunk {index}", self.markers)
                if not credit.take(_wire.payload_size(text, parts)):
                    self.cancelled = True
                    raise _errors.Cancelled("the agent is gone")
                self.interruptible = False  # a frame is sent whole
                self._send(_wire.CHUNK, call, text, parts)
                index += 1
                self._allow_interrupt()
        finally:
            generator.close()

    def _send(self, type: int, call: int, text: bytes, parts: List[bytes]) -> None:
        size = _wire.payload_size(text, parts) if parts else len(text)
        if size > self.limit or len(parts) > _wire.MAX_PARTS:
            if type == _wire.CHUNK:
                raise ValueError(f"a chunk of {size} bytes is over the payload limit of {self.limit}")
            problem = _wire.TooLargeError("result", size, self.limit)
            self._send_error(call, problem, "PAYLOAD_TOO_LARGE")
            return
        if os.getpid() != self.pid:
            _exit(70)
        try:
            if size < 65536:
                self.data.sendall(_wire.encode(type, call, text, parts))
                return
            self.data.sendall(_wire.encode_head(type, call, text, parts))
            for part in parts:
                self.data.sendall(part)
        except OSError:
            self.ending = True  # the agent is gone; the control thread says so too

    def _send_error(self, call: int, error: BaseException, reason: str) -> None:
        self._send(_wire.ERROR, call, _answers.error_body(error, reason, self.limit, self.markers), [])

    # Orders and signals --------------------------------------------------------------------------------------------

    def _on_term(self, signum: int, frame: Optional[FrameType]) -> None:
        self.ending = True
        self._interrupt()

    def _on_cancel(self, signum: int, frame: Optional[FrameType]) -> None:
        self._interrupt()

    def _allow_interrupt(self) -> None:
        """User code runs from here on. In this order no end is missed: one that came before is noticed here."""
        self.interruptible = True
        self._interrupt()

    def _interrupt(self) -> None:
        """Runs in the main thread, between two of its instructions."""
        if self.waiting:
            self.waiting = False  # once: a second signal may come before the first _End has been caught
            raise _End
        if self.interruptible and self.ending and not self.cancelled:
            self.cancelled = True
            if self.context is not None:
                self.context.cancelled = True
            raise _errors.Cancelled("the worker is ending")

    def agent_gone(self) -> None:
        """From the control thread: the graceful end begins. A print after this goes nowhere and raises nothing."""
        _teardown.silence()
        self.end_from_control()

    def drain(self) -> None:
        """From the control thread: what was sent is still read and served; then the end of the socket ends the loop."""
        self._wake()

    def end_from_control(self) -> None:
        """From the control thread, which then nudges the main thread."""
        self.ending = True
        credit = self.credit
        if credit is not None:
            credit.close()
        self._wake()

    def nudge(self) -> Optional[int]:
        """From the control thread: interrupts the main thread until it has noticed the end; milliseconds until the next time.

        Once may not be enough: a signal that comes just before a blocking call does not interrupt that call.
        """
        if not (self.ending and self.interruptible and not self.cancelled):
            return None  # it has noticed, or waits for what the end of the links ends
        signal.pthread_kill(self.main, self.cancel_signal)
        return NUDGE_MS

    def _wake(self) -> None:
        try:
            self.data.shutdown(socket.SHUT_RD)
        except OSError:
            pass

    def cancel(self, call: int) -> None:
        """From the control thread: tells the call; it ends itself when it looks."""
        context = self.context
        if context is not None and context.call_id == call:
            context.cancelled = True

    def fail(self, error: _wire.ProtocolError) -> NoReturn:
        """Ends the process from any thread: what comes on a link cannot be read any further."""
        try:
            os.write(2, f"pitboss: {error}\n".encode("utf-8", "replace"))
        finally:
            _exit(70)

    def _in_fork(self) -> None:
        """In a child that user code forked."""
        self.ending = True

    # End -----------------------------------------------------------------------------------------------------------

    def _finish(self) -> NoReturn:
        self.ending, self.waiting, self.interruptible = True, False, False
        if os.getpid() != self.pid:
            _exit(70)
        _teardown.leave(self.adapter)
