"""Several criteria as one."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from avalanche_ext.storage.criteria.context import (
    Criterion,
    ScoredRows,
    ScoringContext,
    check_criterion,
)
from avalanche_ext.storage.normalise import check_weights, weighted_mean


class WeightedCriterion:
    """The weighted mean of criteria, each normalised to [0, 1] over the rows at hand:
    ``Σ_c w_c normalise(s_c)_i / Σ_c w_c`` (see
    :func:`~avalanche_ext.storage.normalise.weighted_mean`). It is a criterion, too.

    Its scores depend on which rows are at hand together.

    >>> import torch
    >>> from avalanche_ext.storage.criteria import AccessCriterion, AgeCriterion
    >>> rows = {"x": torch.zeros(2, 1), "arrival": torch.tensor([1, 9])}
    >>> rows |= {"uses": torch.tensor([0, 4]), "drawn": torch.tensor([0, 0])}
    >>> both = WeightedCriterion([AgeCriterion(), AccessCriterion()], {"age": 3})
    >>> both.name
    '3 age + access'
    >>> both.score(rows, ScoringContext(seen=9, draws=8)).tolist()
    [0.75, 0.25]

    :param criteria: with different names.
    :param weights: by criterion's name, 1 where none is given. A criterion of weight 0
        is not computed.
    :param name: ``None`` names the parts.
    :raises TypeError: for what is no criterion, or no mapping.
    :raises ValueError: without criteria, for names that are equal or no criterion's, or
        weights that are negative, no numbers or all 0.
    """

    def __init__(
        self,
        criteria: Sequence[Criterion],
        weights: Mapping[str, float] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        for criterion in criteria:
            check_criterion(criterion)
        names = [criterion.name for criterion in criteria]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"several criteria are named {twice}: give each once, or a name of its "
                "own, name=…"
            )
        if not isinstance(weights, Mapping | None):
            raise TypeError(
                f"weights must be a mapping from names of criteria to numbers, got "
                f"{weights!r}: give {dict.fromkeys(names, 1.0)}"
            )
        unknown = [name for name in weights or {} if name not in names]
        if unknown:
            raise ValueError(
                f"weights are given for {unknown}, the criteria are {names}: give "
                "weights for these"
            )
        self.criteria = tuple(criteria)
        self.weights = {**dict.fromkeys(names, 1.0), **(weights or {})}
        check_weights(self.weights, names)
        self.name = name or " + ".join(
            part if weight == 1 else f"{weight:g} {part}"
            for part, weight in self.weights.items()
            if weight
        )

    @property
    def used(self) -> tuple[Criterion, ...]:
        """The criteria of a weight above 0; those of a weighted one in its place."""
        found: list[Criterion] = []
        for part in self.criteria:
            if self.weights[part.name]:
                found += part.used if isinstance(part, WeightedCriterion) else (part,)
        return tuple(found)

    def score(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """See :class:`~avalanche_ext.storage.criteria.Criterion`.

        :return: float64, on the device of the first criterion's scores.
        :raises ValueError: for NaN scores, naming criterion and rows.
        """
        scores: dict[str, Tensor] = {}
        for criterion in self.criteria:
            if self.weights[criterion.name]:
                found = criterion.score(rows, context)
                first = next(iter(scores.values()), found)
                scores[criterion.name] = found.to(first.device)
        return weighted_mean(scores, {name: self.weights[name] for name in scores})
