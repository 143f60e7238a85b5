"""avalanche_ext/plugins/company.py: what does not go together is refused."""

import pytest
from avalanche.benchmarks.utils.data_loader import ReplayDataLoader
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from rehearsed import strategy

from avalanche_ext import (
    MultiStrategyBuffer,
    RehearsalPlugin,
    ResidentDataPlugin,
    er_ring,
    reservoir_replay,
)


@pytest.mark.parametrize("first", [False, True])
def test_upstreams_replay_is_refused_before_training(class_stream, first):
    plugin = reservoir_replay(20, seed=0)
    plugins = [plugin, ReplayPlugin(20)]
    trained = strategy(plugins[::-1] if first else plugins)
    with pytest.raises(ValueError, match="ReplayPlugin puts memory rows") as error:
        trained.train(class_stream().train_stream[0], eval_streams=[])
    assert "\n" not in str(error.value)
    assert plugin.buffer.seen == 0


@pytest.mark.parametrize("data", [[], [ResidentDataPlugin()]])
def test_any_other_replaying_loader_is_refused(class_stream, data):
    stream = class_stream().train_stream

    class Own(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            strategy.dataloader = ReplayDataLoader(
                strategy.adapted_dataset, stream[1].dataset, batch_size=8
            )

    plugin = reservoir_replay(20, seed=0)
    trained = strategy([plugin, Own(), *data])
    with pytest.raises(ValueError, match="a plugin with a ReplayDataLoader puts"):
        trained.train(stream[0], eval_streams=[])
    assert plugin.buffer.seen == 0


def test_loss_weights_of_two_are_refused(class_stream):
    plugins = [
        reservoir_replay(20, seed=0, loss_weights=(1, 0.5)),
        er_ring(20, seed=0, loss_weights=(2, 3)),
    ]
    with pytest.raises(
        ValueError, match=r"have loss_weights, \(1, 0.5\) and \(2, 3\): give them to"
    ):
        strategy(plugins).train(class_stream().train_stream[0], eval_streams=[])


@pytest.mark.parametrize("same_plugin", [False, True])
def test_one_memory_of_two_plugins_is_refused(class_stream, same_plugin):
    buffer = MultiStrategyBuffer(20, seed=0)
    plugin = RehearsalPlugin(buffer)
    trained = strategy([plugin, plugin if same_plugin else RehearsalPlugin(buffer)])
    with pytest.raises(ValueError, match=r"the same memory.*a memory of its own"):
        trained.train(class_stream().train_stream[0], eval_streams=[])
    assert buffer.seen == 0
