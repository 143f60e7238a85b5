"""avalanche_ext/plugins/company.py: what is refused, and what is told."""

import copy

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.benchmarks.utils.data_loader import ReplayDataLoader
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from rehearsed import strategy

from avalanche_ext import (
    MultiStrategyBuffer,
    RehearsalPlugin,
    ResidentDataPlugin,
    checkpoint,
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
        ValueError, match="2 rehearsal plugins of one strategy weigh losses"
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


REUSED = "goes on with 20 rows of another run, in this Naive: make a new plugin"


@pytest.mark.parametrize("share", ["plugin", "memory"])
def test_a_memory_of_another_run_is_told_once_a_run(class_stream, share):
    stream = class_stream().train_stream
    plugin = reservoir_replay(20, seed=0)
    strategy([plugin]).train(stream, eval_streams=[])
    if share == "memory":
        plugin = RehearsalPlugin(plugin.buffer)
    for _ in range(2):
        again = strategy([plugin])
        with pytest.warns(UserWarning, match=REUSED) as told:
            again.train(stream[0], eval_streams=[])
        again.train(stream[1], eval_streams=[])
        assert len(told) == 1


def test_a_strategy_that_trained_without_the_plugin_is_another_run(class_stream):
    stream = class_stream().train_stream
    plugin = reservoir_replay(20, seed=0)
    one, other = strategy([plugin]), strategy([])
    for trained in (one, other):
        trained.train(stream[0], eval_streams=[])
    other.plugins.append(plugin)
    with pytest.warns(UserWarning, match=REUSED):
        other.train(stream[1], eval_streams=[])


def test_a_clock_that_starts_again_is_another_run(class_stream):
    stream = class_stream().train_stream
    trained = strategy([reservoir_replay(20, seed=0)])
    trained.train(stream[0], eval_streams=[])
    trained.clock.train_iterations = 0
    with pytest.warns(UserWarning, match=REUSED):
        trained.train(stream[0], eval_streams=[])


@pytest.mark.parametrize("way", ["checkpoint", "state", "added", "copied", "idle"])
def test_rows_that_are_meant_to_be_there_are_not_told(class_stream, tmp_path, way):
    stream = class_stream().train_stream
    first = strategy([plugin := reservoir_replay(20, seed=0)])
    if way == "idle":  # made, and never trained
        plugin.buffer.add(torch.rand(20, 1, 8, 8), torch.arange(20) % 8)
        next_one = strategy([plugin])
    else:
        first.train(stream[0], eval_streams=[])
        second = reservoir_replay(20, seed=0)
        next_one = strategy([second])
        if way == "checkpoint":
            checkpoint.save(first, tmp_path / "run.ckpt")
            next_one, start = checkpoint.load(next_one, tmp_path / "run.ckpt")
            assert start == 1
        elif way == "state":
            second.buffer.load_state_dict(plugin.buffer.state_dict())
        elif way == "added":
            second.buffer.add(torch.rand(20, 1, 8, 8), torch.arange(20) % 8)
        else:
            next_one = copy.deepcopy(first)
    assert next_one.plugins[0].buffer.seen
    next_one.train(stream[1], eval_streams=[])  # warnings are errors here
    next_one.train(stream[2], eval_streams=[])


@pytest.mark.parametrize("resident", [False, True])
def test_a_stream_too_short_to_replay_is_told(class_stream, resident):
    data = [ResidentDataPlugin()] if resident else []
    plugin = reservoir_replay(20, seed=0, feed="experience")
    trained = strategy([plugin, *data], epochs=2)
    stream = class_stream(experiences=1).train_stream
    with pytest.warns(UserWarning, match="no memory row was replayed: feed='exp"):
        trained.train(stream[0], eval_streams=[])
    trained.train(stream[0], eval_streams=[])  # now there is something to replay
    assert plugin.replayed


@pytest.mark.parametrize("batch_size_mem", [0, 4])
def test_the_first_of_several_experiences_is_not_told(class_stream, batch_size_mem):
    for stream in (
        class_stream(experiences=2).train_stream,
        split_online_stream(class_stream(experiences=2).train_stream, 40),
    ):
        plugin = reservoir_replay(20, batch_size_mem=batch_size_mem, feed="experience")
        strategy([plugin]).train(stream, eval_streams=[])
        assert bool(plugin.replayed) == bool(batch_size_mem)
    alone = class_stream(experiences=1).train_stream
    for options in ({"batch_size_mem": 0, "feed": "experience"}, {}):
        strategy([reservoir_replay(20, **options)]).train(alone, eval_streams=[])
