"""What arrives is what the table of docs/values.md says, with the real numpy, pandas, pydantic and attrs."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import uuid
from typing import Any, Dict, List, NamedTuple, Tuple

import attrs
import numpy as np
import pandas as pd
import pydantic
import pytest
from conftest import Tree
from hypothesis import given
from hypothesis import strategies as st
from test_values import VALUES, same

from pitboss import _values

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "values.md"


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Order:
    id: int
    when: dt.date


@attrs.define
class Part:
    name: str
    size: decimal.Decimal


class Model(pydantic.BaseModel):
    name: str
    orders: List[Order]


class Celsius(float):
    pass


NAMES = {
    **{cls.__name__: cls for cls in (Celsius, Color, Level, Model, Order, Part, Point, decimal.Decimal, uuid.UUID, pathlib.Path)},
    **{"collections": collections, "datetime": dt, "math": math, "np": np, "pd": pd},
}


def sent(value: Any, markers: bool = False) -> Any:
    return _values.decode(*_values.encode(value, "result", markers))


def rows(heading: str) -> List[Tuple[str, ...]]:
    """The cells in backticks of the rows of the table below a heading of the document."""
    section = DOCUMENT.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(lines) > 5, f"the table below {heading!r} has {len(lines)} rows"
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]


def code(cell: str) -> str:
    found = re.fullmatch(r"`(.+)`", cell)
    assert found, f"{cell!r} is no code"
    return found.group(1)


def evaluate(cell: str) -> Any:
    return eval(code(cell), dict(NAMES))  # the text is ours


@pytest.mark.parametrize("row", rows("What a tool returns"), ids=lambda row: row[1])
def test_the_table_of_results_holds(row: Tuple[str, ...]) -> None:
    _, example, arrives, _ = row
    value, expected = evaluate(example), evaluate(arrives)
    assert same(sent(value), expected), sent(value)
    assert same(sent(value, markers=True), expected)


@pytest.mark.parametrize("row", rows("What is refused"), ids=lambda row: row[1])
def test_the_table_of_refusals_holds(row: Tuple[str, ...]) -> None:
    _, example, problem = row
    value = evaluate(example)
    with pytest.raises(TypeError) as refused:
        _values.encode({"a": [value]})
    assert str(refused.value).startswith('result["a"][0]') and code(problem) in str(refused.value), refused.value


@pytest.mark.parametrize("row", rows("What a tool receives"), ids=lambda row: row[0])
def test_the_table_of_arguments_holds(row: Tuple[str, ...]) -> None:
    text, parts, arrives = row
    assert same(_values.decode(code(text).encode(), evaluate(parts)), evaluate(arrives))


def test_the_tables_name_every_conversion() -> None:
    from pitboss import _conversions

    documented = " ".join(row[0] for row in rows("What a tool returns"))
    for _, name in _conversions._TABLE:
        shown = {"generic": "numpy.bool", "BaseModel": "pydantic BaseModel"}.get(name, name)
        assert shown in documented, f"docs/values.md does not say what is sent for {name}"


MOMENTS = st.datetimes(timezones=st.none() | st.just(dt.timezone.utc) | st.just(dt.timezone(dt.timedelta(hours=-3, minutes=7))))


@given(MOMENTS, st.dates(), st.times())
def test_any_moment_can_be_read_back(moment: dt.datetime, day: dt.date, time: dt.time) -> None:
    texts = sent([moment, day, time])
    assert dt.datetime.fromisoformat(texts[0]) == moment
    assert (dt.date.fromisoformat(texts[1]), dt.time.fromisoformat(texts[2])) == (day, time)


@given(st.timedeltas())
def test_any_duration_is_exact_or_refused(duration: dt.timedelta) -> None:
    try:
        seconds = sent(duration)
    except TypeError as refused:
        assert abs(duration) > dt.timedelta(days=365 * 100) and "cannot hold exactly" in str(refused)
        return
    assert type(seconds) is float and dt.timedelta(seconds=seconds) == duration


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_any_nanoseconds_are_exact(nanoseconds: int) -> None:
    moment, stamp = np.datetime64(nanoseconds, "ns"), pd.Timestamp(nanoseconds) if nanoseconds > -9223372036854775000 else None
    assert np.datetime64(sent(moment), "ns") == moment
    assert stamp is None or pd.Timestamp(sent(stamp)) == stamp
    durations = [np.timedelta64(nanoseconds, "ns")]
    if stamp is not None:
        durations.append(pd.Timedelta(nanoseconds, "ns"))
    for duration in durations:
        try:
            seconds = decimal.Decimal(sent(duration))
        except TypeError:
            assert abs(nanoseconds) > 10**15
            continue
        assert round(seconds * 10**9) == nanoseconds


@given(st.decimals(), st.uuids(), st.binary())
def test_any_text_of_a_value_can_be_read_back(number: decimal.Decimal, name: uuid.UUID, raw: bytes) -> None:
    texts = sent([number, name])
    again = decimal.Decimal(texts[0])
    assert again.as_tuple() == number.as_tuple() and uuid.UUID(texts[1]) == name
    path = pathlib.Path(os.fsdecode(raw.replace(b"\0", b"")))
    try:
        assert pathlib.Path(sent(path)) == path
    except TypeError as refused:
        assert "lone surrogate" in str(refused)


ARRAYS: st.SearchStrategy[Any] = st.tuples(
    st.sampled_from(["?", "i1", "u8", "i8", "f2", "f4", "f8", "U5", "S5", "O"]),
    st.lists(st.integers(0, 100), min_size=6, max_size=6),
    st.sampled_from([(6,), (2, 3), (3, 1, 2), (0,)]),
)


@given(ARRAYS)
def test_any_array_arrives_as_its_lists(drawn: Tuple[str, List[int], Tuple[int, ...]]) -> None:
    dtype, numbers, shape = drawn
    array = np.array(numbers if math.prod(shape) else []).astype(dtype).reshape(shape)
    assert same(sent(array), array.tolist())
    assert same(sent(list(array.flat)), array.ravel().tolist())


@given(st.floats(width=32), st.floats(width=16), st.floats())
def test_any_numpy_float_is_the_same_number(single: float, half: float, double: float) -> None:
    assert same(sent([np.float32(single), np.float16(half), np.float64(double)]), [single, half, double])


CELLS = st.integers(-(2**63), 2**63 - 1) | st.none() | st.text()


@given(st.dictionaries(st.text(max_size=3), st.lists(CELLS, min_size=3, max_size=3), max_size=3))
def test_any_frame_arrives_as_it_is_split(columns: Dict[str, List[Any]]) -> None:
    frame = pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()}, index=range(3))
    arrived = sent(frame)
    assert arrived == {"index": [0, 1, 2], "columns": list(columns), "data": [list(row) for row in zip(*columns.values())]}
    for name in columns:
        assert sent(frame[name]) == {"name": name, "index": [0, 1, 2], "data": columns[name]}


@given(VALUES)
def test_any_plain_value_is_the_same_with_markers(value: Any) -> None:
    assert _values.encode(value, "result", True) == _values.encode(value)


ODD: st.SearchStrategy[Any] = st.builds(object) | st.sampled_from(
    [{1, 2}, Celsius(1), 1j, {1: b"x"}, {"a": b"x", "b": [b"y"], 2: b"z"}, {"a": {"$part": b"x"}, None: 1}]
)
SOME = st.recursive(
    st.binary(max_size=3) | st.integers() | ODD,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=2), inner),
)


@given(SOME)
def test_any_value_arrives_with_markers(value: Any) -> None:
    """Every part still has its reference, and the markers are where the strict mode refuses."""
    arrived = sent([value], markers=True)[0]

    def compare(a: Any, b: Any) -> None:
        if type(a) is list:
            assert len(a) == len(b)
            for one, other in zip(a, b):
                compare(one, other)
        elif type(a) is dict and all(type(key) is str for key in a):
            assert list(a) == list(b)
            for key in a:
                compare(a[key], b[key])
        elif type(a) in (bytes, int):
            assert same(a, b)
        else:
            assert set(b) == {"$type", "repr"} and b["$type"].endswith(type(a).__qualname__) and b["repr"] == repr(a)[:201]

    compare(value, arrived)


def test_a_marker_is_bounded_and_always_text() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "\ud800" + "x" * 10_000

    class Worse:
        def __repr__(self) -> str:
            raise ValueError("no")

    odd, worse = sent([Odd(), Worse()], markers=True)
    assert odd["repr"] == "\\ud800" + "x" * 199 + "…" and odd["$type"].endswith("<locals>.Odd")
    assert worse["repr"] == "<Worse that cannot be shown>"


def test_a_conversion_that_raises_is_a_refusal_with_the_path() -> None:
    class Broken(pydantic.BaseModel):
        x: int

        def model_dump(self, **options: Any) -> Dict[str, Any]:
            raise RuntimeError("on purpose")

    with pytest.raises(TypeError, match=r"^result\[1\]: \S+Broken cannot be sent: its own conversion raised RuntimeError: on purpose$"):
        _values.encode([0, Broken(x=1)])
    assert sent([Broken(x=1)], markers=True)[0]["repr"] == "Broken(x=1)"


def test_what_contains_itself_is_refused_also_through_a_conversion() -> None:
    @dataclasses.dataclass
    class Node:
        next: Any

    node = Node(None)
    node.next = node
    for markers in (False, True):
        with pytest.raises(TypeError, match="nested too deeply, or contains itself"):
            _values.encode(node, "result", markers)


def test_a_surrogate_in_what_was_converted_has_its_path() -> None:
    with pytest.raises(TypeError, match=r'^result\["\$x"\]\[0\]\["file"\]: str with a lone surrogate'):
        _values.encode({"$x": [{"file": pathlib.Path("\udc80")}]})


def test_nothing_is_imported_for_a_conversion() -> None:
    # What an interpreter holds before it runs a line is not ours: a coverage tracer in the child brings modules of its own.
    script = (
        "import sys; found = set(sys.modules); import pitboss; from pitboss import _values;"
        "before = set(sys.modules); _values.encode([1, b'', 's']);"
        "foreign = {'numpy', 'pandas', 'pydantic', 'attr', 'decimal', 'uuid'};"
        "print(sorted(set(sys.modules) - before), sorted(foreign & (set(sys.modules) - found)))"
    )
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(_values.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True).stdout == "[] []\n"


ADAPTER = """
import pitboss

@pitboss.tool
def result():
    return {"a": [b"x", {1, 2}], "b": b"y"}

@pitboss.tool
def stream():
    yield object
    return 1

@pitboss.tool
def fails():
    raise pitboss.ToolError("on purpose", data={"seen": {3}})
"""


def test_markers_of_a_real_worker(tree: Tree) -> None:
    path = tree.module("marked", ADAPTER)
    worker = tree.worker()
    worker.ready(adapter=f"{path}/marked.py", serialization="markers")
    assert worker.call("result") == {"a": [b"x", {"$type": "set", "repr": "{1, 2}"}], "b": b"y"}
    worker.request("stream")
    assert worker.chunk() == {"$type": "type", "repr": "<class 'object'>"}
    assert worker.answer() == 1
    worker.request("fails")
    frame = worker.data.next()
    assert frame is not None and json.loads(frame.json)["data"] == {"seen": {"$type": "set", "repr": "{3}"}}


def test_a_worker_that_is_not_told_refuses(tree: Tree) -> None:
    path = tree.module("unmarked", ADAPTER)
    worker = tree.worker()
    worker.ready(adapter=f"{path}/unmarked.py")
    worker.request("result")
    frame = worker.data.next()
    assert frame is not None
    body = json.loads(frame.json)
    assert (body["reason"], body["type"]) == ("TOOL_RAISED", "TypeError") and body["message"].startswith('result["a"][1]: set')
