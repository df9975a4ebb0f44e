"""A default of a parameter is described as it would arrive, and is itself what the tool gets without the argument."""

from __future__ import annotations

import json
from typing import Any, Tuple

import pytest
from hypothesis import given
from test_conversions import evaluate, rows
from test_values import VALUES, same

from pitboss import _values
from pitboss._tools import Tool


def described(default: Any) -> dict[str, Any]:
    def tool(value: Any = default) -> Any:
        return value

    (row,) = Tool(tool).row()["params"]
    assert row["name"] == "value" and row["required"] is False
    assert tool() is default
    return row  # type: ignore[no-any-return]


def arrives(row: dict[str, Any]) -> Any:
    return _values.decode(json.dumps(row["default"]).encode())


@pytest.mark.parametrize("row", rows("What a tool returns"), ids=lambda row: row[1])
def test_a_default_of_the_table_is_shown_as_it_would_arrive(row: Tuple[str, ...]) -> None:
    _, example, expected, _ = row
    value = evaluate(example)
    shown = described(value)
    if _values.encode(value)[1]:
        assert "default" not in shown  # bytes have no JSON of their own
    else:
        assert same(arrives(shown), evaluate(expected))


@given(VALUES)
def test_any_default_is_shown_as_it_would_arrive(value: Any) -> None:
    shown = described(value)
    if _values.encode(value)[1]:
        assert "default" not in shown
    else:
        assert same(arrives(shown), value)


def test_a_default_that_cannot_be_sent_is_left_out() -> None:
    assert "default" not in described(object())
