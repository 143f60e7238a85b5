"""Small strategies that tests save and load."""

import torch
from avalanche.training.supervised import Naive
from torch import nn

from avalanche_ext import LeanEvaluationPlugin


def net(hidden=16):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.Linear(hidden, 8))


def run(model, plugins=(), metrics=(), kind=Naive):
    return kind(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        plugins=list(plugins),
        evaluator=LeanEvaluationPlugin(*metrics),
    )
