"""Conversions: what a value that the wire cannot say is sent as, by its type's own method (docs/values.md has the table).

Types are recognised by the names of their classes, so that nothing is imported for them: a worker that never saw numpy does not
pay for it. A subclass is converted as the nearest base that is listed.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from pitboss._errors import type_name


class NotExact(Exception):
    """A value of a known type that its conversion would change; the text says what to send instead."""


def _isoformat(value: Any) -> Any:
    return value.isoformat()


def _nothing(value: Any) -> Any:
    return None


def _seconds(units: int, per_second: int) -> float:
    """The double nearest to a duration, which must lead back to the same number of units."""
    seconds = units / per_second
    top, bottom = seconds.as_integer_ratio()
    if (2 * top * per_second + bottom) // (2 * bottom) != units:
        raise NotExact("a duration that a float of seconds cannot hold exactly; send a whole number of a unit of your choice")
    return seconds


def _timedelta(value: Any) -> Any:
    return _seconds((value.days * 86_400 + value.seconds) * 10**6 + value.microseconds, 10**6)


def _pandas_timedelta(value: Any) -> Any:
    return _seconds(int(value.value), 10**9)


def _numpy_scalar(value: Any) -> Any:
    kind = value.dtype.kind
    if kind == "M":
        text = str(value)  # item() would be an int in nanoseconds
        return None if text == "NaT" else text
    if kind == "m":
        return _numpy_duration(value)
    plain = value.item() if kind in "biufSU" else value
    if type(plain) not in (bool, int, float, bytes, str):
        raise NotExact("no built-in value holds it; convert it in the tool")
    return plain


def _numpy_duration(value: Any) -> Any:
    plain = value.item()
    if str(value) == "NaT":
        return None
    if type(plain) is int:
        if value.dtype.str[1:] != "m8[ns]":
            raise NotExact("no number of seconds; convert it to timedelta64[ns]")
        return _seconds(plain, 10**9)
    return plain


def _numpy_array(value: Any) -> Any:
    if value.dtype.kind in "biuSUO" or (value.dtype.kind == "f" and value.dtype.itemsize <= 8):
        return value.tolist()
    # tolist() would make ints of datetime64[ns]; one scalar at a time is converted or refused with its path.
    return list(value) if value.ndim else value[()]


def _series(value: Any) -> Any:
    return {"name": value.name, "index": value.index.tolist(), "data": value.tolist()}


def _fields(names: Any) -> Callable[[Any], Any]:
    return lambda value: {name: getattr(value, name) for name in names}


#: By module and name of a class; pandas names its own modules until version 2 and "pandas" from 3 on.
_BY_NAME: Mapping[Tuple[str, str], Callable[[Any], Any]] = {
    ("datetime", "datetime"): _isoformat,
    ("datetime", "date"): _isoformat,
    ("datetime", "time"): _isoformat,
    ("datetime", "timedelta"): _timedelta,
    ("decimal", "Decimal"): str,
    ("uuid", "UUID"): str,
    ("pathlib", "PurePath"): os.fspath,
    ("pathlib._local", "PurePath"): os.fspath,  # Python 3.13
    ("enum", "Enum"): lambda value: value.value,
    ("collections", "OrderedDict"): dict,
    ("collections", "defaultdict"): dict,
    ("collections", "Counter"): dict,
    ("numpy", "generic"): _numpy_scalar,
    ("numpy", "ndarray"): _numpy_array,
    ("pydantic.main", "BaseModel"): lambda value: value.model_dump(mode="python"),
}
_PANDAS: Mapping[str, Tuple[str, Callable[[Any], Any]]] = {
    "Series": ("pandas.core.series", _series),
    "DataFrame": ("pandas.core.frame", lambda value: value.to_dict(orient="split")),
    "Index": ("pandas.core.indexes.base", lambda value: value.tolist()),
    "Timedelta": ("pandas._libs.tslibs.timedeltas", _pandas_timedelta),
    "NaTType": ("pandas._libs.tslibs.nattype", _nothing),
    "NAType": ("pandas._libs.missing", _nothing),
}


def _table() -> Dict[Tuple[str, str], Callable[[Any], Any]]:
    table = dict(_BY_NAME)
    for name, (module, converter) in _PANDAS.items():
        table[module, name] = table["pandas", name] = table["pandas.api.typing", name] = converter
    return table


_TABLE = _table()


def _converter(cls: type) -> Optional[Callable[[Any], Any]]:
    for base in cls.__mro__:
        found = _TABLE.get((base.__module__, base.__qualname__))
        if found is not None:
            return found
    if issubclass(cls, tuple):
        return (lambda value: value._asdict()) if hasattr(cls, "_fields") and hasattr(cls, "_asdict") else None
    if issubclass(cls, (int, float, str, bytes, bytearray, dict, list)):
        return None
    attributes = getattr(cls, "__attrs_attrs__", None)
    if attributes is not None:
        return _fields([attribute.name for attribute in attributes])
    if hasattr(cls, "__dataclass_fields__"):
        import dataclasses  # whoever made the class has imported it

        known: Any = cls
        return _fields([field.name for field in dataclasses.fields(known)])
    return None


def convert(value: Any) -> Tuple[bool, Any]:
    """Whether its type is listed, and what it is sent as, whose items may need conversion in turn. NotExact if it cannot be."""
    converter = _converter(type(value))
    if converter is None:
        return False, None
    try:
        return True, converter(value)
    except (NotExact, RecursionError):
        raise
    except Exception as error:  # the method of a foreign type
        raise NotExact(f"its own conversion raised {type_name(type(error))}: {str(error)[:200]}") from None
