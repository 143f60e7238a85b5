"""Networks with rows, for oracles of the Fisher information and what is made of it."""

from typing import Any

import torch
import torch.nn.functional as F
from small_networks import CLASSES, Attention, Recurrent, Sequences, convolutions, mlp
from torch import Tensor, nn

from experiments.networks import SingleHead, residual_blocks


def resnet() -> nn.Module:
    return SingleHead(*residual_blocks((3, 8, 8), base=2), outputs=CLASSES)


def vectors(n: int) -> Tensor:
    return torch.randn(n, 6)


def images(n: int) -> Tensor:
    return torch.randn(n, 4, 10, 10)


def pictures(n: int) -> Tensor:
    return torch.randn(n, 3, 8, 8)


def tokens(n: int) -> Tensor:
    return torch.randint(0, 11, (n, 5))


def sequences(n: int) -> Tensor:
    return torch.randn(n, 5, 8)


NETWORKS = {
    "mlp": (mlp, vectors, 13),
    "cnn": (convolutions, images, 13),
    "resnet": (resnet, pictures, 5),
    "tokens": (Sequences, tokens, 13),
    "recurrent": (Recurrent, sequences, 7),
    "attention": (Attention, sequences, 7),
}


def batches_of(
    x: Any, y: Tensor, size: int, task: Tensor | None = None
) -> list[tuple[Any, ...]]:
    parts = zip(x.split(size), y.split(size), strict=True)
    if task is None:
        return list(parts)
    return [(*part, t) for part, t in zip(parts, task.split(size), strict=True)]


def problem(name: str) -> tuple[nn.Module, Any, Tensor]:
    """A network that has been trained a little, so that it has running statistics."""
    torch.manual_seed(3)
    make, inputs, n = NETWORKS[name]
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs(16)), torch.arange(16) % CLASSES).backward()
        optimizer.step()
    model.double()
    x = inputs(n)
    x = x.double() if x.is_floating_point() else x
    return model, x, torch.randint(0, CLASSES, (n,))
