"""avalanche_ext/storage/exemplars.py: admission by value in upstream's replay, on digits.

After each experience the rows kept are asked whether they are those of the highest value
of each class, by batch-1 passes in float64 under the model as it is then.
"""

import copy
import math
from collections import Counter

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.task_aware import with_task_labels
from avalanche.benchmarks.utils import DataAttribute, make_avalanche_dataset
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from avalanche.models import IncrementalClassifier, MTSimpleMLP
from avalanche.training.plugins import ReplayPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from sklearn.datasets import load_digits
from slow_memory import SlowMemory
from slow_scores import leaving
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from avalanche_ext import LeanEvaluationPlugin
from avalanche_ext.storage import MultiStrategyBuffer

SIZE = 30
CHUNK = 256  # rows of an experience that are compared at once
WEIGHTS = {"loss": 1.0, "gradient": 1.0, "diversity": 2.0}
APART = 1e-4  # values nearer than that may be in either order


class Batch(dict):
    """Nested inputs with the method that Avalanche's template needs."""

    def to(self, *args, **kwargs):
        return Batch({name: value.to(*args, **kwargs) for name, value in self.items()})


class Rows(Dataset):
    def __init__(self, numbers, images, labels, nested):
        self.numbers, self.images, self.labels = numbers, images, labels
        self.nested = nested

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image, label = self.images[i], int(self.labels[i])
        return (
            {"image": image, "gain": image.mean((1, 2))} if self.nested else image
        ), label


def stream(kind):
    """Three experiences of digits: two classes each, or all six of them each time."""
    digits = load_digits()
    labels = torch.tensor(digits.target)
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    datasets = []
    for step in range(3):
        wanted = range(6) if kind == "domain" else range(2 * step, 2 * step + 2)
        numbers = torch.cat([(labels == label).nonzero()[:, 0] for label in wanted])
        if kind == "domain":
            numbers = numbers[step::12]
        elif step != 1:
            numbers = numbers[
                ::6
            ]  # the second is of more rows than are compared at once
        numbers = numbers[torch.randperm(len(numbers), generator=seeded(step))]
        y = labels[numbers]
        attributes = [DataAttribute(y.tolist(), "targets")]
        if kind == "multi-head":
            attributes.append(TaskLabels([step] * len(y)))
        rows = Rows(numbers, images[numbers], y, kind == "nested")
        datasets.append(make_avalanche_dataset(rows, data_attributes=attributes))
    benchmark = benchmark_from_datasets(train=datasets, test=datasets)
    for experience in [*benchmark.train_stream, *benchmark.test_stream]:
        targets = experience.dataset.targets
        experience.classes_in_this_experience = sorted({int(y) for y in targets})
    return with_task_labels(benchmark) if kind == "multi-head" else benchmark


def seeded(seed):
    return torch.Generator().manual_seed(seed)


class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh())
        self.classifier = IncrementalClassifier(12, 2)

    def forward(self, x):
        return self.classifier(self.body(x))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh())
        self.classifier = nn.Linear(13, 6)

    def forward(self, x):
        return self.classifier(torch.cat([self.body(x["image"]), x["gain"]], 1))


MODELS = {
    "growing": Growing,
    "domain": Growing,
    "nested": Nested,
    "multi-head": lambda: MTSimpleMLP(64, 12),
}


class SlowScores(SlowMemory):
    """Of rows with inputs of their own, under the model of a strategy."""

    def under(self, model):
        self.model = copy.deepcopy(model).double().eval()
        self.found = {}

    def of(self, row):
        number = row["number"]
        if number not in self.found:
            self.found[number] = self.alone(row["x"], row["y"], row["task"])
        return self.found[number]

    def alone(self, x, y, task):
        if isinstance(x, dict):
            x = {name: value[None].double() for name, value in x.items()}
        else:
            x = x[None].double()
        given = (x,) if task is None else (x, torch.tensor([task]))
        features = []
        head = self.model.classifier
        hook = head.register_forward_pre_hook(lambda _, args: features.append(args[0]))
        torch.set_default_dtype(torch.float64)  # of what several heads make
        loss = cross_entropy(self.model(*given), torch.tensor([y]))
        torch.set_default_dtype(torch.float32)
        hook.remove()
        parameters = list(self.model.parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        squares = [float(g.square().sum()) for g in gradients if g is not None]
        return {
            "loss": float(loss.detach()),
            "gradient": math.sqrt(sum(squares)),
            "feature": features[0][0].tolist(),
        }


class Checked(MultiStrategyBuffer):
    """Compares what is kept of each experience with the reference."""

    def __init__(self, *args, balance="class", w_age=0.0, w_use=0.0, **options):
        terms = {"w_age": w_age, "w_use": w_use}
        super().__init__(
            *args, admission="score", balance=balance, seed=0, **terms, **options
        )
        self.slow = SlowScores(WEIGHTS, **terms)
        self.slow.need("mixed")
        self.by_class = balance == "class"
        self.met, self.compared = [], 0

    def post_adapt(self, agent, exp):
        slow, items = self.slow, list(exp.dataset)
        slow.under(agent.model)
        slow.refresh(slow.rows)
        rows = [
            {"x": x, "y": int(y), "task": int(task[0]) if task else None}
            for x, y, *task in items
        ]
        for start in range(0, len(rows), CHUNK):
            self.offer_slowly(rows[start : start + CHUNK])
        super().post_adapt(agent, exp)
        expected = {row["number"]: row for row in slow.rows}
        held = self.table.column("arrival").tolist()
        assert len(held) == min(SIZE, self.seen)
        self.compared += 1
        # Rows are told by when they came. Values that are the same may be swapped.
        for number in set(expected) ^ set(held):
            margin = self.margins[number]
            assert margin < APART, (number, margin)
        assert sorted(self.classes(expected.values())) == sorted(
            self.classes(self.all[number] for number in held)
        )
        self.check_rows(held)
        slow.rows = [self.all[number] for number in held]

    def offer_slowly(self, rows):
        slow, seen = self.slow, self.slow.seen
        new = [
            {**row, **slow.new(seen + i + 1, row["y"], row["task"])}
            for i, row in enumerate(rows)
        ]
        self.all = {**getattr(self, "all", {}), **{row["number"]: row for row in new}}
        self.met += [c for c in self.classes(new) if c not in self.met]
        everyone = slow.rows + new
        excess = len(everyone) - SIZE
        if excess > 0:
            slow.seen = seen
            slow.settle()
            slow.arrive(new)
            slow.seen = seen + len(new)
            values = slow.values(new)
            met = self.met if self.by_class else None
            gone = set(leaving(self.classes(everyone), values, excess, met))
            self.note_margins(everyone, values, gone)
            for row in new:
                row["scored"] = slow.seen
            slow.rows = [row for i, row in enumerate(everyone) if i not in gone]
        else:
            slow.rows = everyone

    def note_margins(self, rows, values, gone):
        """How far each row's value is from where its class is cut."""
        self.margins = {}
        classes = self.classes(rows) if self.by_class else [None] * len(rows)
        for i, row in enumerate(rows):
            other = [
                values[j]
                for j in range(len(rows))
                if classes[j] == classes[i] and (j in gone) != (i in gone)
            ]
            gaps = [abs(value - values[i]) for value in other]
            self.margins[row["number"]] = min(gaps, default=math.inf)

    def classes(self, rows):
        return [(r["task"], r["y"]) if r["task"] is not None else r["y"] for r in rows]

    def check_rows(self, held):
        """Each row is that of the dataset which came at its time."""
        for (x, y, *task), number in zip(self.buffer, held, strict=True):
            row = self.all[number]
            assert int(y) == row["y"]
            assert [int(t) for t in task] == [row["task"]] * len(task)
            assert bool(task) == (row["task"] is not None)
            if isinstance(x, dict):
                assert all(torch.equal(x[name], row["x"][name]) for name in row["x"])
            else:
                assert torch.equal(x, row["x"])


class Watched(SupervisedPlugin):
    """Nested inputs that Avalanche can move, and the labels of every minibatch."""

    def __init__(self):
        super().__init__()
        self.labels = Counter()

    def before_training_iteration(self, strategy, **kwargs):
        self.labels.update(strategy.mbatch[1].tolist())


class Strategy(Naive):
    def _unpack_minibatch(self):
        if isinstance(self.mbatch[0], dict):
            self.mbatch = [Batch(self.mbatch[0]), *self.mbatch[1:]]
        super()._unpack_minibatch()


def strategy_of(kind, buffer):
    torch.manual_seed(0)
    model = MODELS[kind]()
    watched = Watched()
    replay = ReplayPlugin(SIZE, batch_size_mem=8, storage_policy=buffer)
    return watched, Strategy(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=16,
        train_epochs=2,
        plugins=[replay, watched],
        evaluator=LeanEvaluationPlugin(),
    )


@pytest.mark.filterwarnings("ignore:sampling .* has no effect")  # in that plugin
@pytest.mark.parametrize("sampling", ["uniform", "mixed", "coreset"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_rows_of_the_highest_value_are_kept(kind, sampling):
    buffer = Checked(SIZE, criteria=list(WEIGHTS), weights=WEIGHTS, sampling=sampling)
    watched, strategy = strategy_of(kind, buffer)
    benchmark = stream(kind)
    for step, experience in enumerate(benchmark.train_stream):
        watched.labels.clear()
        strategy.train(experience, eval_streams=[])
        old = {y for y in watched.labels if kind != "domain" and y < 2 * step}
        assert kind == "domain" or old == set(range(2 * step))  # replayed, all of them
    assert buffer.compared == 3
    classes = 6 if kind == "domain" else 2 * 3
    assert set(buffer.class_counts().values()) == {SIZE // classes}
    strategy.eval(benchmark.test_stream)
    assert len(buffer.sample(5)) == 5


@pytest.mark.parametrize("balance", ["class", "none"])
def test_with_age_and_without_balance(balance):
    options = {
        "criteria": list(WEIGHTS),
        "weights": WEIGHTS,
        "w_age": 0.8,
        "w_use": 0.5,
    }
    buffer = Checked(SIZE, balance=balance, **options)
    _, strategy = strategy_of("growing", buffer)
    for experience in stream("growing").train_stream:
        strategy.train(experience, eval_streams=[])
    assert buffer.compared == 3


def test_rows_stored_are_not_scored_anew_where_that_is_not_wanted():
    """Then those of earlier experiences have the scores that they had."""
    for wanted in (True, False):
        buffer = MultiStrategyBuffer(
            SIZE,
            criteria=["loss"],
            admission="score",
            refresh_at_end=wanted,
            seed=0,
        )
        _, strategy = strategy_of("growing", buffer)
        for experience in list(stream("growing").train_stream)[:2]:
            strategy.train(experience, eval_streams=[])
        first = buffer.table.column("arrival") <= 60
        assert 0 < first.sum() < SIZE
        x, y = (buffer.table.column(name)[first] for name in ("x", "y"))
        now = cross_entropy(strategy.model.eval()(x), y, reduction="none")
        kept = buffer.table.column("score_loss")[first]
        assert torch.allclose(kept, now, rtol=1e-4) == wanted


def test_rows_kept_from_before_their_transform_are_scored_after_it(class_stream):
    buffer = MultiStrategyBuffer(20, criteria=["loss"], admission="score", seed=0)
    _, strategy = strategy_of("growing", MultiStrategyBuffer(SIZE))
    for experience in class_stream(3, 30).train_stream:
        strategy.train(experience, eval_streams=[])
        buffer.post_adapt(strategy, experience)
    assert buffer.table.column("x").dtype is torch.uint8
    buffer.refresh()
    x = torch.stack([x for x, _ in buffer.buffer])
    assert x.max() <= 1
    y = buffer.table.column("y")
    losses = cross_entropy(strategy.model.eval()(x), y, reduction="none")
    torch.testing.assert_close(buffer.scores("loss"), losses.detach())
