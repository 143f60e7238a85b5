"""experiments/table/settings.py: options of a protocol as those of a run."""

import dataclasses

import pytest

from experiments.errors import UserError
from experiments.options import Run
from experiments.store import NO_MATTER
from experiments.table.settings import check_value, run_of, setting_words


def test_a_cell_is_a_command_line():
    run = run_of(
        "er-ring",
        {"benchmark": "split-digits", "hidden": [3, 4], "lr": 0.2, "epochs": None},
        {"mem_size": None, "per_class": 2},
        seeds=4,
    )
    assert run == Run(
        benchmark="split-digits",
        method="er-ring",
        hidden=(3, 4),
        lr=0.2,
        set=("mem_size=none", "per_class=2"),
        seeds=4,
    )


@pytest.mark.parametrize(
    ("value", "word"),
    [
        *((None, "x=none"), (True, "x=true"), (1, "x=1"), (0.5, "x=0.5")),
        *((1e10, "x=10000000000.0"), ("every", "x=every"), ([1, 2.5], "x=1,2.5")),
    ],
)
def test_settings_are_written_as_set_takes_them(value, word):
    assert setting_words({"x": value}) == (word,)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("lr", 1), ("lr", 0.1), ("epochs", 3), ("epochs", None), ("hidden", [1, 2])),
        ("benchmark", "x"),
        *(("samples", [1000]), ("iterations", 2000), ("task_labels", True)),
        *(("head", "seen"), ("label_noise", 0.1), ("reset_optimizer", True)),
    ],
)
def test_values_of_the_type_of_the_option_pass(option, value):
    check_value(option, value)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("epochs", 1.5, "1.5 is not int or null"),
        ("epochs", "1", "'1' is not int or null"),
        ("epochs", False, "False is not int or null"),
        ("lr", True, "True is not float"),
        ("task_labels", 1, "1 is not bool"),
        ("samples", 1000, "1000 is not a list of int"),
        ("samples", ["1"], "['1'] is not a list of int"),
        ("scenario", 3, "3 is not str or null"),
    ],
)
def test_values_of_another_type_are_refused(option, value, told):
    with pytest.raises(UserError) as raised:
        check_value(option, value)
    assert str(raised.value) == told


def test_options_that_change_no_result_are_no_part_of_a_table():
    for option in {f.name for f in dataclasses.fields(Run)} & NO_MATTER:
        with pytest.raises(UserError, match=f"unknown option '{option}'"):
            check_value(option, 1)
