"""Values from outside: of the declared type, finite, bounded, or a ValueError that names them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointmap.outside.json_object import parse_object
from pointmap.outside.typed import as_type
from pointmap.outside.values import matrix, number, whole


@dataclass(frozen=True)
class Part:
    size: int
    share: float = 0.5


@dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...]
    box: tuple[float, float] | None = None
    kind: Literal["a", "b"] = "a"
    more: dict[str, int] = field(default_factory=dict)


@pytest.mark.parametrize("text", ["[1]", "1", "", "{", '{"a": NaN}', '{"a": -Infinity}',
                                  '{"a": 1e999}', "[" * 100_000, '{"a":' * 100_000, b"\xff{}",
                                  '{"a": ' + "9" * 10_000 + "}"])  # fmt: skip
def test_text_that_is_no_object_of_finite_numbers_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_object(text)


def test_bounds_may_be_infinite_where_that_is_meant() -> None:
    assert parse_object('{"a": [-Infinity, Infinity]}', infinite=True)["a"] == [-math.inf, math.inf]


def test_a_dataclass_is_made_of_an_object() -> None:
    told = {"name": "n", "parts": [{"size": 2}, {"size": 3.0, "share": 1}], "box": [0, 1.5], "x": 1}
    made = as_type(told, Whole, "it")
    assert made == Whole("n", (Part(2), Part(3, 1.0)), (0.0, 1.5))
    assert type(made.parts[1].size) is int and type(made.box[0]) is float


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 3}, "name must be text"),
        ({"parts": {}}, "parts must be a list"),
        ({"parts": [3]}, "parts must be an object"),
        ({"parts": [{}]}, "parts has no size"),
        ({"parts": [{"size": 1.5}]}, "whole number"),
        ({"parts": [{"size": True}]}, "size must be a number"),
        ({"parts": [{"size": 10**400}]}, "size must be between"),
        ({"parts": [{"size": 1, "share": math.nan}]}, "share must be between"),
        ({"box": [1]}, "2 entries"),
        ({"kind": "c"}, "one of a, b"),
        ({"kind": []}, "one of a, b"),
        ({"more": {"k": "v"}}, "more must be a number"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        as_type({"name": "n", "parts": []} | change, Whole, "it")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                    max_leaves=8))  # fmt: skip
def test_any_value_is_right_or_a_value_error(value: Any) -> None:
    for check in (
        lambda: as_type({"name": "n", "parts": value, "box": value, "more": value}, Whole, "it"),
        lambda: as_type(value, Whole, "it"),
        lambda: number(value, "it", -1, 1),
        lambda: whole(value, "it", -1, 1),
        lambda: matrix(value, "it", 2, 2, 1e9),
        lambda: parse_object(json.dumps(value)),
    ):
        try:
            check()
        except ValueError as error:
            assert "\n" not in str(error)
