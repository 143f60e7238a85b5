"""Criteria: what makes a row worth keeping and replaying.

A criterion is an object with a name and one method, ``score(rows, context)``
(:class:`Criterion`); the context holds the model and the memory
(:class:`ScoringContext`). Each normalises nothing: that is done over the rows at hand,
where scores are combined (:class:`WeightedCriterion`) or drawn from.
"""

from collections.abc import Sequence

from avalanche_ext.storage.criteria.context import (
    Criterion,
    ScoredRows,
    ScoringContext,
    check_criterion,
)
from avalanche_ext.storage.criteria.forgetting import ForgettingCriterion
from avalanche_ext.storage.criteria.loss import GradientCriterion, LossCriterion
from avalanche_ext.storage.criteria.novelty import DiversityCriterion, EnergyCriterion
from avalanche_ext.storage.criteria.uncertainty import UncertaintyCriterion
from avalanche_ext.storage.criteria.use import AccessCriterion, AgeCriterion
from avalanche_ext.storage.criteria.weighted import WeightedCriterion

__all__ = [
    "CRITERIA",
    "AccessCriterion",
    "AgeCriterion",
    "Criterion",
    "DiversityCriterion",
    "EnergyCriterion",
    "ForgettingCriterion",
    "GradientCriterion",
    "LossCriterion",
    "ScoredRows",
    "ScoringContext",
    "UncertaintyCriterion",
    "WeightedCriterion",
    "make_criteria",
]

_MAKERS = {
    "gradient": GradientCriterion,
    "loss": LossCriterion,
    "forgetting": ForgettingCriterion,
    "uncertainty": UncertaintyCriterion,
    "diversity": DiversityCriterion,
    "energy": EnergyCriterion,
    "age": AgeCriterion,
    "access": AccessCriterion,
}

CRITERIA = tuple(_MAKERS)
"""Criteria that can be asked for by name."""


def make_criteria(criteria: Sequence[str | Criterion]) -> tuple[Criterion, ...]:
    """Criteria by name, with their default settings; others stay as they are.

    >>> make_criteria(["loss", AgeCriterion(tau=50)])
    (LossCriterion(name='loss'), AgeCriterion(tau=50, name='age'))

    :raises ValueError: for an unknown name.
    :raises TypeError: for what is no criterion.
    """
    return tuple(map(_made, criteria))


def _made(criterion: str | Criterion) -> Criterion:
    if isinstance(criterion, str):
        if criterion not in _MAKERS:
            raise ValueError(
                f"unknown criterion {criterion!r}: choose one of {CRITERIA}, or give an "
                "object with a name and a method score(rows, context)"
            )
        made: Criterion = _MAKERS[criterion]()
        return made
    check_criterion(criterion)
    return criterion
