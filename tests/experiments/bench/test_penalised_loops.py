"""experiments/bench/penalised_loops.py: the bare loops train as the plugins do."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from avalanche_ext import AdaptiveEWCPlugin, SynapticIntelligencePlugin
from experiments.bench import penalised_loops as bare


@pytest.mark.parametrize(
    ("train", "plugin"),
    [
        (bare.ewc, lambda: AdaptiveEWCPlugin(1.0)),
        (bare.si, lambda: SynapticIntelligencePlugin(1.0)),
    ],
)
def test_same_training(train: bare.Train, plugin: Any):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 6, generator=generator)
    y = torch.randint(0, 3, (40,), generator=generator)
    batches = torch.randperm(40, generator=generator).split(8)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 3))
    other = copy.deepcopy(model)

    torch.manual_seed(1)  # of the importances
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    assert train(model, optimizer, x, y, batches) == 5

    torch.manual_seed(1)
    importances = bare.Penalty(other).importances
    named, regulariser = dict(other.named_parameters()), plugin()
    regulariser.quadratic.renew(named, dict(zip(named, importances, strict=True)))
    regulariser.consolidations = 1
    optimizer = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
    for rows in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(other(x[rows]), y[rows]) + regulariser.penalty(other)
        loss.backward()
        optimizer.step()

    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
