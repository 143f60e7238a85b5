"""What is known of the rows that a memory holds."""

from typing import Any

import torch
from torch import Tensor, nn

from avalanche_ext.storage.classes import class_counts
from avalanche_ext.storage.drawing import Drawing
from avalanche_ext.storage.known import known_scores
from avalanche_ext.storage.nearest import Coverage
from avalanche_ext.storage.rows import Rows, check_slots
from avalanche_ext.storage.sampling import Sampling
from avalanche_ext.storage.scorer import Scorer

FACTS = ("arrival", "uses", "drawn")
"""Columns that every memory adds to each row; a memory that scores adds more."""


class HeldRows:
    """Rows of a table: their number, ages, uses, classes and scores.

    :param scorer: scores the rows of the table.
    :param sampling: what is replayed of them.
    :param seed: of draws.
    """

    def __init__(self, scorer: Scorer, sampling: Sampling, seed: int) -> None:
        self.table = scorer.scores.table
        self.scorer = scorer
        """Scores the rows, where scores are needed."""
        self._scores = scorer.scores
        self._counters = scorer.scores.counters
        self._drawing = Drawing(scorer, sampling, seed)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def seen(self) -> int:
        """Number of rows offered so far."""
        return self._counters.seen

    @property
    def draws(self) -> int:
        """Number of draws made so far."""
        return self._counters.draws

    @property
    def uses(self) -> Tensor:
        """How often each row was sampled, shape ``(len(memory),)``."""
        self._drawing.count_uses()
        return self._fact("uses")

    @property
    def ages(self) -> Tensor:
        """Rows offered since each row was, shape ``(len(memory),)``."""
        return self.seen - self._fact("arrival")

    def class_counts(self) -> dict[Any, int]:
        """Rows stored of each class: by label, or by ``(task, label)`` where task
        labels are stored.

        :raises ValueError: for targets that are no class labels.
        """
        if not len(self):
            return {}
        task = self.table.column("task") if "task" in self.table.columns else None
        return class_counts(self.table.column("y"), task, "class_counts()")

    def _fact(self, name: str) -> Tensor:
        if not len(self.table):
            return torch.zeros(0, dtype=torch.long)
        facts: Tensor = self.table.column(name).clone()
        return facts

    @property
    def _facts(self) -> tuple[str, ...]:
        return FACTS + self._scores.facts

    # What the criteria say of the rows

    def scores(self, name: str) -> Tensor:
        """Raw scores of each row, shape ``(len(memory),)``.

        :param name: a criterion's, or ``"mixed"`` for the weighted mean of all, each
            normalised to [0, 1].
        :raises ValueError: for an unknown name, or stale scores without a model.
        """
        return self._drawing.scores(name)

    @property
    def stale(self) -> Tensor:
        """Of each row: whether its scores are needed and not known."""
        return self._scores.stale

    def known_scores(self) -> dict[str, Tensor]:
        """Raw scores by criterion of the rows that are not stale, as they are known:
        unlike :meth:`scores`, nothing is scored for it.

        :return: of the criteria in use, and of ``"mixed"`` where all its parts are; in
            the order of slots.
        """
        self._drawing.count_uses()
        drawing = self._drawing
        watched = [drawing.sampling.name] if drawing.watch else []
        return known_scores(self._scores, *watched)

    @property
    def effective_sample_size(self) -> float | None:
        """How many rows the memory's own sampling really chooses from, by the scores
        known now: :func:`~avalanche_ext.storage.effective.effective_size` of the rows
        that are not stale, ``len(memory)`` of a uniform sampling. ``None`` of
        ``"coreset"``, which draws by no probabilities, and where every row is stale.
        """
        return self._drawing.effective_sample_size

    def coverage(
        self, x: Rows, task: Tensor | None = None, *, model: nn.Module | None = None
    ) -> Coverage:
        """How near the rows stored are to given ones, recent ones say: the mean and the
        largest distance of these to the nearest stored row, in feature space.

        Features of stored rows are those of when they were scored last; a memory that
        did not keep them until now finds them first.

        :param x: rows as they are added, shape ``(n, …)``.
        :param task: task labels, where rows have them.
        :param model: ``None``: the one met last.
        :raises ValueError: without rows, given or stored, or without a model.
        """
        self.scorer.meet(model)
        if not len(self):
            raise ValueError("coverage by a memory of no rows: add rows first")
        self._scores.use(comparing="coverage")
        self.scorer.settle()
        rows = {"x": x} if task is None else {"x": x, "task": task}
        features = self._scores.features(rows, self.scorer.context())
        assert self._scores.nearest is not None
        return self._scores.nearest.coverage(features)

    def refresh(
        self, model: nn.Module | None = None, *, slots: Tensor | None = None
    ) -> None:
        """Score rows anew, in evaluation mode; the model is left as it was.

        :param model: ``None``: the one met last.
        :param slots: of the rows; ``None``: all.
        :raises ValueError: for NaN scores, slots without a row, or without a model.
        """
        if slots is not None:
            check_slots(slots, len(self))
        self.scorer.meet(model)
        self.scorer.refresh(slots)
