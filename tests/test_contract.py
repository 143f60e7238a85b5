"""What every method honours. Adding a method is a row of ``METHODS``."""

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.models import IncrementalClassifier, MTSimpleMLP
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.supervised import Naive
from torch import nn

from avalanche_ext import (
    AdaptiveEWCPlugin,
    LeanEvaluationPlugin,
    SynapticIntelligencePlugin,
    class_balanced_replay,
    er_ring,
    multi_strategy_replay,
    reservoir_replay,
)


@dataclass(frozen=True)
class Method:
    """A plugin to hold to the contract.

    :param make: the plugin, at a strength that matters.
    :param off: the plugin at strength zero.
    :param stateful: the part of a plugin that has a ``state_dict``.
    """

    make: Callable[[], Any]
    off: Callable[[], Any]
    stateful: Callable[[Any], Any]


METHODS = {
    preset.__name__: Method(
        make=lambda preset=preset: preset(16, batch_size_mem=4, seed=0),
        off=lambda preset=preset: preset(16, batch_size_mem=0, seed=0),
        stateful=lambda plugin: plugin.buffer,
    )
    for preset in (
        reservoir_replay,
        er_ring,
        class_balanced_replay,
        multi_strategy_replay,
    )
}

BY_CRITERIA = {"admission": "score", "criteria": ["forgetting", "gradient"], "seed": 0}
METHODS |= {
    "multi_strategy_replay by criteria": Method(
        make=lambda: multi_strategy_replay(16, batch_size_mem=4, **BY_CRITERIA),
        off=lambda: multi_strategy_replay(16, batch_size_mem=0, **BY_CRITERIA),
        stateful=lambda plugin: plugin.buffer,
    ),
    "adaptive_ewc": Method(
        make=lambda: AdaptiveEWCPlugin(10.0, seed=0),
        off=lambda: AdaptiveEWCPlugin(0.0, seed=0),
        stateful=lambda plugin: plugin,
    ),
    "synaptic_intelligence": Method(
        make=lambda: SynapticIntelligencePlugin(1.0),
        off=lambda: SynapticIntelligencePlugin(0.0),
        stateful=lambda plugin: plugin,
    ),
}

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 10),
            nn.BatchNorm1d(10),
            nn.ReLU(),
            nn.Dropout(0.2),
        )
        self.head = IncrementalClassifier(10, 2)

    def forward(self, x):
        return self.head(self.body(x))


MODELS = {
    "growing": (Growing, False),
    "fixed": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), False),
    "multi-head": (lambda: MTSimpleMLP(input_size=64, hidden_size=10), True),
}
every_model = pytest.mark.parametrize("model", ["growing", "multi-head"])


def strategy(plugins, model="growing", seed=0):
    torch.manual_seed(seed)
    network = MODELS[model][0]()
    return Naive(
        model=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.05, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        train_epochs=2,
        plugins=plugins,
        evaluator=LeanEvaluationPlugin(),
    )


def train(class_stream, plugins, model="growing", seed=0, experiences=2):
    trained = strategy(plugins, model, seed)
    benchmark = class_stream(experiences=experiences, tasks=MODELS[model][1])
    for experience in benchmark.train_stream:
        trained.train(experience, eval_streams=[])
        trained.eval(benchmark.test_stream)
    return trained


def weights(trained):
    return {name: value.clone() for name, value in trained.model.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k]) for k in one
    )


@every_method
@every_model
def test_it_changes_training_and_the_same_seed_repeats_it(method, model, class_stream):
    plain = weights(train(class_stream, [], model))
    once = weights(train(class_stream, [method.make()], model))
    again = weights(train(class_stream, [method.make()], model))
    assert equal(once, again)
    assert not equal(once, plain)


@every_method
@every_model
def test_off_is_plain_training_bit_for_bit(method, model, class_stream):
    plain = train(class_stream, [], model)
    after = torch.rand(1)
    off = train(class_stream, [method.off()], model)
    assert torch.rand(1) == after  # no random number was drawn
    assert equal(weights(plain), weights(off))


@every_method
def test_it_leaves_modes_buffers_and_gradients_alone(method, class_stream):
    plugin = method.make()
    trained = train(class_stream, [plugin])
    benchmark = class_stream(experiences=3)
    frozen = trained.model.body[2]
    batches = []

    class Look(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            frozen.eval()  # a user froze the statistics

        def after_forward(self, strategy, **kwargs):
            batches.append(len(strategy.mb_y))
            assert all(p.grad is None for p in strategy.model.parameters())
            assert not frozen.training
            assert strategy.model.body[4].training

    trained.plugins.insert(1, Look())
    statistics = frozen.running_mean.clone()
    flags = [p.requires_grad for p in trained.model.parameters()]
    trained.train(benchmark.train_stream[2], eval_streams=[])
    assert batches
    assert torch.equal(frozen.running_mean, statistics)
    assert [p.requires_grad for p in trained.model.parameters()][:4] == flags[:4]
    assert trained.model.training


@every_method
def test_state_round_trip(method, class_stream):
    plugin = method.make()
    train(class_stream, [plugin], "fixed")
    file = io.BytesIO()
    torch.save(method.stateful(plugin).state_dict(), file)
    file.seek(0)
    loaded = method.make()
    method.stateful(loaded).load_state_dict(torch.load(file, weights_only=True))
    plugin = copy.deepcopy(plugin)  # itself would be told of two runs
    one = weights(train(class_stream, [plugin], "fixed", seed=4, experiences=4))
    other = weights(train(class_stream, [loaded], "fixed", seed=4, experiences=4))
    assert equal(one, other)


@every_method
def test_it_survives_an_online_stream(method, class_stream):
    trained = strategy([method.make()])
    stream = class_stream(experiences=2).train_stream
    online = split_online_stream(stream, 8, seed=0, access_task_boundaries=True)
    trained.train(online, eval_streams=[])
    assert all(p.isfinite().all() for p in trained.model.parameters())
