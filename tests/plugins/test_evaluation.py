"""avalanche_ext/plugins/evaluation.py: the same values, fewer visits."""

import pytest
import torch
from avalanche.evaluation.metrics import (
    accuracy_metrics,
    confusion_matrix_metrics,
    forgetting_metrics,
    loss_metrics,
)
from avalanche.logging import CSVLogger, TextLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn

from avalanche_ext import LeanEvaluationPlugin

METRICS = {
    "none": lambda: [],
    "evaluation only": lambda: [
        accuracy_metrics(experience=True),
        forgetting_metrics(stream=True),
    ],
    "everything": lambda: [
        accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        loss_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        forgetting_metrics(experience=True, stream=True),
        confusion_matrix_metrics(num_classes=8, save_image=False, stream=True),
    ],
}


def run(benchmark, evaluator, eval_every=-1, give="evaluator"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.05),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=10,
        eval_mb_size=10,
        evaluator=evaluator,
        eval_every=eval_every,
    )
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[benchmark.test_stream])
        strategy.eval(benchmark.test_stream)
    return strategy if give == "strategy" else strategy.evaluator


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other


@pytest.mark.filterwarnings("ignore:No loggers specified")
@pytest.mark.parametrize("eval_every", [-1, 1])
@pytest.mark.parametrize("name", METRICS)
def test_values_names_and_order_are_upstreams(class_stream, name, eval_every):
    expected = run(class_stream(), EvaluationPlugin(*METRICS[name]()), eval_every)
    lean = run(class_stream(), LeanEvaluationPlugin(*METRICS[name]()), eval_every)
    one, other = expected.get_all_metrics(), lean.get_all_metrics()
    assert list(one) == list(other)
    for curve in one:
        assert one[curve][0] == other[curve][0]
        assert all(map(same, one[curve][1], other[curve][1]))


def test_loggers_write_the_same(class_stream, tmp_path):
    written = []
    for kind in (EvaluationPlugin, LeanEvaluationPlugin):
        with (tmp_path / kind.__name__).open("w") as file:
            csv = CSVLogger(str(tmp_path / f"csv-{kind.__name__}"))
            evaluator = kind(*METRICS["everything"](), loggers=[TextLogger(file), csv])
            run(class_stream(), evaluator)
            csv.close()
        written.append(
            [(tmp_path / kind.__name__).read_text()]
            + [
                p.read_text()
                for p in sorted((tmp_path / f"csv-{kind.__name__}").iterdir())
            ]
        )
    assert written[0] == written[1]
    assert len(written[0][0]) > 1000


def test_idle_callbacks_cost_no_visit(class_stream, monkeypatch):
    visits = []
    visit = LeanEvaluationPlugin._update_metrics_and_loggers
    monkeypatch.setattr(
        LeanEvaluationPlugin,
        "_update_metrics_and_loggers",
        lambda self, strategy, name: visits.append(name) or visit(self, strategy, name),
    )
    run(class_stream(), LeanEvaluationPlugin(*METRICS["evaluation only"]()))
    assert "after_eval_iteration" in visits
    assert not {"before_forward", "after_backward", "after_training_iteration"} & set(
        visits
    )


def test_a_metric_added_later_is_heard(class_stream):
    evaluator = LeanEvaluationPlugin()
    evaluator.metrics += accuracy_metrics(minibatch=True, stream=True)
    names = run(class_stream(), evaluator).get_all_metrics()
    assert any(name.startswith("Top1_Acc_MB") for name in names)
    assert any(name.startswith("Top1_Acc_Stream") for name in names)


@pytest.mark.parametrize("phase", ["train", "eval"])
def test_a_metric_added_between_calls_is_heard_at_the_next_one(class_stream, phase):
    benchmark = class_stream()
    evaluator = LeanEvaluationPlugin()
    strategy = run(benchmark, evaluator, give="strategy")
    evaluator.metrics += accuracy_metrics(minibatch=True, stream=True)
    if phase == "train":
        strategy.train(benchmark.train_stream[0], eval_streams=[])
    else:
        strategy.eval(benchmark.test_stream)
    (name,) = evaluator.get_all_metrics()
    assert name.startswith("Top1_Acc_MB" if phase == "train" else "Top1_Acc_Stream")


def test_unknown_attributes_are_still_errors():
    with pytest.raises(AttributeError, match="no attribute 'before_lunch'"):
        LeanEvaluationPlugin().before_lunch  # noqa: B018
