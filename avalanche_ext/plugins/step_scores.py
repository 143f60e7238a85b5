"""Scores of the rows of a training step, found out by the step itself."""

from typing import Any

import torch
from avalanche.benchmarks import OnlineCLExperience
from torch import Tensor

from avalanche_ext.gradients import forward_rows
from avalanche_ext.plugins.boundaries import Boundaries
from avalanche_ext.plugins.memory_loss import own_criterion
from avalanche_ext.storage.buffer import MultiStrategyBuffer
from avalanche_ext.storage.items import item_names
from avalanche_ext.storage.rows import part
from avalanche_ext.storage.scored import Scored
from avalanche_ext.storage.training_pass import TrainingPass


class StepScores:
    """Tells a memory the scores of current and replayed rows, step by step.

    Rows are scored from the step's own forward and backward pass where that can be (see
    :class:`~avalanche_ext.storage.training_pass.TrainingPass`), under the weights that
    the model had in that pass. Nothing is watched in steps in which no score is needed.

    :param buffer: the memory.
    """

    def __init__(self, buffer: MultiStrategyBuffer) -> None:
        self.buffer = buffer
        self._pass = TrainingPass(buffer.scorer.layer)
        self._steps = 0
        self._slots: Tensor | None = None  # of the rows drawn
        self._watching = False
        self._boundaries = Boundaries("origin")

    def begin(
        self, strategy: Any, slots: Tensor | None, rows: int, feeds: bool
    ) -> None:
        """Before the forward pass.

        :param slots: of the memory's rows in the minibatch.
        :param rows: of the minibatch.
        :param feeds: whether the current rows will be offered.
        """
        scores, every = self.buffer.scorer.scores, self.buffer.refresh_every
        due = bool(every) and self._steps % every == 0
        self._steps += 1
        self._slots = slots if due else None
        self._watching = scores.active and (feeds or self._slots is not None)
        if self._watching:
            if scores.compares:  # with all rows stored, whose features must be known
                self.buffer.scorer.settle()
            self._pass.begin(strategy.model, rows, scores.reads)

    def forwarded(self, strategy: Any) -> None:
        """After the forward pass."""
        if self._watching:
            self._pass.forwarded(strategy.mb_output)

    def end(self) -> None:
        """After the backward pass."""
        if self._watching:
            self._pass.end()

    def take(self, batch: list[Any], tasks: bool, current: int, start: int) -> Any:
        """Score the rows, and refresh those that were drawn.

        :param batch: the minibatch that the model was given.
        :param tasks: whether its last item is the task label.
        :param current: number of current rows, the first ones.
        :param start: where the memory's rows begin.
        :return: what is known of the current rows; ``None`` where nothing is needed.
        """
        if not self._watching:
            return None
        self._watching = False
        drawn = 0 if self._slots is None else len(self._slots)
        stop = start + drawn if drawn else current
        scorer = self.buffer.scorer
        index = torch.full((stop,), -1)
        if self._slots is not None:
            index[start:stop] = self._slots
        names = item_names(len(batch), tasks)
        items = zip(names, batch, strict=True)
        rows = {"index": index, **{name: part(item, 0, stop) for name, item in items}}
        context = scorer.context(forward_rows)
        self._pass.tell(context, rows, stop)
        scored: Scored = scorer.scores.score(rows, context)
        if self._slots is not None:
            scorer.scores.note(self._slots, scored.take(slice(start, stop)))
        return scored.take(slice(0, current))

    # At the end of an experience

    def experience_begins(self, strategy: Any) -> None:
        """Refresh all scores where an experience was left before its last part."""
        experience = strategy.experience
        if _is_bounded(experience) and self._boundaries.begins(experience) is not None:
            self._refresh(strategy)

    def experience_ends(self, strategy: Any) -> None:
        """Refresh all scores, of a split stream after the last part of an experience."""
        experience = strategy.experience
        if _is_bounded(experience) and self._boundaries.ends(experience) is not None:
            self._refresh(strategy)

    def _refresh(self, strategy: Any) -> None:
        if self.buffer.refresh_at_end:
            self.buffer.scorer.meet(strategy.model, own_criterion(strategy))
            self.buffer.refresh()


def _is_bounded(experience: Any) -> bool:
    """Whether it may be known where the experience ends."""
    split = isinstance(experience, OnlineCLExperience)
    return not split or bool(experience.access_task_boundaries)
