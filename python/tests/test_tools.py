"""The decorator leaves functions alone; signatures are checked and described."""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pitboss
from pitboss._tools import BadArguments, Tool


@pitboss.tool
def sample(
    text: str,
    count: int = 1,
    ratio: float = 0.5,
    raw: Optional[bytes] = None,
    mode: Literal["a", "b"] = "a",
    items: List[int] = [],  # noqa: B006
    table: Union[Dict[str, int], None] = None,
    free: Any = None,
) -> str:
    """Say it.

    More.
    """
    return text * count


def test_a_tool_stays_a_function() -> None:
    assert sample("x", count=2) == "xx"


@pytest.mark.parametrize(
    "good",
    [
        {"text": "x"},
        {"text": "x", "ratio": 1, "raw": b"", "mode": "b", "items": [1], "table": {"a": 1}, "free": {1}},
        {"text": "x", "raw": None, "table": None},
    ],
)
def test_what_fits(good: Dict[str, Any]) -> None:
    Tool(sample).check(good)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({}, "'text' (str)"),
        ({"text": 1}, "'text' must be str, not int"),
        ({"text": "x", "count": True}, "'count' must be int, not bool"),
        ({"text": "x", "count": 1.0}, "'count' must be int, not float"),
        ({"text": "x", "raw": "s"}, "'raw' must be"),
        ({"text": "x", "mode": "c"}, "'mode' must be"),
        ({"text": "x", "items": ["1"]}, "'items' must be"),
        ({"text": "x", "table": {"a": "b"}}, "'table' must be"),
        ({"text": "x", "nope": 1}, "no parameter 'nope'"),
    ],
)
def test_what_does_not_fit_is_named(bad: Dict[str, Any], named: str) -> None:
    with pytest.raises(BadArguments) as caught:
        Tool(sample).check(bad)
    assert named in str(caught.value)


HUGE = st.just(5000).map(lambda digits: -(10**digits))  # made when drawn: nobody can show it
NAMES = st.sampled_from(["text", "count", "ratio", "raw", "mode", "items", "table", "free"])
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | HUGE | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(NAMES | st.text(max_size=5), ANY_VALUE))
def test_any_arguments_fit_or_one_typed_error(arguments: Dict[str, Any]) -> None:
    try:
        Tool(sample).check(arguments)
    except BadArguments as error:
        assert str(error).startswith("tool 'sample'")
        return
    assert type(arguments["text"]) is str and set(arguments) <= set(Tool(sample).parameters)


def test_any_depth_fits_or_one_typed_error() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(BadArguments):
        Tool(sample).check({"text": nested})
    while nested:  # deallocated step by step, whatever the interpreter does with deep recursion
        nested = nested.pop()


def test_the_row_of_a_tool() -> None:
    row = Tool(sample).row()
    assert row["name"] == "sample" and row["doc"].startswith("Say it.") and row["stream"] is False
    assert row["params"][0] == {"name": "text", "required": True, "type": "str"}
    assert row["params"][1] == {"name": "count", "required": False, "type": "int", "default": 1}
    assert row["schema"]["required"] == ["text"]
    assert row["schema"]["properties"]["items"] == {"type": "array", "items": {"type": "integer"}}


def test_refused_functions() -> None:
    with pytest.raises(pitboss.ToolDefinitionError, match="async"):

        @pitboss.tool
        async def later() -> None: ...

    with pytest.raises(pitboss.ToolDefinitionError, match=r"\*args"):

        @pitboss.tool
        def many(*args: int) -> None: ...


def test_parentheses_may_follow_the_decorator() -> None:
    @pitboss.tool()
    def f(n: int) -> int:
        return n

    assert f(3) == 3 and Tool(f).row()["name"] == "f"


def test_one_annotation_that_cannot_be_resolved_leaves_the_others_checked() -> None:
    def g(n: int, data: bytes, u: "NoSuchName" = None, many: "List[int]" = ()) -> int:  # type: ignore[name-defined,assignment]  # noqa: F821
        return n

    t = Tool(g)
    t.check({"n": 1, "data": b"", "u": object(), "many": [1]})
    for arguments in ({"n": "many", "data": b""}, {"n": 1, "data": "text"}, {"n": 1, "data": b"", "many": ["a"]}):
        with pytest.raises(BadArguments):
            t.check(arguments)
    assert t.row()["schema"]["properties"]["n"] == {"type": "integer"}
