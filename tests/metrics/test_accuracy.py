"""avalanche_ext/metrics/accuracy.py against upstream's metrics in the same run."""

import pytest
from avalanche.evaluation import metrics as upstream
from avalanche.logging import CSVLogger
from avalanche.training.plugins import EvaluationPlugin

from avalanche_ext.metrics import (
    EvaluationRecord,
    accuracy_metrics,
    task_masked_accuracy_metrics,
)
from avalanche_ext.plugins import LeanEvaluationPlugin

SCENARIOS = ["class", "domain", "task", "task-global"]


@pytest.mark.filterwarnings("ignore:No loggers specified")
@pytest.mark.parametrize("plugin", [EvaluationPlugin, LeanEvaluationPlugin])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_names_and_values_are_upstreams(lab, scenario, plugin):
    bm = lab.build(scenario)
    curves = []
    for metrics in (
        accuracy_metrics(),
        upstream.accuracy_metrics(experience=True, stream=True),
    ):
        evaluator = plugin(*metrics)
        strategy = lab.naive([], scenario, evaluator)
        strategy.eval(bm.test_stream)
        for experience in bm.train_stream:
            strategy.train(experience)
            strategy.eval(bm.test_stream)
        curves.append(dict(evaluator.get_all_metrics()))
    ours, theirs = curves
    assert list(ours) == list(theirs)
    for name, (xs, values) in theirs.items():
        assert ours[name][0] == xs
        assert ours[name][1] == pytest.approx(values, abs=1e-12)


def test_both_in_one_run(lab):
    bm = lab.build("class")
    ours, theirs = accuracy_metrics(), upstream.accuracy_metrics(
        experience=True, stream=True
    )
    strategy = lab.naive([*ours, *theirs])
    strategy.train(bm.train_stream[0])
    strategy.eval(bm.test_stream)
    # same names, so each name has its values from both
    for _, values in strategy.evaluator.get_all_metrics().values():
        assert values[0] == pytest.approx(values[1], abs=1e-12)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_task_masked(lab, scenario):
    bm = lab.build(scenario)
    strategy = lab.naive(
        [*task_masked_accuracy_metrics(), *accuracy_metrics()], scenario
    )
    for experience in bm.train_stream:
        strategy.train(experience)
    strategy.eval(bm.test_stream)
    last = strategy.evaluator.get_last_metrics()
    values = []
    for experience in bm.test_stream:
        classes = sorted(experience.dataset.targets.uniques)
        values.append(lab.by_hand(strategy.model, experience, classes))
    prefix = "Top1_TaskMaskedAcc_Exp/eval_phase/test_stream"
    emitted = [value for name, value in last.items() if name.startswith(prefix)]
    assert emitted == values
    (stream,) = [
        value for name, value in last.items() if "TaskMaskedAcc_Stream" in name
    ]
    assert stream == pytest.approx(sum(values) / 3)  # experiences of equal size


def test_stream_accuracy_weighs_samples_alike(lab):
    bm = lab.build("class")
    strategy = lab.naive(accuracy_metrics(experience=False))
    half = bm.train_stream[0]
    subs = list(lab.subexperiences(half, 30))  # 30 and 10 samples
    strategy.eval(subs)
    (value,) = strategy.evaluator.get_last_metrics().values()
    assert value == pytest.approx(lab.by_hand(strategy.model, half))


def test_csv_logger_finds_the_accuracy(lab, tmp_path):
    bm = lab.build("class")
    logger = CSVLogger(tmp_path)
    strategy = lab.naive(
        [], evaluator=LeanEvaluationPlugin(*accuracy_metrics(), loggers=logger)
    )
    strategy.train(bm.train_stream[0])
    strategy.eval(bm.test_stream)
    logger.close()
    lines = (tmp_path / "eval_results.csv").read_text().splitlines()[1:]
    assert [float(line.split(",")[2]) for line in lines] == [
        pytest.approx(lab.by_hand(strategy.model, e), abs=1e-4) for e in bm.test_stream
    ]


def test_options_choose_the_metrics():
    for make in (accuracy_metrics, task_masked_accuracy_metrics):
        assert len(make()) == 2
        assert len(make(stream=False)) == len(make(experience=False)) == 1
        assert make(experience=False, stream=False) == []


def test_a_record_that_does_not_mask_is_refused():
    with pytest.raises(ValueError, match=r"task_masked=False"):
        task_masked_accuracy_metrics(record=EvaluationRecord(task_masked=False))
