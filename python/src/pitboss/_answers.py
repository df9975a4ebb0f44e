"""The body of an ERROR frame: how a call failed, as PROTOCOL.md §1 has it."""

from __future__ import annotations

import json
from typing import Any, Dict

from pitboss import _errors, _values

# These are about the request or the result, not about a place in the tool's code.
_NO_TRACEBACK = ("BAD_ARGUMENTS", "UNKNOWN_TOOL", "PAYLOAD_TOO_LARGE")


def error_body(error: BaseException, reason: str, payload_limit: int, markers: bool) -> bytes:
    """The JSON text for a call that ended with this error, with a ToolError's own reason, retryable and data beside the reason."""
    body = _errors.describe(error, reason)
    if reason == "PAYLOAD_TOO_LARGE":
        body["message"] = f"the result of {getattr(error, 'size', 0)} bytes is over the payload limit of {payload_limit}"
    if reason in _NO_TRACEBACK:
        body["traceback"] = ""
    if isinstance(error, _errors.ToolError):
        _add_own(body, error, markers)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _add_own(body: Dict[str, Any], error: _errors.ToolError, markers: bool) -> None:
    if _errors.is_reason(error.reason) and error.reason != body["reason"]:  # an attribute that anybody can set
        body["tool_reason"] = error.reason
    if error.retryable is not None:
        body["retryable"] = bool(error.retryable)
    if error.data is None:
        return
    try:
        text, parts = _values.encode(error.data, "data", markers)
        if not parts:
            body["data"] = json.loads(text)
    except TypeError as bad:
        body["message"] += f" (its data cannot be sent: {bad})"
