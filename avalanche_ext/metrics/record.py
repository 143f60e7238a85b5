"""EvaluationRecord: accuracy on each experience after each training experience."""

from dataclasses import dataclass, field
from typing import Any

from avalanche.benchmarks.scenarios.generic_scenario import MaskedAttributeError

import avalanche_ext.metrics.matrix as of_matrix
from avalanche_ext.arguments import check_flag
from avalanche_ext.metrics.matrix import Definition, mean_or_none
from avalanche_ext.metrics.tally import Accuracy, Tally

__all__ = ["EvaluationRecord", "experience_index"]


@dataclass
class _Row:
    """Accuracies measured while ``trained`` was the last training experience."""

    trained: int | None
    cells: dict[str, dict[int, Accuracy]] = field(default_factory=dict)


def experience_index(experience: Any) -> int | None:
    """Index of an experience in its benchmark, in the user's sense of experience.

    A sub-experience of an online stream has the index of the experience it was
    cut from, also where the stream hides that from the strategy
    (``access_task_boundaries=False``): to measure is not to learn.

    :param experience: an Avalanche experience.
    :return: the index; None where there is none, as for the sub-experiences that
        blend several experiences.
    """
    try:
        return _index(experience)
    except MaskedAttributeError:  # evaluation plugins unmask before metrics are called
        return _index(experience.logging())


def _index(view: Any) -> int | None:
    origin = getattr(view, "origin_experience", view)
    if origin is None:
        return None
    if origin is not view:
        return experience_index(origin)
    try:
        return int(view.current_experience)
    except AssertionError:  # Avalanche's way to say that it belongs to no stream
        return None


class EvaluationRecord:
    """Accuracy on every evaluated experience after every training experience.

    Plugin metrics call it from their callbacks; several may share one record,
    which then counts every minibatch once. It emits nothing itself: read its
    properties during or after a run. All values are fractions of one.

    A *row* stands for a training experience. It begins when training on another
    experience begins; on online streams, all sub-experiences of one experience
    make one row. An evaluation belongs to the last row; evaluating the same
    experience again, as ``eval_every`` does, replaces its value there, so that the
    last evaluation after a training experience counts. Evaluations before any
    training are kept apart, see :attr:`accuracy_before_training`. A *column* is an
    experience of the evaluated stream, by ``experience.current_experience``.
    Streams of different names have a matrix each. Where the evaluated stream is an
    online one, a column is the experience that its sub-experiences were cut from,
    with all samples of those in one call of ``strategy.eval``.

    Sub-experiences that blend several experiences belong to none of them: a row
    begins at the first one after an evaluation, and forgetting is undefined.

    >>> record = EvaluationRecord()
    >>> record.accuracy_matrix
    []

    :param stream: name of the stream that the properties speak of, such as
        ``"test"``; by default the one that was evaluated last.
    :param task_masked: whether to count the arg-max among the classes of the
        evaluated experience too, see :class:`~avalanche_ext.metrics.tally.Tally`.
    :raises ValueError: for anything but a name and a flag.
    """

    def __init__(self, *, stream: str | None = None, task_masked: bool = True) -> None:
        if stream is not None and not isinstance(stream, str):
            raise ValueError(
                f"stream must be the name of a stream, such as 'test', or None, got "
                f"{stream!r}"
            )
        check_flag("task_masked", task_masked)
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
        self._tally: Tally | None = None
        self._cell = ("", -1)
        self._pools: dict[tuple[str, int], list[int]] = {}
        self.part = False
        """Whether what was evaluated last is a sub-experience of another."""
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
        """Begin to count an evaluated experience (``before_eval_exp``).

        :raises ValueError: if its classes are needed and unknown.
        """
        view = strategy.experience.logging()
        index = experience_index(view)
        index = view.current_experience if index is None else index
        self._cell = (view.origin_stream.name, index)
        self.part = getattr(view, "origin_experience", None) is not None
        self._tally = Tally(view, task_masked=self.task_masked)
        self._iteration = -1
        self._latest = None

    def update(self, strategy: Any) -> None:
        """Count one minibatch, once however often called (``after_eval_iteration``).

        Reads ``strategy.mb_output`` (rows, classes) and ``strategy.mb_y`` (rows,).

        :raises ValueError: if the output is no matrix with a row for each target.
        """
        # The clock tells minibatches apart without holding on to their tensors,
        # also for models that write every output into the same tensor.
        iteration = strategy.clock.total_iterations
        if self._tally is not None and iteration != self._iteration:
            self._tally.add(strategy.mb_output, strategy.mb_y)
            self._iteration = iteration

    def end_experience(self, strategy: Any) -> None:
        """Read the counts and file them in the matrix (``after_eval_exp``)."""
        tally, self._tally = self._tally, None
        counts = tally.read() if tally is not None else None
        if tally is None or counts is None:
            return
        right, masked = counts
        pool = self._pools.setdefault(self._cell, [0, 0, 0])
        for k, count in enumerate((right, masked or 0, tally.total)):
            self._sums[k] += count
            pool[k] += count
        self._latest = self._accuracy(right, masked or 0, tally.total)
        stream, experience = self._cell
        row = self._rows[-1] if self._rows else self._untrained
        row.cells.setdefault(stream, {})[experience] = self._accuracy(*pool)
        self._last_stream = stream

    def _accuracy(self, right: int, masked: int, total: int) -> Accuracy:
        return Accuracy(right / total, masked / total if self.task_masked else None)

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
        """Accuracies on the experience evaluated last, a sub-experience by itself;
        None if it had no samples."""
        return self._latest

    @property
    def stream_accuracy(self) -> Accuracy | None:
        """Accuracies over all samples of the last evaluation, all weighing alike."""
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
        stream = self.stream or self._last_stream or ""
        return _line(self._untrained, stream, self._width(stream))

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
        """``mean_{i<T} (a_{T,i} - a_{i,i})`` over the experiences i trained before T
        (Lopez-Paz & Ranzato 2017)."""
        return mean_or_none(of_matrix.backward_transfer(self.matrix(), self.trained))

    def matrix(
        self, *, task_masked: bool = False, stream: str | None = None
    ) -> list[list[float | None]]:
        """The accuracy matrix of one stream.

        :param task_masked: whether to read the task-masked accuracies.
        :param stream: the stream's name; by default that of the record.
        :return: ``[t][i]``; None where not evaluated.
        :raises ValueError: if they are asked for and were not counted.
        """
        if task_masked and not self.task_masked:
            raise ValueError(
                "this record did not count task-masked accuracies "
                "(task_masked=False): create it with EvaluationRecord()"
            )
        name = stream or self.stream or self._last_stream or ""
        width = self._width(name)
        return [_line(row, name, width, task_masked) for row in self._rows]

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

    @property
    def cell(self) -> tuple[str, int]:
        """Stream and column of the experience that was evaluated last."""
        return self._cell

    def forgetting_now(
        self, definition: Definition = "max", cell: tuple[str, int] | None = None
    ) -> float | None:
        """Forgetting of one experience alone.

        :param cell: its stream and column; by default of the one evaluated last.
        """
        stream, i = self._cell if cell is None else cell
        cells = (row.cells.get(stream, {}).get(i) for row in self._rows)
        column = [None if cell is None else cell.plain for cell in cells]
        return of_matrix.experience_forgetting(column, self.trained, i, definition)

    def _width(self, stream: str) -> int:
        rows = (self._untrained, *self._rows)
        return 1 + max(max(r.cells.get(stream, ()), default=-1) for r in rows)

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


def _line(
    row: _Row, stream: str, width: int, task_masked: bool = False
) -> list[float | None]:
    cells = row.cells.get(stream, {})
    line: list[float | None] = [None] * width
    for i, cell in cells.items():
        line[i] = cell.task_masked if task_masked else cell.plain
    return line


def _to_state(row: _Row) -> dict[str, Any]:
    cells = {
        stream: {i: tuple(cell) for i, cell in line.items()}
        for stream, line in row.cells.items()
    }
    return {"trained": row.trained, "cells": cells}


def _from_state(state: dict[str, Any]) -> _Row:
    cells = {
        stream: {i: Accuracy(*cell) for i, cell in line.items()}
        for stream, line in state["cells"].items()
    }
    return _Row(state["trained"], cells)
