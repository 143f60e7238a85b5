"""Sampling by the softmax of a criterion's scores."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from avalanche_ext.arguments import is_number
from avalanche_ext.storage.normalise import normalise
from avalanche_ext.storage.uniform import Draw, Reads, all_rows
from avalanche_ext.storage.weighted import (
    probabilities,
    successive,
    with_replacement,
)


@dataclass(frozen=True)
class Softmax:
    """Rows of high score more often: ``w_i ∝ exp(normalise(s)_i / temperature)``.

    Scores are normalised to [0, 1] over the rows at hand, so the temperature means
    the same for every criterion: the best row is ``exp(1 / temperature)`` times as
    probable as the worst. +∞ comes before all finite scores, −∞ after them. Sampling
    ``mixed`` is this of the weighted mean of several criteria
    (:func:`~avalanche_ext.storage.normalise.weighted_mean`).

    Drawn without replacement unless told otherwise, by the race of
    :func:`~avalanche_ext.storage.weighted.successive`. Preferring rows is the
    purpose, so importance weights are 1.

    >>> draw = Softmax("loss", temperature=1e-6).draw(
    ...     2, torch.tensor([0.1, 2.0, 0.3]), torch.Generator().manual_seed(0)
    ... )
    >>> draw.index.tolist(), draw.weight.tolist()
    ([1, 2], [1.0, 1.0])

    :param name: the sampling's: that of its criterion, or ``"mixed"``.
    :param temperature: above 0; towards 0 greedy, towards ∞ uniform.
    :param replacement: whether a row may be in a draw twice.
    :raises ValueError: for a temperature that is not a finite number above 0.
    """

    name: str
    temperature: float = 0.2
    replacement: bool = False
    reads: ClassVar[Reads] = "scores"
    weighs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not is_number(self.temperature) or not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be a finite number above 0, got {self.temperature!r}: "
                "a small one, such as 0.01, draws the best rows; 'uniform' is a "
                "sampling of its own"
            )

    def draw(self, n: int, scores: Tensor, generator: Generator) -> Draw:
        """``n`` rows; of ``n`` or fewer scores all rows, once each and in order.

        :param scores: raw, shape ``(stored,)``, on any device.
        :param generator: draws, and gives the device of the result.
        :raises ValueError: for NaN, naming criterion and rows.
        """
        if n >= len(scores):
            return all_rows(len(scores), generator)
        index = self.draws(n, 1, scores, generator)[0]
        return Draw(index, torch.ones(n, device=index.device))

    def draws(self, n: int, times: int, scores: Tensor, generator: Generator) -> Tensor:
        """Indices of many draws by the same scores, shape ``(times, n)``.

        :raises ValueError: for NaN; for ``n`` above the number of scores, without
            replacement.
        """
        preference = self._preference(scores.to(generator.device))
        if self.replacement:
            probability = probabilities(preference, self.temperature)
            index = with_replacement(probability, times * n, generator)
            return index.view(times, n)
        return successive(
            preference, n, generator, temperature=self.temperature, draws=times
        )

    def probabilities(self, scores: Tensor) -> Tensor:
        """Of each row: to be the first drawn, float64, shape ``(stored,)``.

        :raises ValueError: for NaN, naming criterion and rows.
        """
        return probabilities(self._preference(scores), self.temperature)

    def _preference(self, scores: Tensor) -> Tensor:
        return normalise(scores, self.name, keep_infinite=True)

    # What a warning says of it

    @property
    def setting(self) -> str:
        return f"{self.name!r} at temperature {self.temperature:g}"

    @property
    def sharper(self) -> str:
        return "a lower temperature"

    @property
    def flatter(self) -> str:
        return "a higher temperature"

    @property
    def asked_for_uniform(self) -> bool:
        return False
