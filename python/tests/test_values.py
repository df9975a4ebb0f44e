"""Values are exact both ways, or refused with the path to what cannot be sent."""

from __future__ import annotations

import json
import math
from typing import Any, Dict

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


class Celsius(int):
    pass


class Settings(Dict[str, int]):
    pass


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, 2, {3}]}, 'result["a"][2]: set'),
        ([Celsius(1)], "result[0]: Celsius is a subclass of int"),
        ({1: 2}, "result: the key 1 is int"),
        (Settings(), "result: Settings is a subclass of dict"),
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


# Texts near to values: objects whose keys begin with $, numbers that Python refuses, nesting.
NEAR = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["nan", "inf", "0x1f", "-0x0", "0xg", 10**4299]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["$part", "$float", "$int", "$dict", "$", "a"]), inner | st.integers(-1, 3), max_size=2),
)


TEXTS = st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | NEAR.map(lambda value: json.dumps(value).encode())


@given(TEXTS, st.lists(st.binary(), max_size=3))
def test_any_text_is_a_value_or_one_typed_error(text: bytes, parts: list[bytes]) -> None:
    try:
        value = _values.decode(text, parts)
    except _values.ValueFormatError:
        return
    try:
        again = _values.encode(value)
    except TypeError as error:  # JSON can name what UTF-8 cannot carry
        assert "surrogate" in str(error) or "nested too deeply" in str(error)
        return
    assert same(_values.decode(*again), value)


@given(st.integers(1, 20_000), st.sampled_from([b"[", b'{"$dict":', b'{"a":', b'[{"$part":']))
def test_any_depth_is_a_value_or_one_typed_error(depth: int, opening: bytes) -> None:
    for text in (opening * depth, opening * depth + b"1" + (b"]" if opening == b"[" else b"}") * depth):
        try:
            _values.decode(text)
        except _values.ValueFormatError:
            pass


HUGE = st.just(5000).map(lambda digits: 10**digits)  # made when drawn: nobody can show it


@given(st.recursive(SCALARS | st.builds(object) | HUGE, lambda inner: st.lists(inner) | st.dictionaries(SCALARS, inner)))
def test_any_object_is_encoded_or_one_type_error(value: Any) -> None:
    try:
        text, parts = _values.encode(value)
    except TypeError:
        return
    assert same(_values.decode(text, parts), value)


def test_every_part_once_in_order() -> None:
    assert _values.decode(b'[{"$part":0},{"$part":1}]', [b"a", b"b"]) == [b"a", b"b"]
    for text in (b'[{"$part":1},{"$part":0}]', b'[{"$part":0},{"$part":0}]', b'[{"$part":0}]'):
        with pytest.raises(_values.ValueFormatError):
            _values.decode(text, [b"a", b"b"])
