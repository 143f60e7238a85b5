"""experiments/table/show.py: figures as text."""

import pytest

from experiments.table.protocol import Published
from experiments.table.reading import read
from experiments.table.show import (
    cells,
    conclusion,
    figure,
    measured,
    tables_list,
    text,
)
from experiments.table.verdict import Round, compare


def published(mean=80.0, spread=None, sem=False, certainty="repo", of_spread=None):
    return Published(mean, spread, sem, 5, "A paper", certainty, of_spread or certainty)


def compared(*values, theirs=None, again=()):
    return compare(
        "average_accuracy",
        theirs or published(),
        Round(values, range(2)),
        Round(again, range(2, 4)),
    )


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (published(), "80.00"),
        (published(spread=0.5), "80.00 ± 0.50"),
        (published(spread=0.5, sem=True), "80.00 ± 0.50 sem"),
        (published(certainty="recalled"), "(80.00)"),
        (published(spread=0.5, certainty="recalled"), "(80.00 ± 0.50)"),
        (published(spread=0.5, of_spread="recalled"), "80.00 (± 0.50)"),
        (published(of_spread="recalled"), "80.00"),
        (published(spread=0.5, certainty="copy"), "80.00 ± 0.50"),
    ],
)
def test_what_is_recalled_stands_in_brackets(theirs, told):
    assert figure(theirs) == told


def test_ours_have_a_spread_from_two_on():
    assert measured([]) == "–"
    assert measured([80.0]) == "80.00"
    assert measured([80.0, 81.0]) == "80.50 ± 0.71"


def test_the_conclusion_counts_what_is_judged():
    reproduced, above, missed = compared(80, 80), compared(90, 90), compared(10, 10)
    open_ones = [compared(), compared(80)]
    recalled = compared(10, 10, theirs=published(certainty="recalled"))
    assert conclusion([*open_ones, recalled]) == "no figure is judged yet"
    assert conclusion([reproduced, above, missed, *open_ones, recalled]) == (
        "2 of 3 judged figures are reproduced or above (66.7%; a table is reproduced "
        "from 95% on)"
    )


def test_lines_are_aligned_and_remarks_follow(changed):
    table = read(changed("cells.plain.note", "mind this"))
    outcomes = {"plain": [compared(80, 81)], "later": [compared()]}
    lines = text(table, outcomes, {"later": "seed 0: no"}).splitlines()
    assert lines[0] == "Digits: Five tasks"
    assert lines[1] == "published: A paper"
    head, plain, later = lines[3:6]
    assert head.split() == (
        ["cell", "quantity", "published", "measured", "difference", "verdict"]
    )
    assert plain.split()[-1] == "reproduced"
    assert head.index("verdict") == plain.index("reproduced")
    assert later.index("not yet implemented") == head.index("verdict")
    assert lines[7:] == (
        [
            "plain: mind this",
            "later failed: seed 0: no",
            "1 of 1 judged figures are reproduced or above (100.0%; a table is "
            "reproduced from 95% on)",
        ]
    )


def test_brackets_are_explained_where_there_are_any(changed):
    recalled = {"mean": 1.0, "sd": None, "certainty": "recalled"}
    table = read(changed("cells.plain.published.average_accuracy", recalled))
    theirs = table.cells["plain"].published["average_accuracy"]
    shown = text(table, {"plain": [compared(theirs=theirs)]}, {})
    assert "in brackets: recalled" in shown
    assert "in brackets" not in text(table, {"er": [compared()]}, {})


def test_tables_are_listed_with_their_cells(changed, protocols):
    assert cells(read("digits")) == "3 cells"
    table = read(changed("cells.er", remove=True))
    assert tables_list([table]) == "digits  2 cells  Digits"
