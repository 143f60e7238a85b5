"""Small streams that every test may train on."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.supervised import with_classes_timeline
from avalanche.benchmarks.scenarios.task_aware import with_task_labels
from avalanche.benchmarks.utils import (
    DataAttribute,
    TransformGroups,
    make_avalanche_dataset,
)
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from torch.utils.data import TensorDataset

from avalanche_ext import ScaleToUnit, compiled


@pytest.fixture(params=["compiled", "torch"])
def passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to go over the entries of parameters, one after the other."""
    if request.param == "torch":
        monkeypatch.setattr(compiled, "arrays", lambda *tensors: None)


@pytest.fixture
def class_stream() -> Callable[..., Any]:
    """A maker of class-incremental streams of 8x8 ``uint8`` images, two classes each.

    ``tasks=True`` gives task labels; ``scale=False`` float images without transform.
    """

    def make(
        experiences: int = 4, rows: int = 40, tasks: bool = False, scale: bool = True
    ) -> Any:
        generator = torch.Generator().manual_seed(7)
        centres = torch.randint(0, 256, (2 * experiences, 1, 8, 8), generator=generator)

        def dataset(number: int, n: int) -> Any:
            y = torch.arange(n) % 2 + 2 * number
            noise = torch.randint(-60, 60, (n, 1, 8, 8), generator=generator)
            x = (centres[y] + noise).clamp(0, 255).to(torch.uint8)
            attributes = [DataAttribute(y.tolist(), "targets")]
            if tasks:
                attributes.append(TaskLabels([number] * n))
            step = ScaleToUnit()
            groups = TransformGroups({"train": step, "eval": step}) if scale else None
            return make_avalanche_dataset(
                TensorDataset(x if scale else x / 255, y),
                data_attributes=attributes,
                transform_groups=groups,
            )

        benchmark = with_classes_timeline(
            benchmark_from_datasets(
                train=[dataset(i, rows) for i in range(experiences)],
                test=[dataset(i, 20) for i in range(experiences)],
            )
        )
        for stream in benchmark.streams.values():
            for experience in stream:  # upstream's multi-head indexes with them
                classes = sorted(experience.classes_in_this_experience)
                experience.classes_in_this_experience = classes
        return with_task_labels(benchmark) if tasks else benchmark

    return make
