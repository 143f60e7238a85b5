"""experiments/table/markdown.py: tables of README.md, of what was measured only."""

import json

import pytest

from experiments.table import reading
from experiments.table.cells import comparisons
from experiments.table.markdown import block
from experiments.table.reading import read


def results(*accuracies):
    return {
        seed: {"average_accuracy": accuracy, "backward_transfer": -0.05}
        for seed, accuracy in enumerate(accuracies)
    }


@pytest.fixture
def table(protocols):
    return read("digits")


def made(table, **found):
    return block(
        table,
        {
            name: comparisons(cell, found.get(name, {}), range(cell.seeds))
            for name, cell in table.cells.items()
        },
    )


def test_nothing_is_shown_of_what_was_not_measured(table):
    assert made(table) == ""


def test_cells_with_results_are_rows(table):
    heading, intro, rows = made(table, plain=results(0.2, 0.21)).split("\n\n")
    assert heading == "### Digits"
    assert intro == (
        "Five tasks. Mean ± sd of seeds 0–1, in %. Published: A paper. 4 figures: 1 "
        "reproduced, 0\nabove, 0 missed, 0 inconclusive, 3 not run. Reproduced or "
        "above: 1 of 1 judged against a\nchecked mean (100.0%; a table is reproduced "
        "from 95% on)."
    )
    assert rows.splitlines() == [
        "| cell | accuracy | published | verdict |",
        "| --- | --- | --- | --- |",
        "| SGD | 20.50 ± 0.71 | 20.00 ± 1.00 | reproduced |",
    ]


def test_a_quantity_that_is_not_of_a_cell_is_left_empty(table):
    found = made(table, plain=results(0.2, 0.2), er=results(0.7, 0.7))
    assert found.splitlines()[-2:] == [
        "| SGD | 20.00 ± 0.00 | 20.00 ± 1.00 | reproduced |  |  |  |",
        "| ER, memory 50 | 70.00 ± 0.00 | 70.00 | reproduced | -5.00 ± 0.00 "
        "| -5.00 ± 0.50 sem | reproduced |",
    ]


def test_both_rounds_are_shown_where_the_first_missed(table):
    twice = made(table, plain=results(0.1, 0.1, 0.2, 0.2))
    assert twice.splitlines()[-1] == (
        "| SGD | 10.00 ± 0.00, again 20.00 ± 0.00 | 20.00 ± 1.00 "
        "| missed, again reproduced |"
    )
    # A second round that the first had no need of is not.
    assert ", again" not in made(table, plain=results(0.2, 0.2, 0.1, 0.1))
    once = made(table, plain=results(0.1, 0.1, 0.2))
    assert once.endswith("again 20.00 | 20.00 ± 1.00 | missed |")


def test_what_is_not_complete_is_said(table):
    assert made(table, plain=results(0.2)).endswith("| 20.00 ± 1.00 | incomplete |")


def test_numbers_of_seeds_that_differ_are_told(changed):
    table = read(changed("cells.er.seeds", 3))
    found = made(table, plain=results(0.2, 0.2), er=results(0.7, 0.7, 0.7))
    assert "ean ± sd of seeds from 0 on" in found
    assert "| SGD | 20.00 ± 0.00 (n = 2) |" in found
    assert "| ER, memory 50 | 70.00 ± 0.00 (n = 3) |" in found


def test_a_single_seed_is_called_one(changed):
    found = made(read(changed("seeds", 1)), plain=results(0.2))
    words = " ".join(found.split())
    assert "Seed 0 alone, in %, from which nothing can be concluded." in words
    assert found.endswith("| SGD | 20.00 | 20.00 ± 1.00 | inconclusive |")


def test_what_is_no_row_of_the_published_table_is_said(changed, protocols):
    name = changed("cells.er.counted", False)
    content = json.loads((reading.FOLDER / f"{name}.json").read_text())
    content["cells"]["er"]["note"] = "no row of it"
    table = read(protocols(content))
    found = made(table, plain=results(0.2, 0.2), er=results(0.1, 0.1))
    words = " ".join(found.split())
    assert "2 figures: 1 reproduced, 0 above, 0 missed" in words
    assert "ER, memory 50: no row of it." in words
    assert "ER, memory 50:" not in made(table, plain=results(0.2, 0.2))
