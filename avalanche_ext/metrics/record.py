"""EvaluationRecord: who was right, after which training, counted once for all."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import matrix as of_matrix
from .matrix import Definition, mean_or_none

__all__ = ["Accuracy", "EvaluationRecord", "experience_index"]


class Accuracy(NamedTuple):
    """Fractions of the samples that were predicted right.

    ``plain`` takes the arg-max over all outputs, ``task_masked`` among the classes
    of the evaluated experience alone (None where it was not counted).
    """

    plain: float
    task_masked: float | None


@dataclass
class _Row:
    """Accuracies measured while ``trained`` was the last training experience."""

    trained: int | None
    cells: dict[str, dict[int, Accuracy]] = field(default_factory=dict)


@dataclass
class _Tally:
    """Counts of one experience under evaluation; tensors stay on the device."""

    stream: str
    experience: int
    total: int = 0
    right: Tensor | None = None
    right_masked: Tensor | None = None
    width: int = -1
    columns: Tensor | None = None


def experience_index(experience: Any) -> int | None:
    """Index of an experience in its benchmark, in the user's sense of experience.

    A sub-experience of an online stream has the index of the experience it was
    cut from, also where the stream hides that from the strategy
    (``access_task_boundaries=False``): to measure is not to learn.

    :param experience: an Avalanche experience.
    :return: the index; None where there is none, as for the sub-experiences that
        blend several experiences.
    """
    view = experience.logging()
    while hasattr(view, "origin_experience"):
        if view.origin_experience is None:
            return None
        view = view.origin_experience.logging()
    try:
        return int(view.current_experience)
    except AssertionError:  # Avalanche's way to say that it belongs to no stream
        return None


class EvaluationRecord:
    """Accuracy on every evaluated experience after every training experience.

    Plugin metrics call it from their callbacks; several may share one record,
    which then counts every minibatch once. It is a plain object and never emits
    anything itself: after a run, read its properties.

    A *row* stands for a training experience. It begins when training on another
    experience begins; on online streams, all sub-experiences of one experience
    make one row. An evaluation belongs to the last row; evaluating the same
    experience again, as ``eval_every`` does, replaces its value there, so that the
    last evaluation after a training experience counts. Evaluations before any
    training are kept apart, see :attr:`accuracy_before_training`. A *column* is an
    experience of the evaluated stream, by ``experience.current_experience``.
    Streams of different names have a matrix each.

    Sub-experiences that blend several experiences belong to none of them: a row
    begins at the first after an evaluation, and forgetting is undefined.

    >>> record = EvaluationRecord()
    >>> record.accuracy_matrix
    []

    :param stream: name of the stream that the properties speak of, such as
        ``"test"``; by default the one that was evaluated last.
    :param task_masked: whether to count the arg-max among the classes of the
        evaluated experience too. The classes are the experience's
        ``classes_in_this_experience``, otherwise those among its data set's
        targets.
    """

    def __init__(self, *, stream: str | None = None, task_masked: bool = True) -> None:
        self.stream = stream
        self.task_masked = task_masked
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._rows: list[_Row] = []
        self._untrained = _Row(None)
        self._last_stream: str | None = None
        self._begin_stream()

    def _begin_stream(self) -> None:
        self._tally: _Tally | None = None
        self._iteration = -1
        self._sums = [0, 0, 0]
        self._latest: Accuracy | None = None

    # What metrics call. Each may be called several times for the same event.

    def begin_training(self, strategy: Any) -> None:
        """Note which experience is trained from now on (``before_training_exp``)."""
        index = experience_index(strategy.experience)
        if self._rows:
            last = self._rows[-1]
            if last.trained == index and (index is not None or not last.cells):
                return
        self._rows.append(_Row(index))

    def begin_evaluation(self, strategy: Any) -> None:
        """Begin a call of ``strategy.eval`` (``before_eval``)."""
        self._begin_stream()

    def begin_experience(self, strategy: Any) -> None:
        """Begin to count an evaluated experience (``before_eval_exp``)."""
        view = strategy.experience.logging()
        index = experience_index(view)
        self._tally = _Tally(
            stream=view.origin_stream.name,
            experience=view.current_experience if index is None else index,
        )
        self._iteration = -1
        self._latest = None

    def update(self, strategy: Any) -> None:
        """Count one minibatch, once however often called (``after_eval_iteration``).

        Reads ``strategy.mb_output`` (rows, classes) and ``strategy.mb_y`` (rows,), or
        one-hot (rows, classes), and waits for no device.

        :raises ValueError: if the output is no matrix with a row for each target,
            or if the classes of the experience are asked for and unknown.
        """
        # The clock tells minibatches apart without holding on to their tensors,
        # also for models that write every output into the same tensor.
        iteration = strategy.clock.total_iterations
        tally = self._tally
        if iteration == self._iteration or tally is None:
            return
        output, target = strategy.mb_output, strategy.mb_y
        if output.ndim != 2 or len(output) != len(target):
            raise ValueError(
                f"accuracy needs an output of shape (rows, classes) and as many "
                f"targets, not {tuple(output.shape)} and {tuple(target.shape)}"
            )
        if target.ndim == 2:
            target = target.argmax(1)
        right = torch.count_nonzero(torch.eq(output.argmax(1), target))
        masked = right
        if self.task_masked:
            if output.shape[1] != tally.width:
                self._choose_columns(tally, output, strategy.experience)
            columns = tally.columns
            if columns is not None:
                best = output.index_select(1, columns).argmax(1)
                guess = columns.index_select(0, best)
                masked = torch.count_nonzero(torch.eq(guess, target))
        if tally.right is None or tally.right_masked is None:
            # masked may be the same tensor as right: own two, to add in place
            tally.right, tally.right_masked = right, masked.clone()
        else:
            tally.right.add_(right)
            tally.right_masked.add_(masked)
        tally.total += len(output)
        self._iteration = iteration

    def end_experience(self, strategy: Any) -> None:
        """Read the counts and file them in the matrix (``after_eval_exp``)."""
        tally, self._tally = self._tally, None
        if tally is None or tally.right is None or tally.right_masked is None:
            return
        right, masked = torch.stack((tally.right, tally.right_masked)).tolist()
        self._latest = self._accuracy(right, masked, tally.total)
        counts = (right, masked, tally.total)
        self._sums = [a + b for a, b in zip(self._sums, counts, strict=True)]
        row = self._rows[-1] if self._rows else self._untrained
        row.cells.setdefault(tally.stream, {})[tally.experience] = self._latest
        self._last_stream = tally.stream

    def _accuracy(self, right: int, masked: int, total: int) -> Accuracy:
        return Accuracy(right / total, masked / total if self.task_masked else None)

    def _choose_columns(self, tally: _Tally, output: Tensor, experience: Any) -> None:
        """Gather the outputs of the experience's classes; None where it is all."""
        view = experience.logging()
        classes = getattr(view, "classes_in_this_experience", None)
        if classes is None:
            targets = getattr(view.dataset, "targets", None)
            if targets is None:
                raise ValueError(
                    f"the classes of experience {tally.experience} of stream "
                    f"{tally.stream!r} are unknown: give its data set a 'targets' "
                    f"attribute, apply with_classes_timeline to the benchmark, or "
                    f"use EvaluationRecord(task_masked=False)"
                )
            classes = targets.uniques if hasattr(targets, "uniques") else targets
        width = output.shape[1]
        # a class beyond the outputs cannot be predicted
        columns = sorted({int(c) for c in classes} & set(range(width)))
        tally.width = width
        tally.columns = (
            torch.tensor(columns, device=output.device)
            if 0 < len(columns) < width
            else None
        )

    # What was measured.

    @property
    def trained(self) -> list[int | None]:
        """Index of the training experience of each row; None where it has none."""
        return [row.trained for row in self._rows]

    @property
    def evaluated_stream(self) -> str | None:
        """Name of the stream that was evaluated last."""
        return self._last_stream

    @property
    def experience_accuracy(self) -> Accuracy | None:
        """Accuracies on the experience evaluated last; None if it had no samples."""
        return self._latest

    @property
    def stream_accuracy(self) -> Accuracy | None:
        """Accuracies over all samples of the last evaluation, samples weighing alike."""
        return self._accuracy(*self._sums) if self._sums[2] else None

    @property
    def accuracy_matrix(self) -> list[list[float | None]]:
        """``a_{t,i}``: rows in order of training; None where not evaluated."""
        return self.matrix()

    @property
    def task_masked_matrix(self) -> list[list[float | None]]:
        """:attr:`accuracy_matrix` with the arg-max among the experience's classes."""
        return self.matrix(task_masked=True)

    @property
    def accuracy_before_training(self) -> list[float | None]:
        """Accuracy on each experience before any training; None where not evaluated."""
        return self._line(self._untrained, self.stream or self._last_stream, False)

    @property
    def average_accuracy(self) -> float | None:
        """Mean of the last row that was evaluated: ``1/n sum_i a_{T,i}``."""
        return of_matrix.average_accuracy(self.matrix())

    @property
    def forgetting(self) -> list[float | None]:
        """``f_i = max_{l<T} a_{l,i} - a_{T,i}`` of each experience i trained before
        T, the last row that was evaluated (Chaudhry et al. 2018); else None."""
        return self.forgetting_by("max")

    @property
    def average_forgetting(self) -> float | None:
        """Mean of :attr:`forgetting` over the experiences trained before T."""
        return mean_or_none(self.forgetting)

    @property
    def backward_transfer(self) -> float | None:
        """``mean_{i<T} (a_{T,i} - a_{i,i})`` over the experiences trained before T
        (Lopez-Paz & Ranzato 2017)."""
        return mean_or_none(of_matrix.backward_transfer(self.matrix(), self.trained))

    def matrix(
        self, *, task_masked: bool = False, stream: str | None = None
    ) -> list[list[float | None]]:
        """The accuracy matrix of one stream.

        :param task_masked: whether to read the task-masked accuracies.
        :param stream: the stream's name; by default that of the record.
        :return: ``[t][i]``, fractions of one; None where not evaluated.
        """
        name = stream or self.stream or self._last_stream
        return [self._line(row, name, task_masked) for row in self._rows]

    def forgetting_by(
        self, definition: Definition = "max", *, stream: str | None = None
    ) -> list[float | None]:
        """Forgetting of each experience by a definition of
        :func:`~avalanche_ext.metrics.matrix.experience_forgetting`.

        :raises ValueError: for an unknown definition.
        """
        return of_matrix.forgetting(
            self.matrix(stream=stream), self.trained, definition
        )

    def column(self, stream: str, experience: int) -> list[float | None]:
        """``a_{0,i} ... a_{t,i}`` of one experience, without building the matrix."""
        cells = (row.cells.get(stream, {}).get(experience) for row in self._rows)
        return [None if cell is None else cell.plain for cell in cells]

    def _line(
        self, row: _Row, stream: str | None, task_masked: bool
    ) -> list[float | None]:
        if stream is None:
            return []
        rows = [self._untrained, *self._rows]
        seen = [i for other in rows for i in other.cells.get(stream, {})]
        cells = row.cells.get(stream, {})
        line = [cells.get(i) for i in range(max(seen, default=-1) + 1)]
        return [None if cell is None else cell[task_masked] for cell in line]

    # Checkpoints.

    def state_dict(self) -> dict[str, Any]:
        """What was measured, as plain containers."""
        return {
            "rows": [_to_state(row) for row in self._rows],
            "untrained": _to_state(self._untrained),
            "last_stream": self._last_stream,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; counts under way are dropped."""
        self._rows = [_from_state(row) for row in state["rows"]]
        self._untrained = _from_state(state["untrained"])
        self._last_stream = state["last_stream"]
        self._begin_stream()


def _to_state(row: _Row) -> dict[str, Any]:
    cells = {
        stream: {i: list(cell) for i, cell in line.items()}
        for stream, line in row.cells.items()
    }
    return {"trained": row.trained, "cells": cells}


def _from_state(state: dict[str, Any]) -> _Row:
    cells = {
        stream: {i: Accuracy(*cell) for i, cell in line.items()}
        for stream, line in state["cells"].items()
    }
    return _Row(state["trained"], cells)
