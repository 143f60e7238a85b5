"""avalanche_ext/metrics/over_time.py: readings, and what was trained before them."""

import dill
import pytest

from avalanche_ext.metrics.over_time import OverTime


class Iterations(OverTime[int]):
    """Reads a number that the test sets."""

    number = 0

    def read(self):
        return self.number

    def values(self, reading):
        yield "Number", reading
        yield "Twice", 2 * reading

    def __str__(self):
        return "Iterations"


def test_readings_belong_to_the_experience_trained_last(lab):
    bm = lab.build("class")
    metric = Iterations()
    strategy = lab.naive([metric])
    assert metric.result() is None
    for number, trained in enumerate([None, 0, 1, 1]):
        if trained is not None and trained not in metric.experiences:
            strategy.train(bm.train_stream[trained])
        metric.number = number
        strategy.eval(bm.test_stream)
    assert metric.history == [0, 1, 2, 3]
    assert metric.experiences == [None, 0, 1, 1]
    assert metric.by_experience == {0: 1, 1: 3}
    assert metric.result() == 3
    assert dict(strategy.evaluator.get_all_metrics()) == {
        "Number/eval_phase": ([0, 4, 8, 8], [0, 1, 2, 3]),
        "Twice/eval_phase": ([0, 4, 8, 8], [0, 2, 4, 6]),
    }
    assert dill.loads(dill.dumps(metric.by_experience)) == {0: 1, 1: 3}
    metric.reset()
    assert metric.history == metric.experiences == []
    assert metric.number == 3


@pytest.mark.parametrize("boundaries", [False, True])
def test_an_online_stream_is_read_once_for_each_evaluation(lab, boundaries):
    bm = lab.build("class")
    metric = Iterations()
    strategy = lab.naive([metric])
    for experience in bm.train_stream:
        for part in lab.subexperiences(experience, 10, boundaries):
            strategy.train(part)
        strategy.eval(bm.test_stream)
    assert metric.experiences == [0, 1, 2]
