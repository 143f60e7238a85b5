"""A run that another process can go on with: ``python continued_run.py FROM TO``."""

import sys

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import (
    DataAttribute,
    TransformGroups,
    make_avalanche_dataset,
)
from avalanche.training.supervised import Naive
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.transforms import Compose, RandomHorizontalFlip

from avalanche_ext import (
    LeanEvaluationPlugin,
    ResidentDataPlugin,
    ScaleToUnit,
    checkpoint,
    class_balanced_replay,
)


def stream():
    """Four experiences of 8x8 ``uint8`` images, flipped at random as they are read."""
    generator = torch.Generator().manual_seed(7)
    centres = torch.randint(0, 256, (8, 1, 8, 8), generator=generator)
    steps = Compose([RandomHorizontalFlip(), ScaleToUnit()])

    def dataset(number):
        y = torch.arange(40) % 2 + 2 * number
        noise = torch.randint(-60, 60, (40, 1, 8, 8), generator=generator)
        x = (centres[y] + noise).clamp(0, 255).to(torch.uint8)
        return make_avalanche_dataset(
            TensorDataset(x, y),
            data_attributes=[DataAttribute(y.tolist(), "targets")],
            transform_groups=TransformGroups({"train": steps, "eval": ScaleToUnit()}),
        )

    datasets = [dataset(number) for number in range(4)]
    return benchmark_from_datasets(train=datasets, test=datasets).train_stream


def make(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 8)
    )
    return Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.05, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        plugins=[class_balanced_replay(20, batch_size_mem=8), ResidentDataPlugin()],
        evaluator=LeanEvaluationPlugin(),
    )


def train(strategy, experiences):
    for experience in experiences:
        strategy.train(experience, eval_streams=[])
    return strategy


if __name__ == "__main__":
    loaded, start = checkpoint.load(make(seed=5), sys.argv[1])
    train(loaded, stream()[start:])
    torch.save(loaded.model.state_dict(), sys.argv[2])
