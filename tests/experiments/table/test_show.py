"""experiments/table/show.py: figures as text."""

import pytest

from experiments.table.protocol import Published
from experiments.table.reading import read
from experiments.table.show import (
    cells,
    conclusion,
    figure,
    remarks,
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


RECALLED = published(certainty="recalled")


def told(table, *some, cell="er"):
    return conclusion(table, {cell: list(some)})


def test_the_conclusion_counts_every_figure(protocols):
    reproduced, above, missed = compared(80, 80), compared(90, 90), compared(10, 10)
    open_ones = [compared(), compared(), compared(80)]
    unsure = compared(10, 10, theirs=RECALLED)
    table = read("digits")
    assert told(table, *open_ones, unsure) == [
        "4 figures: 0 reproduced, 0 above, 0 missed, 1 inconclusive, 1 incomplete, "
        "2 not run"
    ]
    assert told(table, reproduced, above, missed, *open_ones, unsure) == [
        "7 figures: 1 reproduced, 1 above, 1 missed, 1 inconclusive, 1 incomplete, "
        "2 not run",
        "reproduced or above: 2 of 3 judged against a checked mean (66.7%; a table is "
        "reproduced from 95% on)",
    ]
    assert told(table, reproduced)[0].startswith("1 figure: 1 reproduced, 0 above")


def test_no_share_is_told_of_what_could_not_be_missed(protocols):
    hits = [compared(80, 80, theirs=RECALLED), compared(90, 90, theirs=RECALLED)]
    found = told(read("digits"), *hits)
    assert found == [
        "2 figures: 1 reproduced, 1 above, 0 missed, 0 inconclusive, 0 not run",
        "2 reproduced or above against a recalled mean, where nothing can be missed: "
        "no share is told of them",
    ]
    # Nor do they raise the share of the others.
    found = told(read("digits"), *hits, compared(80, 80), compared(10, 10))
    assert "1 of 2 judged against a checked mean (50.0%" in found[1]
    # A ± that is recalled takes no miss away that is one without it.
    loose = published(spread=1.0, of_spread="recalled")
    found = told(read("digits"), compared(80, 80, theirs=loose))
    assert "1 of 1 judged against a checked mean (100.0%" in found[1]


def test_plain_training_above_is_told_in_words(protocols):
    table = read("digits")
    for theirs in (published(), RECALLED):
        above = compared(90, 90, theirs=theirs)
        assert told(table, above, cell="plain")[-1] == (
            "plain training is above what is published of it (SGD): the protocols may "
            "differ there, and with them what methods gain"
        )
        assert not any("plain" in one for one in told(table, above, cell="er"))
    assert len(told(table, compared(80, 80), cell="plain")) == 2


def test_what_is_no_row_of_the_table_does_not_count(changed):
    table = read(changed("cells.er.counted", False))
    outcomes = {"plain": [compared(80, 80)], "er": [compared(10, 10)]}
    found = conclusion(table, outcomes)
    assert found[0].startswith("1 figure: 1 reproduced, 0 above, 0 missed")
    assert "1 of 1 judged" in found[1]
    assert "missed" in text(table, outcomes, {}).splitlines()[5]  # shown it is


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
    assert later.index("not yet in this pack") == head.index("verdict")
    assert lines[7:] == (
        [
            "plain: mind this",
            "later failed: seed 0: no",
            "2 figures: 1 reproduced, 0 above, 0 missed, 0 inconclusive, 1 not run",
            "reproduced or above: 1 of 1 judged against a checked mean (100.0%; a "
            "table is reproduced from 95% on)",
        ]
    )


def test_a_note_of_several_is_told_once():
    notes = [("a", "mind this"), ("b", "and that"), ("c", "mind this")]
    assert remarks(notes) == ["a; c: mind this", "b: and that"]


def test_brackets_are_explained_where_there_are_any(changed):
    recalled = {"mean": 10.0, "sd": None, "certainty": "recalled"}
    table = read(changed("cells.plain.published.average_accuracy", recalled))
    theirs = table.cells["plain"].published["average_accuracy"]
    shown = text(table, {"plain": [compared(theirs=theirs)]}, {})
    assert "in brackets: recalled" in shown
    assert "in brackets" not in text(table, {"er": [compared()]}, {})


def test_tables_are_listed_with_their_cells(changed, protocols):
    assert cells(read("digits")) == "3 cells"
    table = read(changed("cells.er", remove=True))
    assert tables_list([table]) == "digits  2 cells  Digits"
