"""avalanche_ext/storage/exemplars.py: memories as storage policies of Avalanche."""

import io
import warnings
from collections import Counter

import pytest
import torch
from memories import ADMISSIONS, filled, plain
from torch.utils.data import TensorDataset

from avalanche_ext.storage import MultiStrategyBuffer


@pytest.fixture(scope="module")
def avalanche():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import avalanche
        import avalanche.training.plugins
    return avalanche


def dataset(n=80):
    """Rows [number, 0, 0, 1] of four classes."""
    x = torch.zeros(n, 4)
    x[:, 0] = torch.arange(n)
    x[:, 3] = 1
    y = torch.arange(n) % 4
    data = TensorDataset(x, y)
    data.targets = y.tolist()
    return data


def benchmark(avalanche, kind):
    """Two experiences of two classes; items [x, y] or [x, y, task]."""
    data = dataset()
    if kind != "plain":
        return avalanche.benchmarks.nc_benchmark(
            data, data, 2, task_labels=kind == "task labels", shuffle=False
        )
    whole = avalanche.benchmarks.utils.as_classification_dataset(data)
    y = torch.tensor(data.targets)
    parts = [
        whole.subset(((y // 2) == e).nonzero().flatten().tolist()) for e in range(2)
    ]
    return avalanche.benchmarks.benchmark_from_datasets(train=parts, test=parts)


def items(buffer):
    """The items of the memory as a dataset, each checked against the data."""
    result = {}
    for item in buffer.buffer:
        x, y, *task = item
        number = int(x[0])
        assert x.tolist() == [number, 0, 0, 1]
        assert int(y) == number % 4
        result[number] = int(task[-1]) if task else None
    assert len(result) == len(buffer.buffer) == len(buffer)
    return result


KINDS = ["plain", "task labels", "task label 0"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("admission", ADMISSIONS)
def test_in_upstreams_replay_plugin(avalanche, admission, kind):
    training = avalanche.training
    buffer = MultiStrategyBuffer(12, admission=admission, seed=0)
    batches = []

    class Spy(training.plugins.SupervisedPlugin):
        def before_training_iteration(self, strategy, *args, **kwargs):
            batches.append(
                (strategy.experience.current_experience, strategy.mb_x, strategy.mb_y)
            )

    torch.manual_seed(0)
    model = avalanche.models.SimpleMLP(num_classes=4, input_size=4, hidden_size=8)
    strategy = training.Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=1e-4),
        train_mb_size=10,
        train_epochs=1,
        plugins=[
            training.plugins.ReplayPlugin(
                mem_size=12, batch_size_mem=6, storage_policy=buffer
            ),
            Spy(),
        ],
        evaluator=training.plugins.EvaluationPlugin(
            loggers=avalanche.logging.TextLogger(io.StringIO())
        ),
    )
    stream = benchmark(avalanche, kind).train_stream
    seen = 0
    for experience in stream:
        classes = {2 * experience.current_experience + c for c in range(2)}
        current = {i for i in range(80) if i % 4 in classes}
        memory = set(items(buffer))
        batches.clear()
        strategy.train(experience)
        seen += 40
        assert (len(buffer), buffer.seen) == (12, seen)

        shown = [int(i) for _, x, _ in batches for i in x[:, 0]]
        for _, x, y in batches:
            assert torch.equal(y, x[:, 0].long() % 4)
            replayed = {int(i) for i in x[:, 0]} - current
            assert replayed <= memory
            assert bool(replayed) == bool(memory)
        assert Counter(i for i in shown if i in current) == Counter(current)

        stored = items(buffer)
        tasks = {"task labels": None, "task label 0": 0}
        for number, task in stored.items():
            if kind == "task labels":
                assert task == (number % 4) // 2
            else:
                assert task == tasks.get(kind)
    if admission != "reservoir":
        keys = {
            "plain": [0, 1, 2, 3],
            "task labels": [(0, 0), (0, 1), (1, 2), (1, 3)],
            "task label 0": [(0, 0), (0, 1), (0, 2), (0, 3)],
        }
        assert buffer.class_counts() == dict.fromkeys(keys[kind], 3)
    buffer.resize(strategy, 5)
    assert len(items(buffer)) == 5
    assert buffer.max_size == 5
    strategy.eval(benchmark(avalanche, kind).test_stream)


def halve(x):
    return x.float() / 2


@pytest.mark.parametrize("transform", [None, halve])
def test_dataset_items_are_those_of_the_experience(avalanche, transform):
    """With its transform: a model sees replayed rows as it saw them new."""
    raw = dataset()
    data = avalanche.benchmarks.utils.as_classification_dataset(
        raw, transform_groups=None if transform is None else groups(avalanche)
    )
    experience = avalanche.benchmarks.benchmark_from_datasets(
        train=[data]
    ).train_stream[0]
    buffer = MultiStrategyBuffer(9, seed=0)
    buffer.post_adapt(None, experience)
    seen = {float(x[0]): (x, int(y)) for x, y in experience.dataset}
    assert len(buffer.buffer) == 9
    for x, y in buffer.buffer:
        expected, label = seen[float(x[0])]
        assert torch.equal(x, expected)
        assert int(y) == label


class Half:
    """The same for a batch as for each of its rows, so that raw rows are kept."""

    batched = True

    def __call__(self, x):
        return halve(x)


def groups(avalanche, step=halve):
    transforms = avalanche.benchmarks.utils.TransformGroups
    return transforms({"train": (step, None), "eval": (step, None)})


def test_update_is_post_adapt(avalanche):
    """The deprecated name, which upstream's plugin still calls."""
    experience = benchmark(avalanche, "plain").train_stream[0]
    one, other = (MultiStrategyBuffer(7, seed=0) for _ in range(2))

    class Strategy:
        pass

    strategy = Strategy()
    strategy.experience = experience
    one.update(strategy)
    other.post_adapt(None, experience)
    assert one.seen == other.seen == 40
    assert torch.equal(one.table.column("x"), other.table.column("x"))
    assert items(one) == items(other)


def test_experience_in_order_is_a_stream_of_its_rows(avalanche):
    """post_adapt offers every row once, in order: as add does."""
    stream = benchmark(avalanche, "plain").train_stream
    for admission in ADMISSIONS:
        by_experience = MultiStrategyBuffer(9, admission=admission, seed=2)
        by_batch = MultiStrategyBuffer(9, admission=admission, seed=2)
        for experience in stream:
            by_experience.post_adapt(None, experience)
            x = torch.stack([item[0] for item in experience.dataset])
            y = torch.tensor([int(item[1]) for item in experience.dataset])
            by_batch.add(x, y)
        for name in ("x", "y"):
            assert torch.equal(
                by_experience.table.column(name), by_batch.table.column(name)
            )
        assert torch.equal(by_experience.ages, by_batch.ages)


def test_reservoir_over_experiences_is_uniform(avalanche):
    """Each of 80 rows in 20 of 80 memories: experiences are one stream."""
    stream = list(benchmark(avalanche, "plain").train_stream)
    counts = Counter()
    for seed in range(120):
        buffer = MultiStrategyBuffer(20, seed=seed)
        for experience in stream:
            buffer.post_adapt(None, experience)
        counts.update(int(i) for i in buffer.table.column("x")[:, 0])
    p = 20 / 80
    spread = sum((counts[i] - 120 * p) ** 2 for i in range(80))
    statistic = spread / (120 * p * (1 - p)) * 79 / 80
    assert 40 < statistic < 140  # chi-square, 79 degrees of freedom: 2e-4 either side


def test_buffer_follows_the_memory(avalanche):
    """The dataset is of the rows held now, and a loader reads it."""
    buffer = filled(5)
    loader = torch.utils.data.DataLoader(buffer.buffer, batch_size=2)
    assert torch.cat([x for x, _ in loader]).flatten().tolist() == [0, 1, 2, 3, 4]
    assert [int(t) for t in buffer.buffer.targets] == [0, 1, 2, 0, 1]
    buffer.add(*plain(2, 5))
    assert len(buffer.buffer) == 7
    buffer.evict(4)
    left = buffer.table.column("x").flatten().tolist()
    assert [float(x) for x, _ in buffer.buffer] == left
    assert [int(t) for t in buffer.buffer.targets] == [int(i) % 3 for i in left]
    assert len(buffer.buffer.subset([0, 2])) == 2
    assert len(buffer.buffer.concat(filled(2).buffer)) == 5


def test_rows_of_a_loaded_memory_need_their_transform_to_be_a_dataset(avalanche):
    data = avalanche.benchmarks.utils.as_classification_dataset(
        dataset(), transform_groups=groups(avalanche, Half())
    )
    stream = avalanche.benchmarks.benchmark_from_datasets(train=[data]).train_stream
    buffer, loaded = (MultiStrategyBuffer(9, seed=seed) for seed in (0, 1))
    buffer.post_adapt(None, stream[0])
    loaded.load_state_dict(buffer.state_dict())
    with pytest.raises(ValueError, match=r"set memory\.transform to it") as error:
        _ = loaded.buffer
    assert "\n" not in str(error.value)
    loaded.transform = Half()
    for (x, y), (a, b) in zip(loaded.buffer, buffer.buffer, strict=True):
        assert torch.equal(x, a)
        assert y == b
