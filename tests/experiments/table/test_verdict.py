"""experiments/table/verdict.py: the rule, case by case."""

import math

import pytest

from experiments.table.protocol import Published
from experiments.table.verdict import Round, compare, judge, tolerance


def published(mean, spread, *, seeds=10, sem=False, certainty="repo", of_spread=None):
    return Published(
        mean, spread, sem, seeds, "a paper", certainty, of_spread or certainty
    )


def around(mean, sd=0.0):
    """Three values of exactly this mean and standard deviation."""
    return [mean - sd, mean, mean + sd]


@pytest.mark.parametrize(
    ("theirs", "ours_sd", "allowed"),
    [
        # Both ± are small: one point.
        (published(80, 0.1), 0.1, 1.0),
        (published(80, 0.0), 0.0, 1.0),
        # sd 3 over 10 runs and sd 2 over 3 seeds.
        (published(80, 3.0), 2.0, 2 * math.sqrt(9 / 10 + 4 / 3)),
        # A standard error is not divided again.
        (published(80, 3.0, sem=True), 0.0, 6.0),
        (published(80, 3.0, sem=True, seeds=None), 0.0, 6.0),
        # No ± published: two points, or our own.
        (published(80, None), 0.0, 2.0),
        (published(80, None), 3.0, 2 * 3 / math.sqrt(3)),
        (published(80, None, seeds=1), 0.0, 2.0),
    ],
)
def test_the_tolerance(theirs, ours_sd, allowed):
    assert tolerance(theirs, around(50, ours_sd)) == pytest.approx(allowed)


@pytest.mark.parametrize(
    ("theirs", "ours", "verdict"),
    [
        (published(80, 0.1), 80.0, "reproduced"),
        (published(80, 0.1), 81.0, "reproduced"),
        (published(80, 0.1), 79.0, "reproduced"),
        (published(80.12, 0.1), 79.12, "reproduced"),  # whatever rounding makes of it
        (published(80, 0.1), 81.001, "above"),
        (published(80, 0.1), 78.999, "missed"),
        (published(80, None), 82.0, "reproduced"),
        (published(80, None), 78.0, "reproduced"),
        (published(80, None), 82.001, "above"),
        (published(80, None), 77.999, "missed"),
        (published(80, 3.0, sem=True), 74.0, "reproduced"),
        (published(80, 3.0, sem=True), 73.999, "missed"),
        (published(-18.02, None), -10.0, "above"),  # less forgetting
        (published(80, 0.1, certainty="copy"), 78.999, "missed"),
        # A miss against a recalled figure is none, but the rest stands.
        (published(80, 0.1, certainty="recalled"), 50.0, "inconclusive"),
        (published(80, None, certainty="recalled"), 50.0, "inconclusive"),
        (published(80, 0.1, certainty="recalled"), 79.5, "reproduced"),
        (published(80, 0.1, certainty="recalled"), 90.0, "above"),
        # A recalled ± alone: a miss has to be one without it, too.
        (published(80, 0.1, of_spread="recalled"), 78.5, "inconclusive"),
        (published(80, 0.1, of_spread="recalled"), 78.0, "inconclusive"),
        (published(80, 0.1, of_spread="recalled"), 77.999, "missed"),
        (published(80, 3.0, sem=True, of_spread="recalled"), 73.9, "missed"),
    ],
)
def test_the_verdict_at_its_boundaries(theirs, ours, verdict):
    assert judge(theirs, around(ours)) == verdict


@pytest.mark.parametrize("values", [[], [80.0], [10.0]])
def test_one_seed_decides_nothing(values):
    assert judge(published(80, 0.1), values) == "inconclusive"


THEIRS = published(80, 0.1)
FIRST, AGAIN = range(2), range(2, 4)
NONE = Round((), AGAIN)


def values(*numbers, seeds=FIRST):
    return Round(numbers, seeds)


@pytest.mark.parametrize(
    ("first", "again", "verdict", "missed_first"),
    [
        (values(), NONE, "not run", False),
        (values(80), NONE, "incomplete", False),
        (values(80, 80), NONE, "reproduced", False),
        (values(90, 90), NONE, "above", False),
        (values(70, 70), NONE, "missed", True),
        (values(70, 70), values(80, seeds=AGAIN), "missed", True),  # not all of it yet
        (values(70, 70), values(80, 80, seeds=AGAIN), "reproduced", True),
        (values(70, 70), values(70, 70, seeds=AGAIN), "missed", True),
        # A second round that was run for another figure of the cell decides nothing.
        (values(80, 80), values(70, 70, seeds=AGAIN), "reproduced", False),
    ],
)
def test_a_second_round_decides_where_the_first_missed(
    first, again, verdict, missed_first
):
    found = compare("average_accuracy", THEIRS, first, again)
    assert (found.verdict, found.missed_first) == (verdict, missed_first)
