"""Streams of experiences made of arrays, in three scenarios, batch and online."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from experiments.pixel_maps import Pixels, apply_map, pixel_maps
from experiments.recipe import Data
from experiments.rows import Portion, portions, training_portions


@dataclass(frozen=True)
class Benchmark:
    """Training and test streams.

    :param train: the training stream.
    :param test: the test stream, always one experience for each group of classes.
    :param classes: the data set's own labels in each test experience.
    :param task: what a model must fit.
    :param scenario: ``"class"``, ``"domain"`` or ``"task"``.
    :param task_labels: whether rows carry the number of their experience.
    """

    train: Any
    test: Any
    classes: list[list[int]]
    task: Task
    scenario: str
    task_labels: bool = False


def build(
    arrays: Arrays,
    groups: Sequence[Sequence[int]],
    scenario: str,
    data: Data = "own",
    *,
    pixels: Pixels = "same",
    samples: Sequence[int] = (),
    label_noise: float = 0.0,
    task_labels: bool = False,
    shuffled: bool = False,
    seed: int = 0,
) -> Benchmark:
    """Experiences of some classes each.

    ``class``: one head; labels go on from one experience to the next. ``domain``:
    labels from zero in each experience, one head. ``task``: labels from zero, task
    labels, a head a task.

    :param groups: positions of the classes of each experience, ascending.
    :param scenario: ``"class"``, ``"domain"`` or ``"task"``.
    :param data: the data of training experience t: its ``own``, those ``seen`` up to
        t, or ``all`` of them in one single experience.
    :param pixels: what each experience does to its images; see
        :mod:`experiments.pixel_maps`.
    :param samples: training rows drawn for each experience; see
        :func:`experiments.rows.training_portions`.
    :param label_noise: share of the training rows that get a wrong label.
    :param task_labels: whether rows carry the number of their experience where the
        scenario has one head, too.
    :param shuffled: whether training rows come in a drawn order, not the arrays'.
    :param seed: decides what is drawn, alone; torch's generator is left as it is.
    :raises UserError: where the data lack rows for ``samples``, or classes for
        ``label_noise``.
    """
    starts = [0] * len(groups)
    if scenario == "class":
        starts = np.cumsum([0, *map(len, groups[:-1])]).tolist()
    outputs = len(groups[0])
    if scenario == "class":
        outputs = sum(map(len, groups))
    labelled = task_labels or scenario == "task"
    # One transform for all, so that whoever looks can see that it is the same one.
    scale = None if arrays.maximum is None else ScaleToUnit(arrays.maximum)
    maps = pixel_maps(pixels, arrays.x_train.shape[1:], len(groups), seed)
    train = training_portions(
        arrays.y_train, groups, samples, label_noise, seed, shuffled=shuffled
    )
    test = portions(arrays.y_test, groups)

    def split(x: np.ndarray, parts: list[Portion], data: Data) -> list[Any]:
        inputs = torch.from_numpy(_inputs(x, parts, maps))
        labels = [
            start + np.searchsorted(group, part.classes)
            for start, group, part in zip(starts, groups, parts, strict=True)
        ]
        return _datasets(inputs, labels, scale, labelled, data)

    streams = with_classes_timeline(
        benchmark_from_datasets(
            train=split(arrays.x_train, train, data),
            test=split(arrays.x_test, test, "own"),
        )
    )
    if labelled:
        streams = with_task_labels(streams)
    return Benchmark(
        streams.train_stream,
        streams.test_stream,
        [[arrays.classes[c] for c in group] for group in groups],
        Task(arrays.x_train.shape[1:], outputs, len(groups) * (scenario == "task")),
        scenario,
        labelled,
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


def _inputs(
    x: np.ndarray, parts: Sequence[Portion], maps: Sequence[np.ndarray] | None
) -> np.ndarray:
    """The rows of all experiences, one after the other."""
    made = np.empty((sum(len(part.rows) for part in parts), *x.shape[1:]), x.dtype)
    start = 0
    for t, (rows, _) in enumerate(parts):
        place = made[start : start + len(rows)]
        if maps is None:
            np.take(x, rows, axis=0, out=place, mode="clip")  # "clip" spares a copy
        else:
            apply_map(x[rows], maps[t], place)
        start += len(rows)
    return made


def _datasets(
    inputs: torch.Tensor,
    labels: Sequence[np.ndarray],
    scale: ScaleToUnit | None,
    task_known: bool,
    data: Data,
) -> list[AvalancheDataset]:
    """A dataset an experience, all of them views of one copy of the rows."""
    lengths = list(map(len, labels))
    targets = torch.from_numpy(np.concatenate(labels))
    tasks = np.repeat(range(len(lengths)), lengths).tolist()
    ends = np.cumsum(lengths).tolist()
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
    # Upstream would find them by a loop, which takes seconds for a million rows.
    attributes[0]._uniques = set(rows.tensors[1].unique().tolist())
    if tasks is not None:
        attributes.append(
            DataAttribute(tasks, "targets_task_labels", use_in_getitem=True)
        )
    groups = None
    if scale is not None:
        groups = TransformGroups({"train": (scale, None), "eval": (scale, None)})
    return AvalancheDataset([rows], data_attributes=attributes, transform_groups=groups)
