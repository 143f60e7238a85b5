"""Tally: how many samples of one evaluated experience were predicted right."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Accuracy", "Tally"]


class Accuracy(NamedTuple):
    """Fractions of the samples that were predicted right.

    ``plain`` takes the arg-max over all outputs, ``task_masked`` among the classes
    of the evaluated experience alone (None where it was not counted).
    """

    plain: float
    task_masked: float | None


class Tally:
    """Counts right predictions of one experience, without waiting for a device.

    The counts are tensors where the output is; :meth:`read` copies them to the
    host once. With one thread, a batch of 256 × 10 outputs costs about 15 µs with
    both arg-maxes.

    :param experience: the evaluated experience, with all its attributes visible.
    :param task_masked: whether to count the arg-max among its classes too. They are
        its ``classes_in_this_experience``, otherwise those among the targets of its
        data set; of a sub-experience, those of the experience that it was cut from.
    """

    def __init__(self, experience: Any, *, task_masked: bool) -> None:
        self.total = 0
        self._classes = _classes_of(experience) if task_masked else None
        self._right: Tensor | None = None
        self._right_masked: Tensor | None = None
        self._width = -1
        self._columns: Tensor | None = None

    def add(self, output: Tensor, target: Tensor) -> None:
        """Count one minibatch.

        :param output: scores, (rows, classes).
        :param target: class of each row, (rows,), or one-hot (rows, classes).
        :raises ValueError: if the output is no matrix with a row for each target.
        """
        if output.ndim != 2 or len(output) != len(target):
            raise ValueError(
                f"accuracy needs an output of shape (rows, classes) and as many "
                f"targets, not {tuple(output.shape)} and {tuple(target.shape)}"
            )
        if target.ndim == 2:
            target = target.argmax(1)
        right = torch.count_nonzero(torch.eq(output.argmax(1), target))
        if self._classes is not None:
            if output.shape[1] != self._width:
                self._choose_columns(output, self._classes)
            masked = self._count_masked(output, target, right)
            if self._right_masked is None:
                # it may be the same tensor as right: own one, to add in place
                self._right_masked = masked.clone()
            else:
                self._right_masked.add_(masked)
        self._right = right if self._right is None else self._right.add_(right)
        self.total += len(output)

    def read(self) -> tuple[int, int | None] | None:
        """Right predictions, plain and task-masked; None if nothing was counted."""
        if self._right is None:
            return None
        if self._right_masked is None:
            return int(self._right), None
        right, masked = torch.stack((self._right, self._right_masked)).tolist()
        return right, masked

    def _count_masked(self, output: Tensor, target: Tensor, right: Tensor) -> Tensor:
        if self._columns is None:
            return right
        best = output.index_select(1, self._columns).argmax(1)
        guess = self._columns.index_select(0, best)
        return torch.count_nonzero(torch.eq(guess, target))

    def _choose_columns(self, output: Tensor, classes: frozenset[int]) -> None:
        """The outputs of the classes; None where all outputs are theirs, or none."""
        self._width = width = output.shape[1]
        # a class beyond the outputs cannot be predicted
        columns = sorted(classes & set(range(width)))
        self._columns = (
            torch.tensor(columns, device=output.device)
            if 0 < len(columns) < width
            else None
        )


def _classes_of(experience: Any) -> frozenset[int]:
    origin = getattr(experience, "origin_experience", None)
    if origin is not None:
        return _classes_of(origin.logging())
    classes = getattr(experience, "classes_in_this_experience", None)
    if classes is None:
        targets = getattr(experience.dataset, "targets", None)
        if targets is None:
            raise ValueError(
                f"task-masked accuracy does not know the classes of experience "
                f"{experience.current_experience} of stream "
                f"{experience.origin_stream.name!r}: give its data set a 'targets' "
                f"attribute, apply with_classes_timeline to the benchmark, or use "
                f"EvaluationRecord(task_masked=False)"
            )
        # the unique values of Avalanche's attributes are computed once, and kept
        classes = targets.uniques if hasattr(targets, "uniques") else targets
    return frozenset(int(c) for c in classes)
