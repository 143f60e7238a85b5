"""experiments/spread.py: mean and standard deviation."""

import math
import statistics

import numpy as np
import pytest

from experiments.spread import mean_and_sd


def test_numbers_as_the_standard_library_has_them():
    values = [1.0, 2.0, 4.0, 0.1]
    mean, sd = mean_and_sd(values)
    assert mean == pytest.approx(statistics.fmean(values), rel=1e-15)
    assert sd == pytest.approx(statistics.stdev(values), rel=1e-15)


def test_one_number_has_no_spread():
    mean, sd = mean_and_sd([1.5])
    assert mean == 1.5
    assert math.isnan(sd)


def test_arrays_without_their_nan():
    nan = float("nan")
    mean, sd = mean_and_sd([[1.0, nan, nan], [4.0, 2.0, nan]])
    np.testing.assert_array_equal(mean, [2.5, 2.0, nan])
    np.testing.assert_allclose(sd, [np.sqrt(4.5), nan, nan])
