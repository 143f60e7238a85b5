"""Streams of experiences made of arrays, in three scenarios, batch and online."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks import (
    benchmark_from_datasets,
    split_online_stream,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.benchmarks.utils import (
    AvalancheDataset,
    DataAttribute,
    TransformGroups,
)
from torch.utils.data import TensorDataset

from avalanche_ext.storage.transforms import ScaleToUnit
from experiments.data import Arrays
from experiments.models import Task
from experiments.recipe import Data


@dataclass(frozen=True)
class Benchmark:
    """Training and test streams.

    :param train: the training stream.
    :param test: the test stream, always one experience for each group of classes.
    :param classes: the data set's own labels in each test experience.
    :param task: what a model must fit.
    :param scenario: ``"class"``, ``"domain"`` or ``"task"``.
    """

    train: Any
    test: Any
    classes: list[list[int]]
    task: Task
    scenario: str


def build(
    arrays: Arrays,
    groups: Sequence[Sequence[int]],
    scenario: str,
    data: Data = "own",
) -> Benchmark:
    """Split arrays by class. Rows keep the order of the arrays; nothing is drawn.

    ``class``: one head, every class its own label. ``domain``: labels from zero in
    each experience, one head. ``task``: labels from zero, task labels, a head a task.

    :param groups: positions of the classes of each experience.
    :param scenario: ``"class"``, ``"domain"`` or ``"task"``.
    :param data: the data of training experience t: its ``own``, those ``seen`` up to
        t, or ``all`` of them in one single experience.
    """
    labels = [
        list(group) if scenario == "class" else list(range(len(group)))
        for group in groups
    ]
    # One transform for all, so that whoever looks can see that it is the same one.
    scale = None if arrays.maximum is None else ScaleToUnit(arrays.maximum)
    split = partial(
        _datasets,
        scale=scale,
        groups=groups,
        labels=labels,
        task_known=scenario == "task",
    )
    streams = with_classes_timeline(
        benchmark_from_datasets(
            train=split(arrays.x_train, arrays.y_train, data=data),
            test=split(arrays.x_test, arrays.y_test, data="own"),
        )
    )
    if scenario == "task":
        streams = with_task_labels(streams)
    return Benchmark(
        streams.train_stream,
        streams.test_stream,
        [[arrays.classes[c] for c in group] for group in groups],
        Task(
            arrays.x_train.shape[1:],
            len(arrays.classes) if scenario == "class" else len(groups[0]),
            len(groups) if scenario == "task" else 0,
        ),
        scenario,
    )


def online(experience: Any, size: int, seed: int) -> Iterator[Any]:
    """Sub-experiences of ``size`` rows in random order, made as they are needed.

    They know their classes and, where the experience has them, its task labels, which
    also give away the boundaries; otherwise boundaries are hidden from training.

    :param seed: decides the order alone.
    """
    known = hasattr(experience, "task_labels")
    stream = split_online_stream(
        [experience], size, access_task_boundaries=known, seed=seed
    )
    for position, part in enumerate(stream):
        # Upstream leaves the last one unmarked when the sizes divide evenly.
        part.is_last_subexp = position == part.sub_stream_length - 1
        part.classes_in_this_experience = experience.classes_in_this_experience
        if known:
            part.task_labels = experience.task_labels
        yield part


def _datasets(
    x: np.ndarray,
    y: np.ndarray,
    scale: ScaleToUnit | None,
    groups: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    task_known: bool,
    data: Data,
) -> list[AvalancheDataset]:
    """A dataset an experience, all of them views of one copy of the rows."""
    rows = [np.flatnonzero(np.isin(y, group)) for group in groups]
    label = np.zeros(max(map(max, groups)) + 1, dtype=np.int64)
    for group, own in zip(groups, labels, strict=True):
        label[list(group)] = own
    order = np.concatenate(rows)
    inputs, targets = torch.from_numpy(x[order]), torch.from_numpy(label[y[order]])
    tasks = np.repeat(range(len(rows)), list(map(len, rows))).tolist()
    ends = np.cumsum(list(map(len, rows))).tolist()
    starts = [0, *ends[:-1]] if data == "own" else [0] * len(ends)
    if data == "all":
        starts, ends = [0], ends[-1:]
    return [
        _dataset(
            TensorDataset(inputs[start:end], targets[start:end]),
            scale,
            tasks[start:end] if task_known else None,
        )
        for start, end in zip(starts, ends, strict=True)
    ]


def _dataset(
    rows: TensorDataset, scale: ScaleToUnit | None, tasks: list[int] | None
) -> AvalancheDataset:
    attributes = [DataAttribute(rows.tensors[1].tolist(), "targets")]
    if tasks is not None:
        attributes.append(
            DataAttribute(tasks, "targets_task_labels", use_in_getitem=True)
        )
    groups = None
    if scale is not None:
        groups = TransformGroups({"train": (scale, None), "eval": (scale, None)})
    return AvalancheDataset([rows], data_attributes=attributes, transform_groups=groups)
