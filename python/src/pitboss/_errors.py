"""What a tool, a library function or an adapter can raise, and how an exception is told to the agent."""

from __future__ import annotations

import os
import re
import traceback
from typing import Any, Dict, Optional

# Bytes of UTF-8; the end of a traceback says most, so it is cut from the front.
MAX_TRACEBACK = 64 << 10
MAX_MESSAGE = 16 << 10

_REASON = re.compile(r"[A-Z][A-Z0-9_]{1,62}")
_OWN_DIRECTORY = os.path.dirname(os.path.abspath(__file__)) + os.sep


def is_reason(reason: Any) -> bool:
    """Whether a tool may call its failure so."""
    return isinstance(reason, str) and _REASON.fullmatch(reason) is not None


class ToolError(Exception):
    """A failure that a tool reports on purpose.

    ``reason`` is the tool's own name for it, for programs (``UPPER_SNAKE_CASE``, at most 63 characters; default none:
    ``TOOL_RAISED``). Callers get it as ``tool_reason`` beside the reason TOOL_RAISED, so no name of a tool can be taken for one
    of the agent. ``data`` is any value without bytes, at most 4 KiB as JSON (more is left out, and the message says so), and
    ``retryable`` whether the same call may succeed later (None: not said). Raises ValueError for a reason of another form.
    """

    def __init__(self, message: str = "", *, reason: str = "TOOL_RAISED", data: Any = None, retryable: Optional[bool] = None) -> None:
        if not is_reason(reason):
            raise ValueError(f"ToolError reason {reason!r} is not UPPER_SNAKE_CASE of 2 to 63 characters")
        super().__init__(message)
        self.reason = reason
        self.data = data
        self.retryable = retryable


class Cancelled(BaseException):
    """Raised once in the thread that runs a call when that call must end now.

    It is a BaseException so that ``except Exception`` does not swallow it. Clean up and let it pass.
    """


class ToolDefinitionError(TypeError):
    """A function that cannot be a tool: the text says why and what to do."""


class AdapterError(Exception):
    """An adapter that cannot be used. ``reason`` is one of PROTOCOL.md's FAILED reasons."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def type_name(cls: type) -> str:
    """``ValueError``, ``json.decoder.JSONDecodeError``: with its module unless that is builtins."""
    module = str(cls.__module__)  # None in some made by type()
    if module == "builtins":
        return cls.__qualname__
    if module.startswith("pitboss._"):
        module = "pitboss"
    return f"{module}.{cls.__qualname__}"


def cut_front(text: str, limit: int) -> str:
    """The last ``limit`` bytes of text in UTF-8, with a mark where it was cut. Lone surrogates become ``?``."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return raw.decode("utf-8")
    mark = "…\n"
    return mark + raw[len(raw) - limit + len(mark.encode()) :].decode("utf-8", "ignore")


def show(value: Any, limit: int = 80) -> str:
    """``repr(value)`` cut to ``limit``. Python refuses it for ints of many digits, and where lists are nested too deeply."""
    try:
        return repr(value)[:limit]
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def message_of(error: BaseException) -> str:
    """``str(error)``, which user code may have broken."""
    try:
        return cut_front(str(error), MAX_MESSAGE)
    except Exception as broken:
        return f"<str() of the exception raised {type_name(type(broken))}>"


def _is_own(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith((_OWN_DIRECTORY, "<frozen importlib"))


def _strip(shown: Optional[traceback.TracebackException], seen: set[int]) -> None:
    """Removes the frames of pitboss and of the import machinery, also from causes and groups."""
    if shown is None or id(shown) in seen:
        return
    seen.add(id(shown))
    user = [frame for frame in shown.stack if not _is_own(frame)]
    shown.stack = traceback.StackSummary.from_list(user)
    _strip(shown.__cause__, seen)
    _strip(shown.__context__, seen)
    for member in getattr(shown, "exceptions", None) or ():
        _strip(member, seen)


def traceback_of(error: BaseException) -> str:
    """The traceback as Python prints it, the user's frames only, at most MAX_TRACEBACK bytes."""
    try:
        shown = traceback.TracebackException(type(error), error, error.__traceback__)
        _strip(shown, set())
        return cut_front("".join(shown.format()), MAX_TRACEBACK)
    except Exception as broken:
        return f"<the traceback cannot be shown: {type_name(type(broken))}>"


def describe(error: BaseException, reason: str) -> Dict[str, Any]:
    """The fields that ERROR and FAILED have in common."""
    return {
        "reason": reason,
        "type": type_name(type(error)),
        "message": message_of(error),
        "traceback": traceback_of(error),
    }
