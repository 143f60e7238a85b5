"""Strategies as ours and as upstream's users would set them up, and their streams."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from avalanche.training.supervised import Naive
from torch import Tensor, nn

from avalanche_ext import LeanEvaluationPlugin, ResidentDataPlugin, reservoir_replay
from experiments.bench.images import image_streams
from experiments.bench.workload import CLASSES, SHAPE, Workload
from experiments.benchmarks import build
from experiments.models import MODELS, Task

Rows = Literal["bytes", "floats", "raw", "images"]
"""``uint8`` tensors with a transform, as the runner has them; floats that need none, the
fastest way through upstream's loader; ``uint8`` and nothing else, where no model is fed;
images that are decoded one by one, as upstream's own benchmarks have them."""
LEARNING_RATE = 0.01
INIT = "default"
TASK = Task((1, *SHAPE), CLASSES, 0)


def network(hidden: Sequence[int]) -> nn.Module:
    """The same network with the same weights for every contender."""
    torch.manual_seed(0)
    model: nn.Module = MODELS["mlp"](TASK, hidden, INIT)
    return model


def descent(model: nn.Module) -> torch.optim.Optimizer:
    """The same optimizer for every contender."""
    return torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)


def experience(work: Workload, start: int, stop: int, rows: Rows) -> Any:
    """Training rows ``start … stop − 1`` as one experience of all classes."""
    arrays = work.part(start, stop, floats=rows == "floats")
    if rows == "images":
        return image_streams(arrays, [range(CLASSES)]).train_stream[0]
    if rows == "raw":
        arrays = dataclasses.replace(arrays, maximum=None)
    return build(arrays, [list(range(CLASSES))], "class").train[0]


def tensors(
    work: Workload, start: int, stop: int, floats: bool
) -> tuple[Tensor, Tensor]:
    """The same rows as tensors."""
    arrays = work.part(start, stop, floats)
    return torch.from_numpy(arrays.x_train), torch.from_numpy(arrays.y_train)


def ours(
    hidden: Sequence[int],
    batch: int,
    memory: int = 0,
    *,
    resident: bool = True,
    plugins: Sequence[Any] = (),
    **more: Any,
) -> Naive:
    """Naive training with lean evaluation and, if ``memory``, replay.

    :param resident: whether data are resident, or come through Avalanche's loader.
    :param plugins: further ones.
    """
    model = network(hidden)
    plugins = [*([ResidentDataPlugin()] if resident else []), *plugins]
    if memory:
        plugins.append(reservoir_replay(memory, batch_size_mem=batch, seed=0))
    return Naive(
        **_common(model, batch),
        plugins=plugins,
        **{"evaluator": LeanEvaluationPlugin(), **more},
    )


def upstream(
    hidden: Sequence[int],
    batch: int,
    memory: int = 0,
    *,
    plugins: Sequence[Any] = (),
    **more: Any,
) -> Naive:
    """Naive training and, if ``memory``, replay of a reservoir.

    :param plugins: further ones.
    """
    policy = ReservoirSamplingBuffer(memory) if memory else None
    return _upstream(hidden, batch, memory, policy, plugins, **more)


def upstream_default(hidden: Sequence[int], batch: int, memory: int) -> Naive:
    """Naive training with upstream's replay as it comes, balanced by experience."""
    return _upstream(hidden, batch, memory, None)


def upstream_metrics() -> EvaluationPlugin:
    """What upstream's users measure: accuracy and forgetting."""
    return EvaluationPlugin(
        accuracy_metrics(experience=True, stream=True),
        forgetting_metrics(experience=True, stream=True),
    )


def _upstream(
    hidden: Sequence[int],
    batch: int,
    memory: int,
    policy: Any,
    more_plugins: Sequence[Any] = (),
    **more: Any,
) -> Naive:
    model = network(hidden)
    plugins = list(more_plugins)
    if memory:
        plugins.append(
            ReplayPlugin(
                memory, batch_size=batch, batch_size_mem=batch, storage_policy=policy
            )
        )
    return Naive(
        **_common(model, batch),
        plugins=plugins,
        **{"evaluator": EvaluationPlugin(), **more},
    )


def _common(model: nn.Module, batch: int) -> dict[str, Any]:
    return {
        "model": model,
        "optimizer": descent(model),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": batch,
    }
