"""experiments/study/comparison.py against scipy, and Holm's procedure step by step."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.study import comparison
from experiments.study.comparison import holm, paired

STEADY = settings(deadline=None, derandomize=True, database=None)
VALUES = st.lists(
    st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=20
)


@STEADY
@given(VALUES)
def test_a_difference_is_a_paired_t_test(pairs):
    arm, reference = np.array(pairs).T
    apart = arm - reference
    spread = apart.std(ddof=1)
    if spread < 1e-9 * max(1.0, abs(apart).max()):
        return  # rounding decides; equal differences are tested below
    found = paired(
        {str(seed): float(v) for seed, v in enumerate(arm)},
        {str(seed): float(v) for seed, v in enumerate(reference)},
    )
    assert found.mean == pytest.approx(apart.mean(), rel=1e-9, abs=1e-12)
    assert found.error == pytest.approx(stats.sem(apart), rel=1e-9)
    test = stats.ttest_rel(arm, reference)
    assert found.p == pytest.approx(test.pvalue, rel=1e-6, abs=1e-12)
    assert found.seeds == len(pairs)


def test_seeds_are_paired_by_name_and_those_of_one_arm_left_out():
    arm = {"2": 5.0, "0": 1.0, "1": 4.0, "9": 100.0}
    reference = {"0": 0.5, "1": 2.0, "2": 1.0, "7": -100.0}
    found = paired(arm, reference)
    test = stats.ttest_rel([1.0, 4.0, 5.0], [0.5, 2.0, 1.0])
    assert found[0] == pytest.approx(6.5 / 3)
    assert found.p == pytest.approx(test.pvalue)
    assert found.seeds == 3


@pytest.mark.parametrize(("by", "p"), [(0.0, 1.0), (1.5, 0.0)])
def test_differences_that_are_all_the_same(by, p):
    reference = {"0": 1.0, "1": 2.0, "2": 4.0}
    found = paired({seed: v + by for seed, v in reference.items()}, reference)
    assert found == (by, 0.0, p, 3)


def test_fewer_than_two_seeds_tell_nothing():
    mean, error, p, seeds = paired({"0": 3.0, "1": 9.0}, {"0": 1.0, "2": 5.0})
    assert (mean, p, seeds) == (2.0, 1.0, 1)
    assert math.isnan(error)
    mean, error, p, seeds = paired({"0": 3.0}, {"2": 5.0})
    assert (p, seeds) == (1.0, 0)
    assert math.isnan(mean)
    assert math.isnan(error)


def rejected(p, level):
    """Holm's procedure: the smallest first, until one is not small enough."""
    found, left = set(), len(p)
    for name in sorted(p, key=p.get):
        if p[name] > level / left:
            break
        found.add(name)
        left -= 1
    return found


@STEADY
@given(
    st.dictionaries(st.text("abcdefgh", min_size=1), st.floats(0, 1), max_size=8),
    st.floats(0.001, 0.5),
)
def test_corrected_values_decide_as_the_procedure_does(p, level):
    corrected = holm(p)
    assert list(corrected) == list(p)
    assert all(p[name] <= corrected[name] <= 1 for name in p)
    near = any(math.isclose(value, level, rel_tol=1e-9) for value in corrected.values())
    if not near:  # division and multiplication round otherwise
        assert {name for name in p if corrected[name] <= level} == rejected(p, level)


def test_values_known_from_the_definition():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    expected = {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    assert found == pytest.approx(expected)
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_examples_of_its_text():
    ran = doctest.testmod(comparison)
    assert ran.attempted >= 2
    assert ran.failed == 0
