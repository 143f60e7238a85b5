"""Case ``fisher``: the diagonal Fisher information against plain passes."""

from collections.abc import Callable
from typing import Any

import torch
from avalanche.training.plugins import EWCPlugin
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from avalanche_ext import diagonal_fisher
from avalanche_ext.gradients import FisherLabels
from experiments.bench import strategies
from experiments.bench.scoring import PLAIN_PASS, colour_network, plain_pass, repeated
from experiments.bench.workload import Row, Workload

LABELS: tuple[FisherLabels, ...] = ("empirical", "sampled", "exact")


def rows(work: Workload) -> list[Row]:
    """Each kind of labels, for an MLP and for the reduced ResNet-18."""
    n = work.sizes.scored
    x, y = strategies.tensors(work, 0, n, floats=True)
    mlp = strategies.network((400, 400)).eval()
    resnet, colours = colour_network(n)
    of_both = (
        ("MLP 784-400-400-10", mlp, x, 20),
        ("reduced ResNet-18", resnet, colours, 1),
    )
    return [
        _row(work, f"{n} rows, {labels} labels, {name}", model, x, y, labels, often)
        for name, model, x, often in of_both
        for labels in LABELS
    ]


def _row(
    work: Workload,
    label: str,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    labels: FisherLabels,
    repeats: int,
) -> Row:
    given = y if labels == "empirical" else None

    def ours() -> None:
        diagonal_fisher(model, x, given, labels=labels)

    contenders: dict[str, Callable[[], Any]] = {
        "ours": lambda: repeated(work, ours, repeats),
        PLAIN_PASS: lambda: repeated(work, plain_pass(model, x, y), repeats),
    }
    if labels == "empirical":
        contenders["upstream"] = lambda: repeated(work, _upstream(model, x, y), 1)
    return Row(label, contenders)


def _upstream(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Any]:
    """Upstream's, at batch size 1, where its squares are those of single rows."""
    data = TensorDataset(x, y, torch.zeros_like(y))
    plugin, criterion = EWCPlugin(1.0), nn.CrossEntropyLoss()
    optimizer = strategies.descent(model)

    def act() -> None:
        plugin.compute_importances(
            model, criterion, optimizer, data, torch.device("cpu"), 1
        )
        model.eval()  # it leaves it training

    return act
