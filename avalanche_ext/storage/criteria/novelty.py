"""Criteria from how far a row's features are from those stored."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avalanche_ext.arguments import check_positive
from avalanche_ext.storage.criteria.context import (
    ScoredRows,
    ScoringContext,
    stored_slots,
)
from avalanche_ext.storage.nearest import NearestDistance

_BLOCK = 1 << 20  # similarities at a time


@dataclass(frozen=True)
class DiversityCriterion:
    """The distance to the nearest *other* stored row, ``min_{j ≠ i} ‖f_i − f_j‖₂``.

    Of stored rows it is read from
    :class:`~avalanche_ext.storage.nearest.NearestDistance`, which keeps it up to date,
    so no forward pass is made; their features are those stored, as old as their last
    refresh. Rows that are not stored are compared with all that are. ``inf`` where there
    is no other row.

    >>> stored = NearestDistance()
    >>> stored.insert(torch.tensor([[0.0], [1.0], [5.0]]))
    >>> rows = {"x": torch.zeros(3, 1), "index": torch.tensor([2, 0, 1])}
    >>> DiversityCriterion().score(rows, ScoringContext(stored=stored))
    tensor([4., 1., 1.])

    :param name: what options, columns and errors call it.
    """

    name: str = "diversity"
    live: ClassVar[bool] = True
    compares_features: ClassVar[bool] = True

    def score(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """See :class:`~avalanche_ext.storage.criteria.Criterion`.

        :raises ValueError: without stored features, or for rows that are not stored
            without a model.
        """
        stored = context.need_stored(self.name)
        slots = stored_slots(rows).to(stored.features.device)
        kept = slots >= 0
        if kept.all():
            return stored.distances[slots]
        fresh = context.features(rows)[~kept]
        distances = fresh.new_empty(len(slots))
        distances[~kept] = stored.distances_to(fresh).to(distances)
        distances[kept] = stored.distances[slots[kept]].to(distances)
        return distances


@dataclass(frozen=True)
class EnergyCriterion:
    """Novelty under a modern Hopfield (dense associative) memory of the stored rows.

    ``E(ξ) = −1/β · ln( 1/N Σ_μ exp(β x_μ·ξ) )`` over stored features ``x_μ``, in
    ``[−1, 1]``: −1 for a row that all others equal, 1 for one opposite to all. ``ξ`` and
    ``x_μ`` are scaled to norm 1 and the sum is divided by its number of terms, so that
    neither norms nor the number of rows are measured. A stored row is left out of its
    own sum, and scored by its stored features. 0 where there is no other row.

    A small ``β`` measures the mean similarity to all rows, a large one that to the most
    similar.

    H. Ramsauer et al., Hopfield networks is all you need, ICLR 2021.

    >>> stored = NearestDistance()
    >>> stored.insert(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]))
    >>> rows = {"x": torch.zeros(3, 1), "index": torch.arange(3)}
    >>> EnergyCriterion(beta=10.0).score(rows, ScoringContext(stored=stored))
    tensor([-0.9307, -0.9307,  0.0000])

    :param beta: inverse temperature ``β``.
    :param name: what options, columns and errors call it.
    :raises ValueError: for ``β`` that is not above 0.
    """

    beta: float = 10.0
    name: str = "energy"
    compares_features: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("features",)

    def __post_init__(self) -> None:
        check_positive("beta", self.beta)

    def score(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """See :class:`~avalanche_ext.storage.criteria.Criterion`.

        :raises ValueError: without stored features, or for rows that are not stored
            without a model.
        """
        stored = context.need_stored(self.name)
        slots = stored_slots(rows).to(stored.features.device)
        queries = _features(rows, slots, stored, context)
        if not len(stored):
            return queries.new_zeros(len(queries))
        patterns = normalize(stored.features, dim=1)
        step = max(1, _BLOCK // len(stored))
        found = [
            self._energies(some, own, patterns)
            for some, own in zip(
                torch.split(normalize(queries, dim=1), step),
                torch.split(slots, step),
                strict=True,
            )
        ]
        return torch.cat(found)

    def _energies(self, queries: Tensor, own: Tensor, patterns: Tensor) -> Tensor:
        exponents = (queries @ patterns.T).mul_(self.beta)
        kept = (own >= 0).nonzero()[:, 0]
        exponents[kept, own[kept]] = -torch.inf
        terms = len(patterns) - (own >= 0).to(exponents.dtype)
        energies = (terms.log() - exponents.logsumexp(1)) / self.beta
        return energies.masked_fill(terms == 0, 0.0)


def _features(
    rows: ScoredRows, slots: Tensor, stored: NearestDistance, context: ScoringContext
) -> Tensor:
    """Stored features of rows that are stored, the model's of others."""
    kept = slots >= 0
    if kept.all():
        return stored.features[slots]
    fresh = context.features(rows)
    if not len(stored):
        return fresh
    old = stored.features[slots.clamp(min=0)]
    return torch.where(kept[:, None], old, fresh.to(old))
