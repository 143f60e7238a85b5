"""Small benchmarks and runs shared by the tests of the metrics."""

from types import SimpleNamespace

import pytest
import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    nc_benchmark,
    split_online_stream,
    with_classes_timeline,
)
from avalanche.benchmarks.utils import as_classification_dataset
from avalanche.models import MTSimpleMLP
from avalanche.training import Naive
from torch import nn
from torch.utils.data import TensorDataset

SIZE = 8  # input features
PER_CLASS = 20


def labelled(labels, seed, shift=0.0):
    """Noisy samples around one centre for each class, as (x, y)."""
    centres = torch.randn(6, SIZE, generator=torch.Generator().manual_seed(0))
    y = torch.tensor(labels).repeat(PER_CLASS)
    noise = torch.randn(len(y), SIZE, generator=torch.Generator().manual_seed(seed))
    return centres[y] + 0.9 * noise + shift, y


def dataset(labels, seed, shift=0.0):
    x, y = labelled(labels, seed, shift)
    data = TensorDataset(x, y)
    data.targets = y.tolist()
    return data


def build(scenario):
    groups = [[4, 1], [0, 5], [2, 3]]
    if scenario in ("class", "timeline"):
        bm = benchmark_from_datasets(
            train=[as_classification_dataset(dataset(g, 1)) for g in groups],
            test=[as_classification_dataset(dataset(g, 2)) for g in groups],
        )
        return with_classes_timeline(bm) if scenario == "timeline" else bm
    if scenario == "domain":
        classes = list(range(6))
        return benchmark_from_datasets(
            **{
                name: [
                    as_classification_dataset(dataset(classes, seed, shift))
                    for shift in (0.0, 1.5, -1.5)
                ]
                for name, seed in (("train", 1), ("test", 2))
            }
        )
    classes = list(range(6))
    return nc_benchmark(
        dataset(classes, 1),
        dataset(classes, 2),
        n_experiences=3,
        task_labels=True,
        fixed_class_order=[4, 1, 0, 5, 2, 3],
        class_ids_from_zero_in_each_exp=scenario == "task",
    )


def naive(metrics, scenario="class", evaluator=None, **options):
    from avalanche_ext.plugins import LeanEvaluationPlugin

    torch.manual_seed(3)
    multi_head = scenario in ("task", "task-global")
    if multi_head:
        model = MTSimpleMLP(input_size=SIZE, hidden_size=12)
    else:
        model = nn.Sequential(nn.Linear(SIZE, 12), nn.ReLU(), nn.Linear(12, 6))
    return Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.2),
        train_mb_size=10,
        eval_mb_size=7,
        evaluator=evaluator or LeanEvaluationPlugin(*metrics),
        **options,
    )


def by_hand(model, experience, classes=None):
    """Accuracy on one experience, sample by sample; arg-max among some classes."""
    training, right = model.training, 0
    model.eval()
    for row in experience.dataset:
        x, y, task = row[0], row[1], row[-1]
        with torch.no_grad():
            if isinstance(model, MTSimpleMLP):
                scores = model(x[None], torch.tensor([task]))[0].tolist()
            else:
                scores = model(x[None])[0].tolist()
        allowed = classes if classes is not None else range(len(scores))
        right += max(allowed, key=scores.__getitem__) == int(y)
    model.train(training)
    return right / len(experience.dataset)


def subexperiences(experience, size, boundaries=False):
    return split_online_stream(
        [experience], size, access_task_boundaries=boundaries, seed=1
    )


def online(stream, size, boundaries=False):
    """A whole stream cut into sub-experiences, under the name ``…_online``."""
    return split_online_stream(stream, size, access_task_boundaries=boundaries, seed=1)


@pytest.fixture
def lab():
    """The helpers of this file, since test files do not import each other."""
    return SimpleNamespace(
        build=build,
        naive=naive,
        by_hand=by_hand,
        subexperiences=subexperiences,
        online=online,
        labelled=labelled,
    )
