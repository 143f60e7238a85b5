"""avalanche_ext/plugins/resident_data.py: the same training, without the loaders."""

import pickle
import warnings
from collections import UserDict

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from torch import nn
from torch.utils.data import Dataset

from avalanche_ext import (
    LeanEvaluationPlugin,
    MultiStrategyBuffer,
    ResidentDataPlugin,
    class_balanced_replay,
    reservoir_replay,
)
from avalanche_ext.storage.batches import ResidentLoader
from avalanche_ext.storage.leaf import NotResident
from avalanche_ext.storage.rows import leaves


class Watch(SupervisedPlugin):
    """Notes the loaders and the rows seen."""

    def __init__(self):
        super().__init__()
        self.loaders, self.rows = set(), []

    def before_training_epoch(self, strategy, **kwargs):
        self.loaders.add(type(strategy.dataloader))

    def before_eval_iteration(self, strategy, **kwargs):
        self.loaders.add(type(strategy.dataloader))
        self.note(strategy.mb_x)

    def before_forward(self, strategy, **kwargs):
        self.note(strategy.mb_x)

    def note(self, x):
        self.rows.append(sum(leaf.sum().item() for _, leaf in leaves(x)))


def mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 8)
    )


def run(benchmark, resident, plugins=(), online=False, epochs=2, model=mlp, **options):
    torch.manual_seed(3)
    model = model()
    watch = Watch()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.05),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=7,
        eval_mb_size=9,
        train_epochs=epochs,
        plugins=[
            *plugins,
            watch,
            *([ResidentDataPlugin(**options)] if resident else []),
        ],
        evaluator=LeanEvaluationPlugin(),
    )
    for experience in benchmark.train_stream:
        stream = split_online_stream([experience], 11, seed=1) if online else experience
        strategy.train(stream, eval_streams=[])
        strategy.eval(benchmark.test_stream)
    return strategy, watch


@pytest.mark.parametrize("tasks", [False, True])
@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_bit_for_bit_the_training_of_avalanches_loader(
    class_stream, tasks, online, scale
):
    benchmark = class_stream(tasks=tasks, scale=scale)
    one, seen = run(benchmark, False, online=online)
    other, resident = run(benchmark, True, online=online)
    assert resident.loaders == {ResidentLoader}
    assert ResidentLoader not in seen.loaders
    assert seen.rows == resident.rows
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("preset", [reservoir_replay, class_balanced_replay])
@pytest.mark.parametrize("tasks", [False, True])
def test_replay_of_raw_rows_equals_replay_of_transformed_ones(
    class_stream, preset, tasks
):
    benchmark = class_stream(tasks=tasks)
    plain, resident = preset(30, batch_size_mem=5, seed=0), preset(
        30, batch_size_mem=5, seed=0
    )
    one, _ = run(benchmark, False, [plain])
    other, _ = run(benchmark, True, [resident])
    assert plain.buffer.table.column("x").dtype == torch.float32
    assert resident.buffer.table.column("x").dtype == torch.uint8
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("tasks", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_upstreams_replay_of_a_memory_of_ours_is_gathered_too(
    class_stream, tasks, scale
):
    benchmark = class_stream(tasks=tasks, scale=scale)
    memories = [MultiStrategyBuffer(30, seed=0) for _ in range(2)]
    plain, resident = (
        ReplayPlugin(30, 7, 7, storage_policy=memory) for memory in memories
    )
    one, seen = run(benchmark, False, [plain])
    other, there = run(benchmark, True, [resident])
    assert there.loaders == {ResidentLoader}
    assert ResidentLoader not in seen.loaders
    assert seen.rows == there.rows
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


class TwoSensors(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(64, 8), nn.Linear(3, 8)

    def forward(self, x):
        return self.one(x["image"].flatten(1)) + self.two(x["more"]["numbers"])


class Moving(dict):
    """Avalanche moves inputs by a method of theirs."""

    def to(self, device, **options):
        return self


class Encoding(UserDict):
    """As tokenizers give them."""

    def to(self, device, **options):
        return self


def sensors(kind, n=40):
    """Two experiences whose inputs are nested mappings of tensors."""

    class Sensors(Dataset):
        def __init__(self, seed):
            generator = torch.Generator().manual_seed(seed)
            self.image = torch.rand(n, 1, 8, 8, generator=generator)
            self.numbers = torch.rand(n, 3, generator=generator)
            self.targets = (torch.arange(n) % 2 + 2 * seed).tolist()

        def __len__(self):
            return n

        def __getitem__(self, i):
            more = kind({"numbers": self.numbers[i]})
            return kind({"image": self.image[i], "more": more}), self.targets[i]

    made = [as_classification_dataset(Sensors(seed)) for seed in range(2)]
    return benchmark_from_datasets(train=made, test=made)


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("kind", [Moving, Encoding])
def test_nested_inputs_are_gathered_and_replayed(kind, online):
    weights, memories = [], []
    for resident in (False, True):
        replay = reservoir_replay(20, batch_size_mem=5, seed=0)
        strategy, watch = run(
            sensors(kind), resident, [replay], online, model=TwoSensors
        )
        assert (watch.loaders == {ResidentLoader}) is resident
        assert replay.replayed
        weights.append(list(strategy.model.parameters()))
        memories.append(replay.buffer.table.column("x")["more"]["numbers"])
    for a, b in zip(*weights, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(*memories)


def test_nothing_grows_with_the_sub_experiences(class_stream):
    benchmark = class_stream(rows=200, experiences=2)
    strategy, _ = run(benchmark, True, online=True, epochs=1)
    (plugin,) = (p for p in strategy.plugins if isinstance(p, ResidentDataPlugin))
    sizes = set()
    for experience in split_online_stream(benchmark.train_stream, 8):
        strategy.train(experience, eval_streams=[])
        sizes.add((len(plugin._stores._sources), len(plugin._stores._stores)))
    assert sizes == {(2, 4)}  # test experiences; data sets of both streams


def test_the_data_stay_out_of_a_pickle(class_stream):
    benchmark = class_stream(rows=400)
    strategy, _ = run(benchmark, True, epochs=1)
    (plugin,) = (p for p in strategy.plugins if isinstance(p, ResidentDataPlugin))
    assert plugin._stores._stores
    assert len(pickle.dumps(plugin)) < 2_000  # the rows are 100,000 bytes
    loaded = pickle.loads(pickle.dumps(plugin))
    assert not loaded._stores._stores
    strategy.plugins[strategy.plugins.index(plugin)] = loaded
    strategy.eval(benchmark.test_stream)
    assert loaded._stores._stores


def test_what_does_not_fit_is_left_alone_with_one_message(class_stream):
    benchmark = class_stream().train_stream
    whole = benchmark[0].dataset.concat(benchmark[1].dataset)
    experience = benchmark[0]
    experience._dataset = whole  # two leaves: they would have to be copied together
    with pytest.warns(
        UserWarning,
        match=r"training data stay with Avalanche's loader: it takes 0.0 MB",
    ) as caught:
        _, watch = run(
            type("B", (), {"train_stream": [experience] * 2, "test_stream": []}),
            True,
            max_bytes=10,
        )
    assert len([w for w in caught if "stay with" in str(w.message)]) == 1
    assert ResidentLoader not in watch.loaders


def test_another_loader_is_left_alone_with_a_message(class_stream):
    class Own(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            strategy.dataloader = [
                [x[None], y[None]] for x, y in strategy.adapted_dataset
            ]

    with pytest.warns(UserWarning, match="its loader is a list"):
        run(class_stream(experiences=1), True, [Own()])


def test_a_plugin_that_comes_later_is_named(class_stream):
    class Own(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            strategy.dataloader = [
                [x[None], y[None]] for x, y in strategy.adapted_dataset
            ]

    benchmark = class_stream(experiences=1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.05),
        criterion=nn.CrossEntropyLoss(),
        plugins=[ResidentDataPlugin(), Own()],
        evaluator=LeanEvaluationPlugin(),
    )
    with pytest.warns(
        UserWarning, match="later made a list: put ResidentDataPlugin after"
    ):
        strategy.train(benchmark.train_stream[0], eval_streams=[])


def test_no_message_where_nothing_is_wrong(class_stream):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(class_stream(), True)


class Images(Dataset):
    """Rows of 64 + 8 bytes that are made when they are asked for."""

    def __init__(self, seed, n=40):
        self.seed, self.targets = seed, [i % 2 + 2 * seed for i in range(n)]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        x = torch.full((1, 4, 4), float(i + 100 * self.seed))
        return x, self.targets[i]


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8))


ROWS = 40 * 72  # bytes of an experience of Images


@pytest.mark.parametrize("experiences_that_fit", [0, 1, 2, 3])
@pytest.mark.parametrize("online", [False, True])
def test_the_limit_is_of_all_copies_together(experiences_that_fit, online):
    data = [as_classification_dataset(Images(seed)) for seed in range(3)]
    stream = benchmark_from_datasets(train=data, test=data).train_stream
    train_only = type("Stream", (), {"train_stream": stream, "test_stream": []})
    limit = experiences_that_fit * ROWS + 12 * 72  # and a sub-experience
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        strategy, watch = run(
            train_only, True, online=online, model=small, max_bytes=limit
        )
    (plugin,) = (p for p in strategy.plugins if isinstance(p, ResidentDataPlugin))
    held = plugin._held(torch.device("cpu"))
    assert held <= limit
    if not online:
        assert held == experiences_that_fit * ROWS
    told = [w for w in told if "stay with Avalanche's loader" in str(w.message)]
    assert bool(told) == (experiences_that_fit < 3)
    assert (ResidentLoader in watch.loaders) == (experiences_that_fit > 0 or online)


@pytest.mark.parametrize("fits", [False, True])
def test_rows_that_are_read_and_joined_count_twice(fits):
    """Those of several data sets are copied together, for as long as they are used."""
    data = [as_classification_dataset(Images(seed)) for seed in range(2)]
    both = data[0].concat(data[1])
    stream = benchmark_from_datasets(train=[both, both], test=data).train_stream
    train_only = type("Stream", (), {"train_stream": stream, "test_stream": []})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        strategy, watch = run(
            train_only, True, model=small, max_bytes=4 * ROWS - (not fits)
        )
    assert (watch.loaders == {ResidentLoader}) == fits
    assert (not told) == fits
    (plugin,) = (p for p in strategy.plugins if isinstance(p, ResidentDataPlugin))
    assert plugin._held(torch.device("cpu")) == 2 * ROWS * fits


def test_the_limit_is_of_all_copies_on_a_device(monkeypatch):
    """Without one: what would be copied there is decided on the host."""
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))
    plugin = ResidentDataPlugin(max_bytes=2.5 * ROWS)
    first, second, third = (
        plugin._stores.source(as_classification_dataset(Images(i)), remember=True)
        for i in range(3)
    )
    for source in (first, second):
        source.columns()
        assert plugin._place(source, gpu) == gpu
        source._copy = (gpu, [], [])
    with pytest.raises(NotResident, match=r"and 0\.0 MB may be used"):
        plugin._place(third, gpu)  # no room on the host
    plugin._stores._stores.clear()
    assert plugin._place(third, gpu) == torch.device("cpu")  # none on the device
    assert plugin._place(first, gpu) == gpu
