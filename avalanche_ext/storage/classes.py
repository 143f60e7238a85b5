"""Classes of rows: a label, or a label of a task where there are task labels."""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor


def class_of_each(y: Tensor, task: Tensor | None, reader: str) -> Sequence[Hashable]:
    """The class of each row: its label, or ``(task, label)``.

    :param reader: who asks, for the error.
    :raises ValueError: for targets or task labels that are no class labels.
    """
    _check_labels("y", y, reader)
    labels: list[int] = y.tolist()
    if task is None:
        return labels
    _check_labels("task", task, reader)
    return list(zip(task.tolist(), labels, strict=True))


def class_counts(y: Tensor, task: Tensor | None, reader: str) -> dict[Any, int]:
    """Rows of each class, in the order of the classes.

    :param reader: who asks, for the error.
    :raises ValueError: for targets or task labels that are no class labels.
    """
    _check_labels("y", y, reader)
    if task is None:
        classes, counts = torch.unique(y, return_counts=True)
        return dict(zip(classes.tolist(), counts.tolist(), strict=True))
    _check_labels("task", task, reader)
    pairs = torch.stack((task.long(), y.long()), 1)
    classes, counts = torch.unique(pairs, dim=0, return_counts=True)
    return dict(zip(map(tuple, classes.tolist()), counts.tolist(), strict=True))


def _check_labels(name: str, labels: Tensor, reader: str) -> None:
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(
            f"{reader} reads classes from {name!r}, one whole number a row, got "
            f"{labels.dtype} of shape {tuple(labels.shape)}: give class indices "
            "(of one-hot targets y.argmax(1)); admission 'reservoir' takes any targets"
        )
