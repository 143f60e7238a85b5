"""experiments/values.py: texts as values of the type of an option."""

from typing import Literal

import pytest

from experiments.errors import UserError
from experiments.values import Count, Pair, described, read, word

Mixed = Literal["mean", "other"] | Pair


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        *(
            ("3", int | None, 3),
            ("none", int | None, None),
            ("none", str | None, None),
            ("1e-3", float, 1e-3),
        ),
        *(("True", bool, True), ("text", str, "text"), ("other", Mixed, "other")),
        *(("1,0.5", Mixed, [1.0, 0.5]), (str(2**63 - 1), int, 2**63 - 1)),
    ],
)
def test_values_are_read_by_their_annotation(text, kind, value):
    found = read("x", text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("3.5", int, "--set n=3.5: '3.5' is not int"),
        ("yes", bool, "'yes' is not bool"),
        ("x", int | None, "'x' is not int or none"),
        ("1.5", Count, "'1.5' is not int from 1 on"),
        ("1.5", Count | None, "'1.5' is not int from 1 on or none"),
        ("first", Mixed, "'first' is not mean or other or two numbers C,R"),
        ("1,", Mixed, "--set n=1,: '' is not float"),
        ("1,inf", Mixed, "use a finite number"),
        ("nan", float, "--set n=nan: use a finite number"),
        (str(2**63), int, "use a whole number below 2**63"),
    ],
)
def test_others_are_refused(text, kind, told):
    with pytest.raises(UserError) as raised:
        read(f"n={text}", text, kind)
    assert told in str(raised.value)


def test_kinds_in_words():
    assert described(int | None) == "int or none"
    assert described(Mixed) == "mean or other or two numbers C,R"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *((None, "none"), (True, "true"), (1, "1"), (0.5, "0.5"), (1e-5, "1e-05")),
        *(("every", "every"), ([1, 2.5], "1,2.5"), ((), "none")),
    ],
)
def test_values_are_one_word(value, told):
    assert word(value) == told


@pytest.mark.parametrize("value", [None, True, 3, 0.1, [1.0, 2.5], "other"])
def test_what_is_written_is_read_as_it_was(value):
    kind = bool if value is True else int | float | None | Mixed
    assert read("x", word(value), kind) == value
