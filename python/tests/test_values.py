"""Values are exact both ways, or refused with the path to what cannot be sent."""

from __future__ import annotations

import collections
import enum
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitboss import _values

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=50)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.sampled_from(["$part", "$x"]), inner, max_size=3)
)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


@given(VALUES)
def test_round_trip(value: Any) -> None:
    assert same(_values.decode(*_values.encode(value)), value)


def test_big_ints() -> None:
    for value in (10**3999, 10**4000, -(10**4001), 2**100_000):
        assert _values.decode(*_values.encode([value])) == [value]


class Color(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, 2, {3}]}, 'result["a"][2]: set'),
        ([Color.RED], "result[0]: Color is a subclass of int"),
        ({1: 2}, "result: the key 1 is int"),
        (collections.OrderedDict(), "result: OrderedDict is a subclass of dict"),
        (object(), "result: object"),
        (["ok", "\ud800"], "result[1]: str with a lone surrogate"),
    ],
)
def test_refusals_name_the_path(value: Any, path: str) -> None:
    with pytest.raises(TypeError) as caught:
        _values.encode(value)
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize(
    "text", [b'{"$part":0}', b'{"$nope":1}', b'{"$float":"x"}', b'{"$int":"12"}', b'{"$dict":{}}', b"NaN", b"[", b"\xff"]
)
def test_what_is_no_value(text: bytes) -> None:
    with pytest.raises(_values.ValueFormatError):
        _values.decode(text)


def test_every_part_once_in_order() -> None:
    assert _values.decode(b'[{"$part":0},{"$part":1}]', [b"a", b"b"]) == [b"a", b"b"]
    for text in (b'[{"$part":1},{"$part":0}]', b'[{"$part":0},{"$part":0}]', b'[{"$part":0}]'):
        with pytest.raises(_values.ValueFormatError):
            _values.decode(text, [b"a", b"b"])
