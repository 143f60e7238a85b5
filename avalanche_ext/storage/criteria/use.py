"""Criteria from how long a row is in the memory, and how often it was drawn."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from avalanche_ext.arguments import check_positive
from avalanche_ext.storage.criteria.context import ScoredRows, ScoringContext
from avalanche_ext.storage.rows import count


@dataclass(frozen=True)
class AgeCriterion:
    """``1 − exp(−age/τ)``, the age in samples that the memory was offered since it took
    the row: 0 for a row that arrives, towards 1 for old ones.

    From the column ``"arrival"``: the number of samples offered up to the row itself.
    Rows without it have age 0.

    >>> rows = {"x": torch.zeros(2, 1), "arrival": torch.tensor([1, 1001])}
    >>> AgeCriterion(tau=1000).score(rows, ScoringContext(seen=1001))
    tensor([0.6321, 0.0000])

    :param tau: the age ``τ``, in samples, at which 63 % of 1 is reached.
    :param name: what options, columns and errors call it.
    :raises ValueError: for ``τ`` that is not above 0.
    """

    tau: float = 1000.0
    name: str = "age"
    live: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("tau", self.tau)

    def score(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """See :class:`~avalanche_ext.storage.criteria.Criterion`."""
        arrival = rows.get("arrival")
        if not isinstance(arrival, Tensor):
            return torch.zeros(count(rows["x"]))
        return 0 - torch.expm1((arrival - context.seen) / self.tau)


@dataclass(frozen=True)
class AccessCriterion:
    """Uses per draw since admission: the share of the memory's draws that held the row.

    Rows that were there at no draw yet have the median of the others at hand, so that
    being new counts neither for a row nor against it.

    From the columns ``"uses"`` and ``"drawn"``, the number of draws that the memory had
    made when it took the row; rows without them are new.

    >>> uses, drawn = torch.tensor([3, 1, 0]), torch.tensor([0, 2, 6])
    >>> rows = {"x": torch.zeros(3, 1), "uses": uses, "drawn": drawn}
    >>> AccessCriterion().score(rows, ScoringContext(draws=6))
    tensor([0.5000, 0.2500, 0.3750])

    :param name: what options, columns and errors call it.
    """

    name: str = "access"
    live: ClassVar[bool] = True

    def score(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """See :class:`~avalanche_ext.storage.criteria.Criterion`."""
        uses, drawn = rows.get("uses"), rows.get("drawn")
        if not isinstance(uses, Tensor) or not isinstance(drawn, Tensor):
            return torch.zeros(count(rows["x"]))
        draws = context.draws - drawn
        rates = uses / draws.clamp(min=1)
        old = draws > 0
        if old.any():
            rates = torch.where(old, rates, rates[old].quantile(0.5))
        return rates
