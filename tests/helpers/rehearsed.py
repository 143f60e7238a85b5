"""A small strategy that rehearses."""

import torch
from avalanche.training.supervised import Naive
from torch import nn

from avalanche_ext import LeanEvaluationPlugin


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 8))


def strategy(plugins, model=None, epochs=1, criterion=None, **options):
    model = model or network()
    return Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.05),
        criterion=criterion or nn.CrossEntropyLoss(),
        train_mb_size=8,
        train_epochs=epochs,
        plugins=plugins,
        evaluator=LeanEvaluationPlugin(),
        **options,
    )
