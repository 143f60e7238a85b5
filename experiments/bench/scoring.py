"""Cases ``gradient-norms`` and ``mc-dropout``: scores of rows against plain passes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_ext import UncertaintyCriterion, losses_and_gradient_norms
from avalanche_ext.storage.criteria import ScoringContext
from experiments.bench import strategies
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import CLASSES, Row, Workload
from experiments.models import MODELS, Task

COLOUR = (3, 32, 32)
PLAIN_PASS, ROW_BY_ROW = "one plain pass", "row by row"
PASSES = 10
DROPOUT_ROWS = 64


def norm_rows(work: Workload) -> list[Row]:
    """Gradient norms of rows, for an MLP and for the reduced ResNet-18."""
    n = work.sizes.scored
    x, y = strategies.tensors(work, 0, n, floats=True)
    resnet, colours = colour_network(n)
    mlp = strategies.network((400, 400))
    return [
        _norms(work, f"{n} rows, MLP 784-400-400-10", mlp, x, y, repeats=20),
        _norms(work, f"{n} rows, reduced ResNet-18", resnet, colours, y, repeats=1),
    ]


def colour_network(rows: int) -> tuple[nn.Module, Tensor]:
    """The reduced ResNet-18, as rows are scored, and images for it."""
    images = torch.rand(rows, *COLOUR, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model: nn.Module = MODELS["resnet18"](Task(COLOUR, CLASSES, 0), (), "default")
    return model.eval(), images


def plain_pass(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """What training does: it leaves the gradient of the mean loss."""

    def act() -> None:
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()

    return act


def _norms(
    work: Workload, label: str, model: nn.Module, x: Tensor, y: Tensor, repeats: int
) -> Row:
    criterion = nn.CrossEntropyLoss()
    model.eval()  # as rows are scored

    def ours() -> None:
        losses_and_gradient_norms(model, criterion, x, y)

    def row_by_row() -> None:
        for one in range(len(y)):
            plain_pass(model, x[one : one + 1], y[one : one + 1])()
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            torch.stack([gradient.norm() for gradient in gradients]).norm()

    return Row(
        label,
        {
            "ours": lambda: repeated(work, ours, repeats),
            PLAIN_PASS: lambda: repeated(work, plain_pass(model, x, y), repeats),
            ROW_BY_ROW: lambda: repeated(work, row_by_row, 1),
        },
    )


def dropout_rows(work: Workload) -> list[Row]:
    """The uncertainty of rows by ten passes, at once and one after the other."""
    n = min(DROPOUT_ROWS, work.sizes.scored)
    x, y = strategies.tensors(work, 0, n, floats=True)
    model = _with_dropout()
    criterion = UncertaintyCriterion(passes=PASSES)

    def ours() -> None:
        criterion.score({"x": x, "y": y}, ScoringContext(model=model))

    @torch.no_grad()
    def separate() -> None:
        model.train()
        mean = torch.stack([model(x).softmax(1) for _ in range(PASSES)]).mean(0)
        -(mean * mean.log()).sum(1)
        model.eval()

    label = f"{n} rows, {PASSES} passes, MLP 784-400-400-10 with dropout"
    return [
        Row(
            label,
            {
                "ours": lambda: repeated(work, ours, 20),
                "separate passes": lambda: repeated(work, separate, 20),
            },
        )
    ]


def _with_dropout() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    size = 784
    for width in (400, 400):
        layers += [nn.Linear(size, width), nn.ReLU(), nn.Dropout()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, CLASSES)).eval()


def repeated(work: Workload, act: Callable[[], Any], repeats: int) -> Observe:
    """Milliseconds that something takes, in the mean of several."""
    times = 1 if work.sizes.scored < 100 else repeats  # a test's sizes

    def go() -> int:
        for _ in range(times):
            act()
        return times

    return stopwatch(lambda: go, 1e3)
