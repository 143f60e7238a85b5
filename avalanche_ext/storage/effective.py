"""How many rows a sampling really chooses from, and a warning where that is odd."""

import warnings
from typing import Protocol, runtime_checkable

from torch import Tensor

ALMOST_UNIFORM = 0.95
"""Share of the rows above which scores make no difference to speak of."""
ALMOST_GREEDY = 2.0
"""Rows below which nearly every draw begins with the same one."""
FEWEST = 20
"""Rows from which on a sampling is judged: of very few, most are drawn anyway."""


LOOK_EVERY = 256
"""Draws from one look at a memory's sampling to the next, which costs as much as one."""
IN_A_ROW = 3
"""Looks that must find it odd before a memory warns of it."""


@runtime_checkable
class Weighted(Protocol):
    """What is judged: a sampling that draws by weights."""

    @property
    def setting(self) -> str:
        """The sampling with its parameters, for a reader."""

    @property
    def sharper(self) -> str:
        """What makes it follow the scores more."""

    @property
    def flatter(self) -> str:
        """What makes it follow the scores less."""

    @property
    def asked_for_uniform(self) -> bool:
        """Whether its parameters say that scores shall not count."""

    def probabilities(self, scores: Tensor) -> Tensor:
        """Of each row: to be the first drawn."""


def effective_size(probability: Tensor) -> float:
    """``1 / Σ p_i²``: so many equally probable rows would be as concentrated.

    From 1 (always the same row) to the number of rows (uniform). ``p_i`` is the
    probability with which one row is drawn, so with replacement this is exact for
    every draw; without replacement it is that of the first row of a draw. It then
    describes the weights and not the draw, whose later rows are ever more alike in
    probability, up to all rows, once each.

    L. Kish, Survey Sampling, Wiley, 1965.

    :param probability: shape ``(n,)``, with sum 1.
    """
    return float(1.0 / probability.square().sum()) if len(probability) else 0.0


class SampleSizeWatch:
    """Warns, once, of a sampling that is almost uniform or almost greedy.

    Above 95 % of the rows scores make no difference and sampling could be uniform;
    below 2 rows each draw begins with the same one. Not judged: fewer than 20 rows,
    and what was asked to be uniform.

    :param sampling: what draws.
    """

    def __init__(self, sampling: Weighted) -> None:
        self.sampling = sampling
        self.warned = False
        """Whether there was something to warn of."""
        self._draws = 0
        self._odd = 0  # looks in a row at which there was something to warn of

    def drawn(self, scores: Tensor) -> None:
        """Note a draw by raw ``scores``, and look at every 256th: scores change from
        step to step, so it warns when the third look in a row finds it odd."""
        self._draws += 1
        if not self._draws % LOOK_EVERY and not self.warned:
            self._look(scores, IN_A_ROW)

    def look(self, scores: Tensor) -> float:
        """The effective sample size under raw ``scores``, shape ``(n,)``."""
        return self._look(scores, 1)

    def _look(self, scores: Tensor, enough: int) -> float:
        probability = self.sampling.probabilities(scores)
        size = effective_size(probability)
        stored = len(probability)
        if not self.warned and stored >= FEWEST:
            equal = bool((probability == probability[0]).all())
            self._judge(size, stored, equal, enough)
        return size

    def _judge(self, size: float, stored: int, equal: bool, enough: int) -> None:
        sampling = self.sampling
        if size > ALMOST_UNIFORM * stored and not sampling.asked_for_uniform:
            finding = "is almost uniform"
            if equal:
                remedy = "all scores are equal, see whether they are refreshed"
            else:
                remedy = (
                    f"choose {sampling.sharper}, or sampling 'uniform', which needs no "
                    "scores"
                )
        elif size < ALMOST_GREEDY:
            finding = "draws nearly always the same rows first"
            remedy = (
                f"choose {sampling.flatter}, or look for rows whose scores stand out"
            )
        else:
            self._odd = 0
            return
        self._odd += 1
        if self._odd < enough:
            return
        self.warned = True
        warnings.warn(
            f"sampling {sampling.setting} {finding}: its effective sample size is "
            f"{size:.1f} of {stored} rows; {remedy}",
            stacklevel=4,
        )
