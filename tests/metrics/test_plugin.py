"""avalanche_ext/metrics/plugin.py: which callbacks cost something, and when."""

import dill
import pytest
from avalanche.evaluation import PluginMetric

from avalanche_ext.metrics import (
    EvaluationRecord,
    accuracy_metrics,
    backward_transfer_metrics,
    forgetting_metrics,
    memory_metrics,
    task_masked_accuracy_metrics,
)


class Memory:
    max_size = 4

    def __len__(self):
        return 0

    def class_counts(self):
        return {}


def every_metric(record=None):
    return [
        *accuracy_metrics(record=record),
        *task_masked_accuracy_metrics(record=record),
        *forgetting_metrics(record=record),
        *forgetting_metrics(record=record, definition="first"),
        *backward_transfer_metrics(record=record),
    ]


def test_no_metric_listens_while_a_minibatch_is_trained():
    allowed = {
        "before_training_exp",
        "before_eval",
        "before_eval_exp",
        "after_eval_iteration",
        "after_eval_exp",
        "after_eval",
    }
    for metric in [*every_metric(), *memory_metrics(Memory())]:
        listens = {
            name
            for name in dir(PluginMetric)
            if name.startswith(("before_", "after_"))
            and getattr(type(metric), name) is not getattr(PluginMetric, name)
        }
        assert listens <= allowed, metric


@pytest.mark.parametrize("online", [False, True])
def test_a_shared_record_gives_the_values_of_separate_ones(lab, online):
    bm = lab.build("class")
    values = []
    for metrics in (every_metric(EvaluationRecord()), every_metric()):
        strategy = lab.naive(metrics)
        strategy.eval(bm.test_stream)
        for experience in bm.train_stream:
            if online:
                for sub in lab.subexperiences(experience, 7):
                    strategy.train(sub)
            else:
                strategy.train(experience)
            strategy.eval(bm.test_stream)
        values.append(dict(strategy.evaluator.get_all_metrics()))
    assert values[0] == values[1]
    # 4 evaluations; forgetting and transfer exist in the last two
    lengths = {name: len(ys) for name, (_, ys) in values[0].items()}
    assert lengths == {
        **{
            f"{name}/eval_phase/test_stream/Exp{i:03}": n
            for name, at in (
                ("Top1_Acc_Exp", (4, 4, 4)),
                ("Top1_TaskMaskedAcc_Exp", (4, 4, 4)),
                ("MaxForgetting_Exp", (2, 1)),
                ("ExperienceForgetting", (2, 1)),
                ("ExperienceBWT", (2, 1)),
            )
            for i, n in enumerate(at)
        },
        **{
            f"{name}/eval_phase/test_stream": n
            for name, n in (
                ("Top1_Acc_Stream", 4),
                ("Top1_TaskMaskedAcc_Stream", 4),
                ("MaxForgetting_Stream", 2),
                ("StreamForgetting", 2),
                ("StreamBWT", 2),
            )
        },
    }


def test_values_are_placed_at_the_iterations_trained(lab):
    bm = lab.build("class")
    strategy = lab.naive(accuracy_metrics(stream=False))
    strategy.eval(bm.test_stream[0])
    strategy.train(bm.train_stream[0])
    strategy.eval(bm.test_stream[0])
    ((xs, _),) = strategy.evaluator.get_all_metrics().values()
    assert xs == [0, 4]


def test_an_empty_evaluation_emits_nothing(lab):
    strategy = lab.naive(every_metric(EvaluationRecord()))
    strategy.eval([])
    assert strategy.evaluator.get_all_metrics() == {}


def test_reset_empties_the_record(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    metrics = every_metric(record)
    strategy = lab.naive(metrics)
    strategy.train(bm.train_stream[0])
    strategy.eval(bm.test_stream)
    metrics[0].reset()
    assert record.accuracy_matrix == []
    assert [metric.result() for metric in metrics] == [None] * len(metrics)


def test_results_can_be_asked_for_before_any_evaluation():
    assert all(metric.result() is None for metric in every_metric())


def test_metrics_pickle_with_their_shared_record(lab):
    bm = lab.build("class")
    strategy = lab.naive(every_metric(EvaluationRecord()))
    strategy.train(bm.train_stream[0])
    strategy.eval(bm.test_stream)
    strategy.train(bm.train_stream[1])
    strategy.eval(bm.test_stream)
    metrics = strategy.evaluator.metrics
    copies = dill.loads(dill.dumps(metrics))
    assert len({id(copy.record) for copy in copies}) == 1
    assert [str(copy) for copy in copies] == [str(metric) for metric in metrics]
    assert [m.result() for m in copies] == [m.result() for m in metrics]
