"""experiments/iterations.py: each experience takes as many iterations as asked for."""

import pytest
import torch
from avalanche.training.supervised import Naive
from torch import nn

from avalanche_ext import LeanEvaluationPlugin, ResidentDataPlugin, reservoir_replay
from experiments.iterations import IterationLimit


class Seen:
    """Rows of each iteration, and how many epochs began."""

    def __init__(self):
        self.batches, self.epochs = [], 0

    def before_training_epoch(self, strategy, **kwargs):
        self.epochs += not strategy._stop_training

    def after_training_iteration(self, strategy, **kwargs):
        self.batches.append(strategy.mb_x[:8].flatten(1)[:, :6].clone())


def trained(stream, limit, resident, replay):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    seen = Seen()
    plugins = [ResidentDataPlugin()] if resident else []
    if replay:
        plugins.insert(0, reservoir_replay(8, batch_size_mem=4, seed=0))
    if limit:
        plugins.append(IterationLimit(limit))
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        train_epochs=2,
        evaluator=LeanEvaluationPlugin(),
        plugins=[*plugins, seen],
    )
    for experience in stream:
        strategy.train(experience, eval_streams=[])
    return seen, strategy


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("replay", [True, False])
@pytest.mark.parametrize("limit", [1, 4, 5, 10, 13])
def test_each_experience_takes_that_many(class_stream, limit, resident, replay):
    """Of 40 rows by 8: five in an epoch."""
    stream = class_stream(experiences=3).train_stream
    seen, strategy = trained(stream, limit, resident, replay)
    assert len(seen.batches) == 3 * limit
    assert seen.epochs == 3 * -(-limit // 5)
    assert strategy.clock.train_iterations == 3 * limit


def test_whole_epochs_are_the_same_as_epochs(class_stream):
    stream = class_stream(experiences=2).train_stream
    one, first = trained(stream, None, True, True)
    two, second = trained(stream, 10, True, True)
    assert all(map(torch.equal, one.batches, two.batches))
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_last_epoch_is_the_begin_of_one(class_stream):
    stream = class_stream(experiences=1).train_stream
    whole, _ = trained(stream, 10, True, False)
    cut, _ = trained(stream, 7, True, False)
    assert all(map(torch.equal, cut.batches, whole.batches[:7]))
