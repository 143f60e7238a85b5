"""Small streams, models that grow in several ways, and runs written out as loops."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.supervised import with_classes_timeline
from avalanche.benchmarks.scenarios.task_aware import with_task_labels
from avalanche.benchmarks.utils import DataAttribute, make_avalanche_dataset
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from avalanche.models import (
    IncrementalClassifier,
    MultiHeadClassifier,
    MultiTaskModule,
)
from avalanche.models.utils import avalanche_model_adaptation
from avalanche.training.supervised import Naive
from paper_importance import (
    PaperEWC,
    PaperSI,
    close,
    rows_of,
    train,
)
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from avalanche_ext import (
    AdaptiveEWCPlugin,
    LeanEvaluationPlugin,
    SynapticIntelligencePlugin,
)

EXPERIENCES, ROWS, INPUTS = 3, 30, 6


def rows(number: int, tasks: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of an experience with two classes, 0 and 1 where each is a task."""
    generator = torch.Generator().manual_seed(number)
    y = torch.arange(ROWS) % 2
    centres = torch.randn(2, INPUTS, generator=generator)
    x = centres[y] + 0.7 * torch.randn(ROWS, INPUTS, generator=generator)
    return x.to(dtype), y if tasks else y + 2 * number


def stream(tasks: bool, dtype: torch.dtype = torch.float64) -> Any:
    """Class-incremental, or a task an experience."""
    datasets = []
    for number in range(EXPERIENCES):
        x, y = rows(number, tasks, dtype)
        attributes = [DataAttribute(y.tolist(), "targets")]
        if tasks:
            attributes.append(TaskLabels([number] * ROWS))
        datasets.append(
            make_avalanche_dataset(TensorDataset(x, y), data_attributes=attributes)
        )
    benchmark = with_classes_timeline(
        benchmark_from_datasets(train=datasets, test=datasets)
    )
    for part in benchmark.streams.values():
        for experience in part:  # upstream's multi-head indexes with them
            classes = sorted(experience.classes_in_this_experience)
            experience.classes_in_this_experience = classes
    return with_task_labels(benchmark) if tasks else benchmark


def trunk() -> nn.Sequential:
    return nn.Sequential(nn.Linear(INPUTS, 8), nn.ReLU())


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = trunk(), nn.Linear(8, 2 * EXPERIENCES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.trunk(x))
        return out


def settled(head: nn.Module, known: int) -> None:
    """New outputs of a head without chance, so that two runs have the same."""
    with torch.no_grad():
        for p in head.parameters():
            p[known:] = torch.linspace(-0.3, 0.3, p[known:].numel()).view_as(p[known:])


class Outputs(IncrementalClassifier):
    def adaptation(self, experience: Any) -> None:
        known = self.classifier.out_features
        super().adaptation(experience)
        settled(self.classifier.double(), known)


class TaskOutputs(MultiHeadClassifier):
    def adaptation(self, experience: Any) -> None:
        known = list(self.classifiers)
        super().adaptation(experience)
        for task, head in self.classifiers.items():
            if task not in known:
                settled(head, 0)


class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk()
        self.head = Outputs(8, 2, masking=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.trunk(x))
        return out


class Heads(MultiTaskModule):
    """A head a task, all there from the start."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk()
        self.heads = nn.ModuleList(nn.Linear(8, 2) for _ in range(EXPERIENCES))

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        (task,) = set(task_labels.tolist())
        out: Tensor = self.heads[task](self.trunk(x))
        return out


class UpstreamHeads(MultiTaskModule):
    """A head a task, made as tasks come."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk()
        self.heads = TaskOutputs(8, 2, masking=False)

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        out: Tensor = self.heads(self.trunk(x), task_labels)
        return out


class Normalised(nn.Module):
    """With batch norm, whose statistics training moves and the Fisher pass must not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(INPUTS, 8), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 2 * EXPERIENCES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.norm(self.first(x))))
        return out


MODELS: dict[str, tuple[Callable[[], nn.Module], bool, torch.dtype]] = {
    "plain": (Plain, False, torch.float64),
    "growing": (Growing, False, torch.float64),
    "heads": (Heads, True, torch.float64),
    "upstream-heads": (UpstreamHeads, True, torch.float32),  # makes float32 outputs
    "normalised": (Normalised, False, torch.float64),
}

METHODS: dict[str, tuple[Callable[..., Any], Callable[[], Any], float]] = {
    "ewc": (partial(AdaptiveEWCPlugin, 40.0), partial(PaperEWC, 40.0), 20.0),
    "ewc-ema": (
        partial(
            AdaptiveEWCPlugin, 60.0, accumulation="ema", decay=0.7, labels="empirical"
        ),
        partial(PaperEWC, 60.0, "ema", 0.7, labels="empirical"),
        30.0,
    ),
    "ewc-separate": (
        partial(AdaptiveEWCPlugin, 40.0, accumulation="separate", num_samples=None),
        partial(PaperEWC, 40.0, "separate"),
        20.0,
    ),
    "ewc-balanced": (
        partial(AdaptiveEWCPlugin, 0.5, balance=True),
        partial(PaperEWC, 0.5, balance=True),
        0.25,
    ),
    "si": (partial(SynapticIntelligencePlugin, 2.0), partial(PaperSI, 2.0), 2.0),
}
"""Plugin, loop, and what the penalty's sum is multiplied by."""

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05),
    "momentum": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
}


def made(name: str) -> tuple[nn.Module, bool, torch.dtype]:
    make, tasks, dtype = MODELS[name]
    torch.manual_seed(2)
    return make().to(dtype), tasks, dtype


def strategy_of(
    model: nn.Module, plugins: Sequence[Any], optimizer: str, **k: Any
) -> Any:
    return Naive(
        model=model,
        optimizer=OPTIMIZERS[optimizer](model.parameters()),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=k.pop("train_mb_size", 7),
        train_epochs=k.pop("train_epochs", 2),
        eval_mb_size=16,
        evaluator=LeanEvaluationPlugin(),
        plugins=list(plugins),
        **k,
    )


def batches_of(
    x: Tensor, y: Tensor, task: Tensor | None, size: int = 7, epochs: int = 2
) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """In order, as ``shuffle=False`` has them."""
    return epochs * [
        (x[i : i + size], y[i : i + size], None if task is None else task[i : i + size])
        for i in range(0, len(x), size)
    ]


def reference(
    model: nn.Module,
    benchmark: Any,
    tasks: bool,
    dtype: torch.dtype,
    papers: Sequence[Any],
    optimizer: str,
    ahead: int = 1,
    **options: Any,
) -> None:
    """The run, as a loop. Avalanche makes a new optimizer state where a model grows."""
    steps = OPTIMIZERS[optimizer](model.parameters())
    for number, experience in enumerate(benchmark.train_stream):
        avalanche_model_adaptation(model, experience)
        stepped = {id(p) for p in steps.param_groups[0]["params"]}
        if stepped != {id(p) for p in model.parameters()}:
            steps = OPTIMIZERS[optimizer](model.parameters())
        x, y = rows(number, tasks, dtype)
        task = torch.full((ROWS,), number) if tasks else None
        for paper in papers:
            paper.begin(model)
        train(model, steps, batches_of(x, y, task), papers, **options)
        for paper in papers:
            paper.end(model, rows_of(x, y, task))
        for other in benchmark.test_stream[: number + ahead]:
            avalanche_model_adaptation(model, other)


def run(strategy: Any, benchmark: Any, ahead: int = 1) -> None:
    """With an evaluation after each experience.

    :param ahead: of the experiences until then, or of so many more, which grows models.
    """
    for number, experience in enumerate(benchmark.train_stream):
        strategy.train(experience, eval_streams=[], shuffle=False)
        strategy.eval(benchmark.test_stream[: number + ahead])


def same(ours: nn.Module, theirs: nn.Module) -> None:
    floats = [
        {n: v for n, v in m.state_dict().items() if v.is_floating_point()}
        for m in (ours, theirs)
    ]
    close(*floats)
