"""experiments/bench/timing.py: interleaved rounds, medians and ratios."""

import itertools

import pytest

from experiments.bench.timing import Measured, interleave, ratio, spread, stopwatch


class TestTiming:
    def test_the_stopwatch_leaves_out_preparation_and_divides_by_units(self):
        now = [0.0]

        def pass_by(seconds, result):
            now[0] += seconds
            return result

        observe = stopwatch(
            lambda: pass_by(100.0, lambda: pass_by(3.0, 6)), 1e3, clock=lambda: now[0]
        )
        assert observe() == pytest.approx(500.0)  # ms a unit

    def test_rounds_interleave_in_changing_order_and_the_first_is_discarded(self):
        seen = []

        def maker(name, costs):
            costs = iter(costs)
            return lambda: lambda: (seen.append(name), next(costs))[1]

        measured = interleave(
            {("row", "a"): maker("a", [9, 1, 2]), ("row", "b"): maker("b", [9, 3, 4])},
            repeats=2,
        )
        assert seen == ["b", "a", "a", "b", "b", "a"]
        assert measured["row", "a"].values == [1, 2]
        assert measured["row", "b"].values == [3, 4]

    def test_a_contender_that_fails_drops_out_and_the_others_go_on(self):
        def broken():
            raise TypeError("no\n  such thing")

        late = itertools.count()

        def breaks_later():
            if next(late) == 1:
                raise ValueError
            return 1.0

        measured = interleave(
            {
                ("row", "making"): broken,
                ("row", "observing"): lambda: breaks_later,
                ("row", "good"): lambda: lambda: 2.0,
            },
            repeats=3,
        )
        assert measured["row", "making"].error == "TypeError: no such thing"
        assert measured["row", "observing"].error == "ValueError"
        assert measured["row", "observing"].spread is None
        assert measured["row", "good"].values == [2.0, 2.0, 2.0]
        assert ratio(measured["row", "making"], measured["row", "good"]) is None

    def test_median_quartiles_and_ratios_by_round(self):
        assert spread([4.0]) == (4.0, 4.0, 4.0)
        assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0, 4.0)
        # The median of the ratios (2), not the ratio of the medians (20 / 1).
        above, below = Measured([2.0, 20.0, 200.0]), Measured([1.0, 100.0, 1.0])
        assert ratio(above, below).median == 2.0
        assert ratio(above, Measured([1.0, 0.0, 1.0])) is None
