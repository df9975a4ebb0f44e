"""Values, exact both ways: one JSON text and raw parts.

None, bool, int of any size, float with NaN and infinities, str, bytes, list and dict with str keys. A tuple is sent as a list;
bytearray and memoryview are sent as bytes. Other types are sent as docs/values.md lists, by their own methods (_conversions), and
those that are not listed are refused, subclasses of int or str too: they would arrive as something else than what was sent. With
markers, an object that names the type stands for what would be refused.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Dict, List, Sequence, Tuple, Union

from pitboss import _conversions
from pitboss._errors import show, type_name

# An int of more than 4 000 decimal digits travels as {"$int": hex}: Python refuses to parse longer decimals (sys.set_int_max_str_digits).
_BIG = 10**4000
_HEX = re.compile(r"-?0x[0-9a-f]+")
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_PLAIN_TYPES = frozenset((str, bool, type(None)))

_PathStep = Union[str, int]


# Characters of a marker's repr.
_MARKER_REPR = 200


class _MarkedParts(List[bytes]):
    """The parts of a value in which markers stand for what cannot be sent. A type of list, so that plain values pay nothing."""


class _Unsendable(Exception):
    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.path: List[_PathStep] = []  # innermost first


def _where(root: str, path: Sequence[_PathStep]) -> str:
    return root + "".join(f"[{json.dumps(step) if isinstance(step, str) else step}]" for step in reversed(path))


def _refuse(value: Any) -> str:
    cls = type(value)
    name = cls.__qualname__
    for base in (bool, int, float, str, bytes, bytearray, dict, list, tuple):
        if isinstance(value, base):
            return f"{name} is a subclass of {base.__name__} and would arrive as a plain one; send {base.__name__}(...) of it"
    if isinstance(value, (set, frozenset)):
        return f"{name} is not a value pitboss can send, because it has no order; send sorted(...) or list(...) of it"
    return f"{name} is not a value pitboss can send; send None, bool, int, float, str, bytes, list or dict"


def _unsendable(value: Any, problem: str, parts: List[bytes]) -> Dict[str, str]:
    """The marker of a value that cannot be sent; without markers, the error."""
    if type(parts) is not _MarkedParts:
        raise _Unsendable(problem)
    text = show(value, _MARKER_REPR + 1)
    if len(text) > _MARKER_REPR:
        text = text[:_MARKER_REPR] + "…"
    marker = {"$type": type_name(type(value)), "repr": text}
    return {key: item.encode("utf-8", "backslashreplace").decode() for key, item in marker.items()}


def _convert(value: Any, parts: List[bytes]) -> Any:
    try:
        known, converted = _conversions.convert(value)
    except _conversions.NotExact as bad:
        return _unsendable(value, f"{type(value).__qualname__} cannot be sent: {bad}", parts)
    return _plain(converted, parts) if known else _unsendable(value, _refuse(value), parts)


def _drop_parts(tree: Any, parts: List[bytes]) -> bool:
    """Takes the parts that a plain tree refers to out of the end of ``parts``; whether there were any."""
    if type(tree) is dict and type(tree.get("$part")) is int and len(tree) == 1:
        del parts[tree["$part"] :]
        return True
    if type(tree) is dict or type(tree) is list:
        return any(_drop_parts(item, parts) for item in (tree.values() if type(tree) is dict else tree))
    return False


def _plain_list(items: Sequence[Any], parts: List[bytes]) -> List[Any]:
    out: List[Any] = []
    for item in items:
        if type(item) not in _PLAIN_TYPES:
            try:
                item = _plain(item, parts)
            except _Unsendable as bad:
                bad.path.append(len(out))
                raise
        out.append(item)
    return out


def _plain_dict(mapping: Dict[Any, Any], parts: List[bytes]) -> Dict[str, Any]:
    out: Dict[str, Any] = {}
    for key, item in mapping.items():
        if type(key) is not str:
            _drop_parts(out, parts)
            return _unsendable(mapping, f"the key {show(key)} is {type(key).__qualname__}, and keys must be str", parts)
        if type(item) not in _PLAIN_TYPES:
            try:
                item = _plain(item, parts)
            except _Unsendable as bad:
                bad.path.append(key)
                raise
        out[key] = item
    if len(out) == 1 and next(iter(out)).startswith("$"):
        return {"$dict": out}
    return out


def _plain(value: Any, parts: List[bytes]) -> Any:
    cls = type(value)
    if cls in _PLAIN_TYPES:
        return value
    if cls is int:
        return value if -_BIG < value < _BIG else {"$int": hex(value)}
    if cls is float:
        if math.isfinite(value):
            return value
        return {"$float": "nan" if value != value else "inf" if value > 0 else "-inf"}
    if cls is dict:
        return _plain_dict(value, parts)
    if cls is list or cls is tuple:
        return _plain_list(value, parts)
    if cls is bytes or cls is bytearray or cls is memoryview:
        parts.append(value if cls is bytes else bytes(value) if cls is bytearray else value.tobytes())
        return {"$part": len(parts) - 1}
    return _convert(value, parts)


_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def _find_surrogate(value: Any, path: List[_PathStep]) -> bool:
    """Leaves in ``path`` (outermost first) where in a plain tree the str is that UTF-8 cannot carry."""
    if isinstance(value, str):
        return any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        if len(value) == 1 and "$dict" in value:
            return _find_surrogate(value["$dict"], path)
        for key, item in value.items():
            path.append(key)
            if _find_surrogate(key, []) or _find_surrogate(item, path):
                return True
            path.pop()
    elif isinstance(value, list):
        for index, item in enumerate(value):
            path.append(index)
            if _find_surrogate(item, path):
                return True
            path.pop()
    return False


def encode(value: Any, root: str = "result", markers: bool = False) -> Tuple[bytes, List[bytes]]:
    """The JSON text in UTF-8 and the parts.

    TypeError names the path to what cannot be sent, ``root`` being its first step; with markers only what is nested too deeply
    or no valid Unicode is an error.
    """
    parts: List[bytes] = _MarkedParts() if markers else []
    try:
        tree = value if type(value) in _PLAIN_TYPES else _plain(value, parts)
        text = _dumps(tree)
    except _Unsendable as bad:
        raise TypeError(f"{_where(root, bad.path)}: {bad.problem}") from None
    except RecursionError:
        raise TypeError(f"{root}: nested too deeply, or contains itself") from None
    try:
        return text.encode("utf-8"), parts
    except UnicodeEncodeError:
        path: List[_PathStep] = []
        _find_surrogate(tree, path)
        where = _where(root, path[::-1])
        raise TypeError(f"{where}: str with a lone surrogate, which is not valid Unicode; send bytes") from None


class ValueFormatError(ValueError):
    """A JSON text or a reference in it that is not a value. The text says where."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)
_loads = _decoder.decode
# The same without a search for white space around the text, which costs as much as a short text.
_raw = _decoder.raw_decode


def parse(text: bytes) -> Any:
    """The JSON tree of a text, references not yet resolved."""
    try:
        decoded = str(text, "utf-8")
        try:
            value, end = _raw(decoded)
        except json.JSONDecodeError:
            end = -1
        return value if end == len(decoded) else _loads(decoded)
    except UnicodeDecodeError as error:
        raise ValueFormatError(f"the JSON text is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise ValueFormatError("the JSON text is nested too deeply") from None
    except ValueError as error:
        raise ValueFormatError(f"bad JSON: {error}") from None


_DOLLAR, _BACKSLASH = ord("$"), ord("\\")


def may_have_references(text: bytes) -> bool:
    """Whether a JSON text can hold an object whose only key begins with ``$``: quick, and never wrongly False."""
    # One byte is found ten times quicker than two, and most texts have neither.
    return (_DOLLAR in text and b'"$' in text) or (_BACKSLASH in text and b"\\u0024" in text)


class _Resolver:
    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = parts
        self.used = 0

    def value(self, tree: Any) -> Any:
        if type(tree) is dict:
            if len(tree) == 1:
                (key,) = tree
                if key.startswith("$"):
                    return self.reference(key, tree[key])
            return {key: self.value(item) for key, item in tree.items()}
        if type(tree) is list:
            return [self.value(item) for item in tree]
        return tree

    def reference(self, key: str, content: Any) -> Any:
        if key == "$part":
            if type(content) is not int or content != self.used or content >= len(self.parts):
                raise ValueFormatError(f"part {content!r:.40} where part {self.used} of {len(self.parts)} was expected")
            self.used += 1
            return self.parts[content]
        if key == "$float" and type(content) is str and content in _FLOATS:
            return _FLOATS[content]
        if key == "$int" and type(content) is str and _HEX.fullmatch(content):
            return int(content, 16)
        if key == "$dict" and type(content) is dict and len(content) == 1:
            ((inner, item),) = content.items()
            if inner.startswith("$"):
                return {inner: self.value(item)}
        raise ValueFormatError(f'an object with the only key {key!r:.40} and this content is not a value; wrap it in "$dict"')


def resolve(tree: Any, parts: Sequence[bytes]) -> Any:
    """The value of a parsed tree; every part must be referenced exactly once, in order."""
    resolver = _Resolver(parts)
    try:
        value = resolver.value(tree)
    except RecursionError:
        raise ValueFormatError("the JSON text is nested too deeply") from None
    if resolver.used != len(parts):
        raise ValueFormatError(f"{len(parts)} parts came, and {resolver.used} are referenced")
    return value


def parse_request(text: bytes, parts: Sequence[bytes]) -> Tuple[str, Dict[str, Any], Any]:
    """The tool, the arguments and ``timeout_us`` (None for no limit) of a request; raises ValueFormatError."""
    request = parse(text)
    if type(request) is not dict or "tool" not in request or "args" not in request:
        raise ValueFormatError("a request must be an object with a tool and args")
    name, arguments = request["tool"], request["args"]
    if type(name) is not str:
        raise ValueFormatError("the tool must be a string")
    if parts or may_have_references(text):
        arguments = resolve(arguments, parts)
    if type(arguments) is not dict:
        raise ValueFormatError("the arguments must be an object")
    return name, arguments, request.get("timeout_us")


def decode(text: bytes, parts: Sequence[bytes] = ()) -> Any:
    """The value of a JSON text and its parts; ValueFormatError if it is none."""
    tree = parse(text)
    if parts or may_have_references(text):
        return resolve(tree, parts)
    return tree
