"""What a row is worth to a memory that keeps the best."""

import math
from dataclasses import dataclass

from torch import Tensor

from avalanche_ext.arguments import is_number
from avalanche_ext.storage.normalise import normalise
from avalanche_ext.storage.sampling import MIXED
from avalanche_ext.storage.scored import Scored
from avalanche_ext.storage.scores import Scores


@dataclass(frozen=True)
class Value:
    """``m_i − w_age · a_i + w_use · u_i`` over the rows at hand.

    ``m`` is the weighted mean of the normalised criteria, ``a`` the
    :class:`~avalanche_ext.storage.criteria.AgeCriterion` and ``u`` the normalised
    :class:`~avalanche_ext.storage.criteria.AccessCriterion`; all three lie in [0, 1]. A
    heavy ``w_age`` removes the rows of past tasks. ``u`` is a share of draws: a count of
    uses would only grow, and keep the rows of the first tasks for good.

    :param w_age: how much the oldest row loses.
    :param w_use: how much the row drawn most often gains.
    :raises ValueError: for a weight that is not a finite number from 0 on.
    """

    w_age: float = 0.0
    w_use: float = 0.0

    def __post_init__(self) -> None:
        for name in ("w_age", "w_use"):
            weight = getattr(self, name)
            if not is_number(weight) or not 0 <= weight < math.inf:
                raise ValueError(
                    f"{name} must be a finite number from 0 on, got {weight!r}: 0 leaves "
                    "the term out"
                )

    def refuse(self, admission: str) -> None:
        """Refuse terms that an admission would not look at.

        :raises ValueError: where there are any.
        """
        terms = {"w_age": self.w_age, "w_use": self.w_use}
        given = [f"{name}={weight}" for name, weight in terms.items() if weight]
        if given:
            raise ValueError(
                f"{' and '.join(given)} would have no effect: only admission 'score' "
                f"looks at the age and use of rows, got {admission!r}: leave out, or "
                "choose admission='score'"
            )

    @property
    def criteria(self) -> tuple[str, ...]:
        """Scores that the value is made of."""
        terms = {MIXED: 1.0, "age": self.w_age, "access": self.w_use}
        return tuple(name for name, weight in terms.items() if weight)

    def of(
        self,
        scores: Scores,
        incoming: Scored | None = None,
        n: int = 0,
        slots: Tensor | None = None,
    ) -> Tensor:
        """The value of each stored row, then of each of ``n`` rows that arrive, float64.

        :param incoming: what is known of the rows that arrive.
        :param slots: of the rows stored that are at hand; ``None``: all.
        """
        names = self.criteria
        every = scores.of_all(names, incoming, n, slots)
        found = dict(zip(names, every, strict=True))
        value = found[MIXED]
        if self.w_age:
            value = value - self.w_age * found["age"]
        if self.w_use:
            value = value + self.w_use * normalise(found["access"], "access")
        return value
