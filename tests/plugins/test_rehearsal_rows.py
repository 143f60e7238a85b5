"""avalanche_ext/plugins/rehearsal.py: rows of every form are kept and come back."""

from dataclasses import dataclass

import pytest
import torch
from avalanche.benchmarks.scenarios.dataset_scenario import DatasetExperience
from avalanche.benchmarks.utils import (
    DataAttribute,
    TransformGroups,
    make_avalanche_dataset,
)
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from rehearsed import network, strategy
from torch import nn
from torch.utils.data import TensorDataset

from avalanche_ext import (
    MultiStrategyBuffer,
    RehearsalPlugin,
    ResidentDataPlugin,
    class_balanced_replay,
    er_ring,
    reservoir_replay,
)
from avalanche_ext.storage.memory import FACTS


class Dictionary(dict):
    """Nested inputs with the method that Avalanche's template needs of a batch."""

    def to(self, *args, **kwargs):
        return Dictionary({k: v.to(*args, **kwargs) for k, v in self.items()})


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 8)

    def forward(self, x):
        return self.layer(x["image"].flatten(1)) * x["gain"]


def test_nested_inputs(class_stream):
    class Nest(SupervisedPlugin):
        def before_training_iteration(self, strategy, **kwargs):
            image, *rest = strategy.mbatch
            gain = torch.ones(len(image), 1)
            strategy.mbatch = [Dictionary(image=image, gain=gain), *rest]

    plugin = er_ring(16, batch_size_mem=4, seed=0)
    trained = strategy([Nest(), plugin], TwoInputs())
    for experience in class_stream().train_stream:
        trained.train(experience, eval_streams=[])
    assert set(plugin.buffer.sample(3)["x"].keys()) == {"image", "gain"}
    assert plugin.replayed


@pytest.mark.parametrize("preset", [er_ring, class_balanced_replay])
@pytest.mark.parametrize("feed", ["first_epoch", "experience"])
def test_labels_from_zero_in_each_task_are_classes_of_their_own(preset, feed):
    buffer = preset(12, seed=0).buffer
    for task in range(3):
        x, y = torch.zeros(40, 1), torch.arange(40) % 2
        if feed == "first_epoch":
            buffer.add(x, y, torch.full((40,), task))
        else:
            attributes = [DataAttribute(y.tolist(), "targets"), TaskLabels([task] * 40)]
            dataset = make_avalanche_dataset(
                TensorDataset(x, y), data_attributes=attributes
            )
            buffer.post_adapt(None, DatasetExperience(dataset=dataset))
    pairs = torch.stack((buffer.table.column("task"), buffer.table.column("y")), 1)
    found, counts = pairs.unique(dim=0, return_counts=True)
    assert len(found) == 6
    assert set(counts.tolist()) == {2}


@dataclass(frozen=True)
class Permute:
    """A task of permuted images: deterministic, and another one each time."""

    seed: int
    batched = True

    def __call__(self, x):
        order = torch.randperm(64, generator=torch.Generator().manual_seed(self.seed))
        return x.flatten(-3)[..., order].view(x.shape).div(255)


def permuted(class_stream, same=False):
    stream = class_stream(scale=False).train_stream
    experiences = []
    for number, experience in enumerate(stream):
        x = torch.stack([(row * 255).round() for row, _ in experience.dataset]).to(
            torch.uint8
        )
        y = torch.tensor([int(target) for _, target in experience.dataset])
        step = Permute(0 if same else number)
        dataset = make_avalanche_dataset(
            TensorDataset(x, y),
            data_attributes=[DataAttribute(y.tolist(), "targets")],
            transform_groups=TransformGroups({"train": step, "eval": step}),
        )
        experiences.append(
            DatasetExperience(dataset=dataset, current_experience=number)
        )
    return experiences


@pytest.mark.parametrize("feed", ["first_epoch", "experience"])
@pytest.mark.parametrize("same", [False, True])
def test_rows_keep_the_transform_that_they_came_with(class_stream, feed, same):
    trained, plugins = [], []
    for resident in ([], [ResidentDataPlugin()]):
        plugin = reservoir_replay(20, batch_size_mem=4, seed=0, feed=feed)
        trained.append(strategy([plugin, *resident]))
        plugins.append(plugin)
        torch.manual_seed(5)
        for experience in permuted(class_stream, same):
            trained[-1].train(experience, eval_streams=[])
    for a, b in zip(
        trained[0].model.parameters(), trained[1].model.parameters(), strict=True
    ):
        assert torch.equal(a, b)
    kept = plugins[1].buffer.table.column("x").dtype
    assert kept == (torch.uint8 if same else torch.float32)


def test_a_loaded_memory_refuses_another_transform(class_stream):
    first, second = permuted(class_stream)[:2]
    plugin = reservoir_replay(20, batch_size_mem=4, seed=0)
    strategy([plugin, ResidentDataPlugin()]).train(first, eval_streams=[])
    state = plugin.buffer.state_dict()

    def go_on(experience, **options):
        loaded = reservoir_replay(20, batch_size_mem=4, seed=0, **options)
        loaded.buffer.load_state_dict(state)
        assert loaded.buffer.state_dict()["before"] == state["before"]
        strategy([loaded, ResidentDataPlugin()]).train(experience, eval_streams=[])
        return loaded.buffer.table.column("x").dtype

    assert go_on(first) == torch.uint8
    assert go_on(second, transform=Permute(0)) == torch.uint8
    with pytest.raises(
        ValueError, match=r"before another transform than Chain.*give Rehearsal"
    ):
        go_on(second)


def with_items(class_stream, tasks, noise=False):
    """Streams whose leaf gives ``(x, y, number of the row)``, with task labels or not.

    :param noise: the third item is a fraction instead.
    """
    experiences = []
    for number, experience in enumerate(class_stream(scale=False).train_stream):
        x = torch.stack([row for row, _ in experience.dataset])
        y = torch.tensor([int(target) for _, target in experience.dataset])
        extra = torch.arange(len(y)) + 100 * number
        attributes = [DataAttribute(y.tolist(), "targets")]
        if tasks:
            attributes.append(TaskLabels([number] * len(y)))
        dataset = make_avalanche_dataset(
            TensorDataset(x, y, extra / 1000 if noise else extra),
            data_attributes=attributes,
        )
        experiences.append(
            DatasetExperience(dataset=dataset, current_experience=number)
        )
    return experiences


class Items(SupervisedPlugin):
    """Keeps every minibatch that the loss is made of."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def before_backward(self, strategy, **kwargs):
        self.batches.append(list(strategy.mbatch))


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("tasks", [False, True])
@pytest.mark.parametrize("feed", ["first_epoch", "experience"])
@pytest.mark.parametrize("make", [reservoir_replay, er_ring])
def test_further_items_are_kept_and_replayed(class_stream, make, feed, tasks, noise):
    """Whichever way the memory is fed, and they are no task labels."""
    plugin = make(16, batch_size_mem=4, seed=0, feed=feed)
    items = Items()
    experiences = with_items(class_stream, tasks, noise)
    trained = strategy([plugin, items])
    for experience in experiences:
        trained.train(experience, eval_streams=[])
    rows = {}
    for experience in experiences:
        for x, y, extra, *task in experience.dataset:
            rows[float(extra)] = (x, int(y), *map(int, task))
    assert len(rows) == 160
    assert plugin.replayed
    for x, y, extra, *task in items.batches:
        for i in range(len(y)):
            own = (x[i], int(y[i]), *(int(t[i]) for t in task))
            expected = rows[float(extra[i])]
            assert torch.equal(own[0], expected[0])
            assert own[1:] == expected[1:]
    columns = {"x", "y", "item2", *FACTS} | ({"task"} if tasks else set())
    assert set(plugin.buffer.table.columns) == columns
    for x, y, extra, *task in plugin.buffer.buffer:
        expected = rows[float(extra)]
        assert torch.equal(x, expected[0])
        assert (int(y), *map(int, task)) == expected[1:]
    if make is er_ring:  # each class has its share, whatever its rows are numbered
        keys = [(c // 2, c) if tasks else c for c in range(8)]
        assert plugin.buffer.class_counts() == dict.fromkeys(keys, 2)


class Number:
    """The third item."""

    name = "number"

    def score(self, rows, context):
        return rows["item2"].float()


@pytest.mark.parametrize("tasks", [False, True])
@pytest.mark.parametrize("admission", ["reservoir", "score"])
def test_criteria_read_further_items(class_stream, tasks, admission):
    """Of rows that arrive, that are drawn, and that are scored at the end."""
    memory = MultiStrategyBuffer(
        16, criteria=[Number()], sampling="number", admission=admission, seed=0
    )
    trained = strategy([RehearsalPlugin(memory, 4)])
    for experience in with_items(class_stream, tasks):
        trained.train(experience, eval_streams=[])
        table = memory.table
        assert torch.equal(table.column("score_number"), table.column("item2").float())


class First:
    """The first output, by a pass of its own."""

    name = "first"
    reads = ()

    def score(self, rows, context):
        assert ("task" in rows) == self.tasks
        with torch.no_grad():
            return context.forward(rows["x"], rows.get("task"))[:, 0]


@pytest.mark.parametrize("tasks", [False, True])
@pytest.mark.parametrize("resident", [False, True])
def test_a_pass_of_its_own_is_of_the_rows_as_the_step_has_them(
    class_stream, resident, tasks
):
    """Transformed once where they are stored raw, and with their task labels."""
    criterion = First()
    criterion.tasks = tasks
    options = {"criteria": [criterion], "sampling": "first", "refresh_at_end": False}
    memory = MultiStrategyBuffer(20, seed=0, **options)
    plugins = [ResidentDataPlugin()] * resident + [RehearsalPlugin(memory, 5)]
    model = network()
    trained = strategy(plugins, model)
    trained.optimizer.param_groups[0]["lr"] = 0.0
    for experience in class_stream(experiences=2, tasks=tasks).train_stream:
        trained.train(experience, eval_streams=[])
    x = memory.table.column("x")
    assert (x.dtype is torch.uint8) == resident == (memory.transform is not None)
    expected = model(memory.transform(x) if resident else x)[:, 0]
    torch.testing.assert_close(memory.table.column("score_first"), expected.detach())


def test_further_items_in_upstreams_replay_plugin(class_stream):
    buffer = MultiStrategyBuffer(16, seed=0)
    items = Items()
    trained = strategy([ReplayPlugin(16, storage_policy=buffer), items])
    for experience in with_items(class_stream, tasks=False):
        trained.train(experience, eval_streams=[])
    assert all(len(batch) == 3 for batch in items.batches)
    numbers = torch.cat([extra for _, _, extra in items.batches[-5:]])
    assert (numbers < 300).any()
    assert (numbers >= 300).any()


@pytest.mark.parametrize("feed", ["first_epoch", "experience"])
def test_task_labels_that_are_not_the_last_item_are_refused(class_stream, feed):
    x, y = torch.zeros(16, 1, 8, 8), torch.arange(16) % 2
    dataset = make_avalanche_dataset(
        TensorDataset(x, y),
        data_attributes=[
            DataAttribute(y.tolist(), "targets"),
            TaskLabels([0] * 16),
            DataAttribute(torch.rand(16), "weight", use_in_getitem=True),
        ],
    )
    experience = DatasetExperience(dataset=dataset, current_experience=0)
    plugin = reservoir_replay(16, batch_size_mem=4, seed=0, feed=feed)
    with pytest.raises(ValueError, match=r"float.*task labels the last") as error:
        strategy([plugin]).train(experience, eval_streams=[])
    assert "\n" not in str(error.value)
    assert plugin.buffer.seen == 0
    with pytest.raises(ValueError, match=r"float.*task labels the last"):
        plugin.buffer.post_adapt(None, experience)


class OneHot(SupervisedPlugin):
    def before_training_iteration(self, strategy, **kwargs):
        strategy.mbatch[1] = nn.functional.one_hot(strategy.mb_y, 8).float()


def test_one_hot_targets(class_stream):
    stream = class_stream().train_stream
    plugin = reservoir_replay(16, batch_size_mem=4, seed=0)
    strategy([OneHot(), plugin]).train(stream[0], eval_streams=[])
    assert plugin.buffer.table.column("y").shape == (16, 8)
    for preset in (er_ring, class_balanced_replay):
        plugin = preset(16, batch_size_mem=4, seed=0)
        with pytest.raises(ValueError, match=r"\(8, 8\).*argmax.*'reservoir'"):
            strategy([OneHot(), plugin]).train(stream[0], eval_streams=[])
