"""A small strategy with importance regularisers, its data, and a run of it that is interrupted."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from avalanche_ext import LeanEvaluationPlugin, checkpoint


def network(outputs: int = 8) -> nn.Module:
    """For images of 8x8, the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, outputs)
    )


def strategy(plugins: list[Any], model: nn.Module | None = None, **more: Any) -> Naive:
    """Naive training by descent with momentum, in batches of eight."""
    model = network() if model is None else model
    common = {
        "optimizer": torch.optim.SGD(model.parameters(), 0.05, momentum=0.9),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": 8,
        "evaluator": LeanEvaluationPlugin(),
    }
    return Naive(model=model, plugins=plugins, **{**common, **more})


def experiences(number: int, rows: int = 16) -> list[list[tuple[Tensor, Tensor]]]:
    """Batches of eight rows."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for k in range(number):
        y = torch.arange(rows) % 2 + k % 2
        x = torch.randn(rows, 5, generator=generator).double() + y[:, None]
        made.append(list(zip(x.split(8), y.split(8), strict=True)))
    return made


def stopped_and_continued(
    make: Callable[[], Naive], stream: Any, path: Path
) -> tuple[Naive, Naive, Any]:
    """A run that stops after two experiences ends as one that did not.

    :return: the whole run, the stopped one, and a new plugin that took over the state of
        the stopped one's, by way of a file that holds nothing but values and tensors.
    """
    whole = make()
    whole.train(stream, eval_streams=[])
    part = make()
    part.train(stream[:2], eval_streams=[])
    checkpoint.save(part, path)
    torch.manual_seed(99)
    again, start = checkpoint.load(make(), path)
    again.train(stream[start:], eval_streams=[])
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    file = io.BytesIO()
    torch.save(part.plugins[0].state_dict(), file)
    file.seek(0)
    loaded = make().plugins[0]
    loaded.load_state_dict(torch.load(file, weights_only=True))
    return whole, part, loaded
