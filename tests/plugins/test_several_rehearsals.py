"""avalanche_ext/plugins/rehearsal.py: several memories in one strategy."""

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.training.plugins import SupervisedPlugin
from rehearsed import network, strategy
from torch import nn
from torch.utils.data import DataLoader

from avalanche_ext import ResidentDataPlugin, er_ring, reservoir_replay

SIZES = (5, 3)  # rows replayed of each memory


def two(order=(0, 1), presets=(reservoir_replay, er_ring), of=0, **options):
    """A reservoir and a ring, in either order; ``options`` are of one of them."""
    made = [
        preset(20, batch_size_mem=SIZES[i], seed=i, **(options if of == i else {}))
        for i, preset in enumerate(presets)
    ]
    return [made[i] for i in order]


class Watch(SupervisedPlugin):
    """Notes the minibatch and the masks that the loss is made with."""

    def __init__(self, plugins):
        super().__init__()
        self.plugins, self.batches, self.lengths = plugins, [], []

    def before_backward(self, strategy, **kwargs):
        masks = [plugin.mask for plugin in self.plugins]
        self.batches.append((strategy.mb_x, strategy.mb_y, masks))

    def after_training_iteration(self, strategy, **kwargs):
        self.lengths.append(len(strategy.mb_y))
        assert len(strategy.mb_output) == len(strategy.mb_y) == len(strategy.mb_x)


def written_out(benchmark, plugins, weighted, weights):
    """Two list memories, told slots and draws by the memories of ``plugins``.

    :param weighted: which of them has the weights.
    """
    model, criterion, lists = network(), nn.CrossEntropyLoss(), [{}, {}]
    memories = [plugin.buffer for plugin in plugins]
    sizes = [plugin.batch_size_mem for plugin in plugins]
    for experience in benchmark.train_stream:
        loader = DataLoader(experience.dataset.train(), batch_size=8, shuffle=True)
        for x, y in loader:
            model.zero_grad()
            groups = [(x, y)]
            for memory, rows, size in zip(memories, lists, sizes, strict=True):
                if rows:
                    drawn = [rows[i] for i in memory.draw(size).index.tolist()]
                    groups.append(tuple(map(torch.stack, zip(*drawn, strict=True))))
            own = groups.pop(1 + weighted) if weights and len(groups) > 1 else None
            all_x, all_y = (torch.cat(column) for column in zip(*groups, strict=True))
            loss = criterion(model(all_x), all_y)
            if own is not None:
                loss = weights[0] * loss + weights[1] * criterion(model(own[0]), own[1])
            loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.05 * parameter.grad
            for memory, rows in zip(memories, lists, strict=True):
                for position, slot in enumerate(memory.add(x, y).tolist()):
                    if slot >= 0:
                        rows[slot] = (x[position], y[position])
    return model


@pytest.mark.parametrize("weights", [None, (0.5, 2.0)])
@pytest.mark.parametrize("of", [0, 1])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_training_equals_the_written_out_loop(class_stream, order, of, weights):
    benchmark = class_stream(scale=False)
    reservoirs = (reservoir_replay, reservoir_replay)  # rows stay in their slots
    plugins = two(order, reservoirs, of, loss_weights=weights)
    trained = strategy(plugins)
    for experience in benchmark.train_stream:
        trained.train(experience, eval_streams=[])
    alike = two(order, reservoirs)
    expected = written_out(benchmark, alike, order.index(of), weights)
    for a, b in zip(trained.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("metrics_of", [None, 0, 1])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_memory_is_that_of_the_plugin_alone(
    class_stream, order, metrics_of, resident
):
    """Fed with the current rows, from before their transform where that is known."""
    options = {} if metrics_of is None else {"train_metrics": "current"}
    data = [ResidentDataPlugin()] if resident else []

    def run(plugins):
        watch = Watch(plugins)
        trained = strategy([*plugins, watch, *data], epochs=2)
        torch.manual_seed(5)
        for experience in class_stream(experiences=3).train_stream:
            trained.train(experience, eval_streams=[])
        return watch

    both = two(order, of=metrics_of, **options)
    watch = run(both)
    for number, plugin in zip(order, both, strict=True):
        (alone,) = two((number,))
        run([alone])
        assert plugin.buffer.seen == alone.buffer.seen == 120
        for name in ("x", "y", "arrival"):
            mine, expected = (p.buffer.table.column(name) for p in (plugin, alone))
            assert mine.dtype == expected.dtype
            assert torch.equal(mine, expected)
        assert mine.dtype == torch.int64
        assert plugin.buffer.table.column("x").dtype == (
            torch.uint8 if resident else torch.float32
        )
        assert plugin.replayed == (len(watch.batches) - 1) * SIZES[number]
    rows = 8 if metrics_of is not None else 8 + sum(SIZES)
    assert set(watch.lengths[1:]) == {rows}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_masks_tell_the_memories_apart(class_stream, order):
    plugins = two(order)
    watch = Watch(plugins)
    trained = strategy([*plugins, watch])
    stream = class_stream(scale=False).train_stream
    trained.train(split_online_stream(stream, 8, seed=0), eval_streams=[])
    first, *batches = watch.batches
    assert [mask.tolist() for mask in first[2]] == [[False] * 8] * 2
    assert len(batches) == 19
    for x, y, (one, other) in batches:
        assert len(x) == len(y) == len(one) == len(other)
        assert one.nonzero()[:, 0].tolist() == list(range(8, 8 + SIZES[order[0]]))
        assert other.nonzero()[:, 0].tolist() == list(range(8 + SIZES[order[0]], 16))


def test_a_memory_that_is_off_has_an_empty_mask_of_the_whole_batch(class_stream):
    off, on = reservoir_replay(9, batch_size_mem=0), er_ring(9, batch_size_mem=4)
    watch = Watch([off, on])
    strategy([off, on, watch]).train(class_stream().train_stream[0], eval_streams=[])
    assert [mask.sum().item() for mask in watch.batches[-1][2]] == [0, 4]
    assert [len(mask) for mask in watch.batches[-1][2]] == [12, 12]
    assert off.buffer.seen == on.buffer.seen == 40


@pytest.mark.parametrize("in_place", [False, True])
def test_a_plugin_between_them(class_stream, in_place):
    class Flip(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            flipped = strategy.mb_x.flip(-1)
            if in_place:
                strategy.mbatch[0] = flipped
            else:
                strategy.mbatch = [flipped, strategy.mb_y]

    one, other = two()
    trained = strategy([one, Flip(), other])
    experience = class_stream().train_stream[0]
    if in_place:
        trained.train(experience, eval_streams=[])
        assert one.buffer.seen == other.buffer.seen == 40
    else:
        with pytest.raises(ValueError, match="put a list in place of"):
            trained.train(experience, eval_streams=[])
        assert other.buffer.seen == 0
        alone = reservoir_replay(20, seed=0)  # before or after a single one: as ever
        strategy([Flip(), alone, Flip()]).train(experience, eval_streams=[])
        assert alone.buffer.seen == 40
