"""Prioritised sampling with importance weights."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from avalanche_ext.arguments import is_number
from avalanche_ext.storage.normalise import checked_scores, refuse_rows
from avalanche_ext.storage.uniform import Draw, Reads, all_rows
from avalanche_ext.storage.weighted import (
    probabilities,
    successive_with_inclusion,
    with_replacement,
)


@dataclass(frozen=True)
class Priority:
    """Prioritised replay: ``p_i = (s_i + ε)^α / Σ_j (s_j + ε)^α``.

    ``s`` are raw scores from 0 on, of one criterion. Importance weights correct the
    mean over a draw towards the mean over all ``N`` rows stored, fully at ``β = 1``:

    - without replacement ``(n / (N q_i))^β``, ``q_i`` the probability with which row
      ``i`` is drawn given the arrival of the first row left out
      (:func:`~avalanche_ext.storage.weighted.successive_with_inclusion`). At
      ``β = 1``, ``1/n Σ weight_i f_i`` is unbiased. The weights are about 1 on
      average and are not rescaled;
    - with replacement ``(N p_i)^{−β}`` over its maximum in the draw, as published;
      unbiased at ``β = 1`` up to that factor of the draw.

    T. Schaul, J. Quan, I. Antonoglou, D. Silver, Prioritized experience replay, ICLR
    2016. It draws with replacement, by strata; here rows are drawn without, so the
    weights are those of that draw.

    :param name: of the criterion.
    :param alpha: 0: uniform; 1: proportional to the scores.
    :param beta: 0: no correction; 1: full correction.
    :param eps: added to every score, so that a score of 0 can be drawn.
    :param replacement: whether a row may be in a draw twice.
    :raises ValueError: for a negative or infinite ``alpha``, ``beta`` or ``eps``.
    """

    name: str = "loss"
    alpha: float = 0.6
    beta: float = 0.4
    eps: float = 1e-6
    replacement: bool = False
    reads: ClassVar[Reads] = "scores"

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "eps"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < math.inf:
                raise ValueError(
                    f"{name} of priority sampling must be a finite number from 0 on, "
                    f"got {value!r}"
                )

    def draw(self, n: int, scores: Tensor, generator: Generator) -> Draw:
        """``n`` rows and their importance weights.

        Of ``n`` or fewer scores all rows, once each and in order, of weight 1.

        :param scores: raw, shape ``(stored,)``, on any device.
        :param generator: draws, and gives the device of the result.
        :raises ValueError: for NaN or negative scores, naming criterion and rows.
        """
        if n >= len(scores):
            return all_rows(len(scores), generator)
        one = self.draws(n, 1, scores, generator)
        return Draw(one.index[0], one.weight[0].to(torch.get_default_dtype()))

    def draws(self, n: int, times: int, scores: Tensor, generator: Generator) -> Draw:
        """Many draws by the same scores: shape ``(times, n)`` each, weights float64.

        :raises ValueError: for NaN or negative scores; for ``n`` above the number of
            scores, without replacement.
        """
        preference = self._preference(scores.to(generator.device))
        stored = len(preference)
        if not n:
            none = preference.new_empty((times, 0))
            return Draw(none.long(), none)
        if self.replacement:
            probability = probabilities(preference, self._temperature)
            index = with_replacement(probability, times * n, generator).view(times, n)
            weight = (stored * probability[index]).pow_(-self.beta)
            return Draw(index, weight.div_(weight.amax(dim=1, keepdim=True)))
        index, inclusion = successive_with_inclusion(
            preference, n, generator, temperature=self._temperature, draws=times
        )
        return Draw(index, (inclusion * (stored / n)).pow_(-self.beta))

    def probabilities(self, scores: Tensor) -> Tensor:
        """``p_i``, float64, shape ``(stored,)``.

        :raises ValueError: for NaN or negative scores, naming criterion and rows.
        """
        return probabilities(self._preference(scores), self._temperature)

    @property
    def weighs(self) -> bool:
        """Whether importance weights may differ from 1."""
        return bool(self.beta)

    @property
    def _temperature(self) -> float:
        return 1.0 / max(self.alpha, 1e-300)  # p ∝ exp(α log(s + ε))

    def _preference(self, scores: Tensor) -> Tensor:
        exact = checked_scores(scores, self.name)
        negative = exact < 0
        if negative.any():
            refuse_rows(
                self.name,
                negative,
                "below 0",
                "priority sampling needs scores from 0 on; sampling by the "
                "criterion's name takes any",
            )
        if not self.alpha:
            return torch.zeros_like(exact)
        return (exact + self.eps).log_()

    # What a warning says of it

    @property
    def setting(self) -> str:
        return f"'priority' by {self.name!r} with alpha {self.alpha:g}"

    @property
    def sharper(self) -> str:
        return "a higher alpha"

    @property
    def flatter(self) -> str:
        return "a lower alpha"

    @property
    def asked_for_uniform(self) -> bool:
        return self.alpha == 0
