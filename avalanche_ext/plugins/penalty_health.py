"""What a penalty does to training, in a few figures."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avalanche_ext.penalty_node import BackwardPass, Named, is_one

_OFTEN, _EVERY = 16, 64  # steps up to which all powers of two are looked at, then every


@dataclass(frozen=True)
class PenaltyHealth:
    """The state of a penalty; figures that are not known yet are ``None``."""

    consolidations: int
    """Experiences (or boundaries) after which importances were taken."""
    strength: float
    """What ``Σ F (θ − θ*)²`` is multiplied by now."""
    lowered: float
    """Share of the strength asked for that is used: below 1 where gradient descent could
    not follow more."""
    nonzero: float
    """Share of the entries of all importances kept that are above 0."""
    mass_lost: float | None
    """Share of the newest importance that was set to zero: by the threshold of EWC, by
    the relu of Synaptic Intelligence."""
    penalty_over_loss: float | None
    """Penalty over the rest of the loss, both summed over the steps looked at."""
    gradient_ratio: float | None
    """Length of the penalty's gradient over that of the rest of the loss, root mean
    squares over the steps looked at."""


class StepFigures:
    """Sums over some steps of an experience: the first, second, fourth, eighth, … and
    every 64th, so that the figures cost next to nothing.

    The last experience's are kept until another one has some.
    """

    def __init__(self) -> None:
        self._steps = self._passes = 0
        self._fresh = True  # whether the next step begins a new experience
        self._sums: dict[str, Any] = {}

    def begin(self) -> bool:
        """A step with a penalty begins.

        :return: whether to look at it.
        """
        if self._fresh:
            self._steps, self._passes, self._fresh, self._sums = 0, 0, False, {}
        self._steps += 1
        early = self._steps <= _OFTEN and self._steps & (self._steps - 1) == 0
        return early or self._steps % _EVERY == 0

    def end(self) -> None:
        """The experience has ended."""
        self._fresh = True

    def add_losses(self, penalty: Tensor, loss: Tensor) -> None:
        """Count the penalty and the rest of the loss."""
        self._add("penalty", penalty.detach())
        self._add("loss", loss.detach().abs().sum())

    def add_gradients(self, found: BackwardPass, parameters: Named) -> float:
        """Count the squared lengths of the penalty's and of the other gradient.

        :return: the ratio of the lengths, of this step alone.
        """
        self._passes += 1
        one = is_one(found.scale)
        owned = {id(parameter): gradient for parameter, gradient in found.gradients}
        squares: dict[str, list[Tensor]] = {"own": [], "task": []}
        for parameter in parameters.values():
            task, own = parameter.grad, owned.get(id(parameter))
            if task is not None:
                task = task.to(torch.promote_types(task.dtype, torch.float32))
                task = task if one else task / found.scale.to(task)
            if own is not None:
                squares["own"].append(_square(own))
                task = -own if task is None else task - own
            if task is not None:
                squares["task"].append(_square(task))
        sums = {}
        for name, each in squares.items():
            for square in each:
                self._add(name, square)
            sums[name] = float(sum(map(float, each)))
        return (sums["own"] / sums["task"]) ** 0.5 if sums["task"] else 0.0

    @property
    def seen(self) -> bool:
        """Whether steps of this experience were looked at, to the end: at the first one
        alone no parameter has moved yet."""
        return not self._fresh and self._known and "task" in self._sums

    @property
    def _known(self) -> bool:
        return self._passes > 1 or self._passes == self._steps

    @property
    def penalty_over_loss(self) -> float | None:
        """See :class:`PenaltyHealth`."""
        return self._ratio("penalty", "loss")

    @property
    def gradient_ratio(self) -> float | None:
        """See :class:`PenaltyHealth`."""
        squares = self._ratio("own", "task") if self._known else None
        return None if squares is None else squares**0.5

    def _add(self, name: str, value: Tensor) -> None:
        before = self._sums.get(name)
        self._sums[name] = value if before is None else before + value.to(before.device)

    def _ratio(self, above: str, below: str) -> float | None:
        if below not in self._sums:
            return None
        below_sum = float(self._sums[below])
        above_sum = float(self._sums.get(above, 0.0))
        if below_sum:
            return above_sum / below_sum
        return float("inf") if above_sum else 0.0


def _square(values: Tensor) -> Tensor:
    square: Tensor = torch.linalg.vector_norm(values).square()
    return square
