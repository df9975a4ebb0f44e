"""The @tool decorator: a plain function, its signature checked on call, its types and docstring as its schema."""

from __future__ import annotations

import inspect
import json
import sys
import typing
from typing import Any, Callable, Dict, List, Literal, Mapping, NamedTuple, Optional, Tuple, TypeVar, Union, overload

from pitboss._errors import AdapterError, ToolDefinitionError, show
from pitboss._values import encode
from pitboss._wire import MAX_CONTROL_JSON

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__pitboss_tool__"
_UNION_TYPES: Tuple[Any, ...] = (Union,)
if hasattr(__import__("types"), "UnionType"):  # int | None, Python 3.10
    _UNION_TYPES = (Union, __import__("types").UnionType)


class BadArguments(TypeError):
    """Arguments that do not fit the signature; the text names the parameter."""


@overload
def tool(function: F) -> F: ...


@overload
def tool() -> Callable[[F], F]: ...


def tool(function: Any = None) -> Any:
    """Marks a function, generator function or method as a tool. The function itself stays as it is. Parentheses may follow the name."""
    if function is None:
        return tool
    if not callable(function) or not hasattr(function, "__name__"):
        raise ToolDefinitionError(f"@pitboss.tool goes on a function, not on {type(function).__name__}")
    name = function.__name__
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ToolDefinitionError(f"tool {name!r} is async, which is not available in this version; make it a plain function")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ToolDefinitionError(f"tool {name!r} has *{parameter.name}: arguments come by name; take a list instead")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ToolDefinitionError(f"tool {name!r} has the positional-only parameter {parameter.name!r}: arguments come by name")
    setattr(function, _MARK, True)
    return function


def is_tool(thing: Any) -> bool:
    """Whether the decorator was here."""
    return getattr(thing, _MARK, False) is True


class _Parameter(NamedTuple):
    name: str
    required: bool
    annotation: Any  # inspect.Parameter.empty when there is none
    shown: str
    default: Any


class Tool:
    """One callable of an adapter, ready to be called with arguments by name."""

    def __init__(self, function: Callable[..., Any], name: Optional[str] = None) -> None:
        self.name = name or function.__name__
        self.function = function
        self.stream = inspect.isgeneratorfunction(function)
        self.doc = inspect.getdoc(function) or ""
        self.open = False  # takes **kwargs
        self.parameters: Dict[str, _Parameter] = {}
        hints = _hints(function)
        for p in inspect.signature(function).parameters.values():
            if p.kind is p.VAR_KEYWORD:
                self.open = True
                continue
            annotation = hints.get(p.name, p.annotation)
            self.parameters[p.name] = _Parameter(p.name, p.default is p.empty, annotation, _shown(annotation), p.default)
        self._required = [p.name for p in self.parameters.values() if p.required]
        self._checked = [(p.name, p.annotation, p) for p in self.parameters.values() if _checkable(p.annotation)]
        self._known = self.parameters.keys()

    def check(self, arguments: Dict[str, Any]) -> None:
        """Raises BadArguments unless the arguments fit."""
        if not (self.open or arguments.keys() <= self._known):
            name = next(name for name in arguments if name not in self._known)
            raise BadArguments(f"tool {self.name!r} has no parameter {name!r}; it takes {self._names()}{self._near(name)}")
        for name in self._required:
            if name not in arguments:
                shown = self.parameters[name].shown
                raise BadArguments(f"tool {self.name!r} needs the parameter {name!r} ({shown}); it takes {self._names()}")
        for name, annotation, parameter in self._checked:
            if name in arguments:
                value = arguments[name]
                if type(value) is annotation:
                    continue
                # A default may be None under a plain annotation, and is then accepted when it is passed.
                if not _fits(value, parameter.annotation) and not (value is None and parameter.default is None):
                    raise BadArguments(
                        f"tool {self.name!r}: parameter {name!r} must be {parameter.shown}, not {type(value).__name__} ({show(value)})"
                    )

    def _names(self) -> str:
        return ", ".join(self.parameters) or "no parameters"

    def _near(self, name: str) -> str:
        import difflib  # only on this path: a worker need not pay for it

        near = difflib.get_close_matches(name, self.parameters, n=1, cutoff=0.6)
        return f"; did you mean {near[0]!r}?" if near else ""

    def row(self) -> Dict[str, Any]:
        """The tool as READY describes it."""
        rows: List[Dict[str, Any]] = []
        for p in self.parameters.values():
            row: Dict[str, Any] = {"name": p.name, "required": p.required, "type": p.shown}
            if not p.required:
                row.update(_default(p.default))
            rows.append(row)
        properties = {p.name: _schema(p.annotation) for p in self.parameters.values()}
        schema = {"type": "object", "properties": properties, "required": self._required, "additionalProperties": self.open}
        return {"name": self.name, "doc": self.doc, "stream": self.stream, "params": rows, "schema": schema}


def _hints(function: Callable[..., Any]) -> Dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # a name that only a type checker can resolve: show that one, do not check it, but do check the others
        pass
    inner = inspect.unwrap(getattr(function, "__func__", function))
    hints: Dict[str, Any] = {}
    for name, annotation in getattr(inner, "__annotations__", {}).items():
        try:
            alone = type("alone", (), {"__annotations__": {name: annotation}})
            hints.update(typing.get_type_hints(alone, getattr(inner, "__globals__", {})))
        except Exception:
            continue
    return hints


def _shown(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return "any"
    if isinstance(annotation, str):
        return annotation
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("NoneType", "None")


_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object", type(None): "null"}


def _schema(annotation: Any) -> Dict[str, Any]:
    if annotation is bytes:
        return {"type": "string", "contentEncoding": "binary"}
    if isinstance(annotation, type) and annotation in _JSON_TYPES:
        return {"type": _JSON_TYPES[annotation]}
    if annotation is None:
        return {"type": "null"}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNION_TYPES:
        return {"anyOf": [_schema(a) for a in arguments]}
    if origin is Literal:
        # What JSON cannot name (bytes, members of an enum) would make the list say less than the type.
        return {"enum": list(arguments)} if all(a is None or type(a) in (str, int, bool) for a in arguments) else {}
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0])} if arguments else {"type": "array"}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])} if len(arguments) == 2 else {"type": "object"}
    return {}


def _checkable(annotation: Any) -> bool:
    return annotation in (str, int, float, bool, bytes, list, dict, None, type(None)) or (
        typing.get_origin(annotation) in (*_UNION_TYPES, Literal, list, dict)
    )


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value that came over the wire is of the type. What is no built-in type is not checked."""
    if annotation is float:
        return type(value) in (float, int)
    if annotation in (str, int, bool, bytes, list, dict):
        return type(value) is annotation
    if annotation is None or annotation is type(None):
        return value is None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNION_TYPES:
        return any(_fits(value, a) for a in arguments)
    if origin is Literal:
        return any(type(value) is type(a) and value == a for a in arguments)
    if origin is list:
        return type(value) is list and (not arguments or all(_fits(item, arguments[0]) for item in value))
    if origin is dict:
        return type(value) is dict and (len(arguments) != 2 or all(_fits(item, arguments[1]) for item in value.values()))
    return True


def _default(value: Any) -> Dict[str, Any]:
    """The default as a value of the wire; nothing if it cannot be sent as one."""
    try:
        text, parts = encode(value)
    except TypeError:
        return {}
    return {} if parts else {"default": json.loads(text)}


def ready_body(tools: Mapping[str, Tool], pid: int) -> Dict[str, Any]:
    """The body of READY; AdapterError if it does not fit a frame of the control socket."""
    body = {"tools": [tool.row() for tool in tools.values()], "python": "%d.%d.%d" % sys.version_info[:3], "pid": pid}
    size = len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
    if size > MAX_CONTROL_JSON:
        raise AdapterError(
            "ADAPTER_INVALID",
            f"cannot describe {len(tools)} tools: {size} bytes are over the limit of {MAX_CONTROL_JSON}; shorten docstrings and defaults",
        )
    return body
