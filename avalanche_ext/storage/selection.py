"""Criteria and k-center for upstream's ``ParametricBuffer``."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.training.storage_policy import ExemplarsSelectionStrategy
from torch import Generator, Tensor, nn

from avalanche_ext.gradients import forward_rows
from avalanche_ext.storage.coreset import k_center
from avalanche_ext.storage.criteria import (
    Criterion,
    ScoredRows,
    ScoringContext,
    WeightedCriterion,
    make_criteria,
)
from avalanche_ext.storage.items import has_task_items, item_names
from avalanche_ext.storage.nearest import NearestDistance
from avalanche_ext.storage.normalise import checked_scores
from avalanche_ext.storage.resident import row_source
from avalanche_ext.storage.seeds import derived_seed


class CriterionSelectionStrategy(ExemplarsSelectionStrategy):
    """Keeps the rows that score highest, for
    ``ParametricBuffer(max_size, groupby, CriterionSelectionStrategy("gradient"))``.

    All rows of a group are scored together with the model as it is then, by their
    evaluation transforms. Criteria that compare rows with those stored compare them
    with each other. A group's rows are held as tensors while they are scored, from
    before their transforms where that can be. Where all of a group score the same, the
    first ones are kept, and a warning says so.

    :param criterion: by name, or any
        :class:`~avalanche_ext.storage.criteria.Criterion`.
    :param layer: whose input features are; see :func:`~avalanche_ext.features.features`.
    :param seed: of random criteria; ``None`` derives one from torch's global generator.
    :raises ValueError: for an unknown name, or a criterion of what a memory knows of its
        rows (``"age"``, ``"access"``, ``"forgetting"``), which would score all alike.
    :raises TypeError: for what is no criterion.
    """

    def __init__(
        self,
        criterion: str | Criterion,
        *,
        layer: str | None = None,
        seed: int | None = None,
    ) -> None:
        self.criterion = make_criteria([criterion])[0]
        _refuse_facts(self.criterion)
        self.layer = layer
        self._seed = derived_seed() if seed is None else seed
        self._selections = 0
        self._told = False  # that all rows of a group score the same

    def make_sorted_indices(self, strategy: Any, data: Any) -> list[int]:
        """Indices of ``data``, the highest score first; of equal ones the first row.

        :param strategy: Avalanche's trainer: its model and loss function.
        :raises ValueError: for NaN scores, naming rows.
        """
        rows, context = _among(strategy, data, self.layer)
        # Not a generator: what is an attribute must be saved with the strategy.
        context.generator = Generator().manual_seed(self._seed + self._selections)
        self._selections += 1
        scores = checked_scores(
            self.criterion.score(rows, context), self.criterion.name
        )
        if not self._told and len(scores) > 1 and bool((scores == scores[0]).all()):
            self._told = True
            warnings.warn(
                f"criterion {self.criterion.name!r} gives all {len(scores)} rows the same "
                "score, so the first ones are kept: loss, gradient, uncertainty, "
                "diversity and energy tell rows apart that are not in a memory",
                stacklevel=2,
            )
        order: list[int] = scores.argsort(descending=True, stable=True).tolist()
        return order


class KCenterSelectionStrategy(ExemplarsSelectionStrategy):
    """Keeps rows that cover the others in feature space: greedy
    :func:`~avalanche_ext.storage.coreset.k_center`, beginning with the row nearest to
    the mean.

    O. Sener, S. Savarese, Active learning for convolutional neural networks: a core-set
    approach, ICLR 2018.

    :param most: rows that will be kept at most, such as the buffer's size: the order of
        those after is that of the data. Each row ordered costs one pass over the
        features, so without it (``None``: all are ordered) a large group takes long.
    :param layer: whose input features are; see :func:`~avalanche_ext.features.features`.
    :raises ValueError: for ``most`` below 1.
    """

    def __init__(self, *, most: int | None = None, layer: str | None = None) -> None:
        if most is not None and most < 1:
            raise ValueError(f"most must be a number of rows from 1 on, got {most}")
        self.most = most
        self.layer = layer

    def make_sorted_indices(self, strategy: Any, data: Any) -> list[int]:
        """Indices of ``data``, each the farthest from those before it.

        :param strategy: Avalanche's trainer: its model.
        """
        rows, context = _among(strategy, data, self.layer)
        features = context.features(rows)
        n = len(features)
        # All rows would come in their own order, but the last has no choice anyway.
        chosen = k_center(features, min(self.most or n, n - 1)).tolist()
        rest = sorted(set(range(n)) - set(chosen))
        return [*chosen, *rest]


def _refuse_facts(criterion: Criterion) -> None:
    parts: Sequence[Criterion] = (criterion,)
    if isinstance(criterion, WeightedCriterion):
        parts = criterion.used
    for part in parts:
        live = getattr(part, "live", False)
        compares = getattr(part, "compares_features", False)
        if hasattr(part, "remembers") or (live and not compares):
            raise ValueError(
                f"criterion {part.name!r} reads what a memory knows of its rows, and rows "
                "to select from have no past, so that all would be alike: choose one of "
                "the rows themselves, 'loss' or 'diversity' say"
            )


@dataclass
class _Among(ScoringContext):
    """Rows that are compared with each other, as if all were stored."""

    rows: ScoredRows | None = None

    def need_stored(self, criterion: str) -> NearestDistance:
        """Their features, found when they are first wanted."""
        if self.stored is None:
            assert self.rows is not None
            self.stored = NearestDistance()
            self.stored.insert(self.features(self.rows))
        return self.stored


def _among(
    strategy: Any, data: Any, layer: str | None
) -> tuple[ScoredRows, ScoringContext]:
    source = row_source(data.eval())
    transform = source.transform

    def call(model: nn.Module, x: Any, task: Tensor | None) -> Any:
        return forward_rows(model, x if transform is None else transform(x), task)

    items: Sequence[Any] = source.read(torch.arange(len(source)))
    names = item_names(len(items), has_task_items(data))
    rows = dict(zip(names, items, strict=True))
    rows["index"] = torch.arange(len(source))
    context = _Among(
        model=strategy.model,
        loss=getattr(strategy, "_criterion", None),
        layer=layer,
        call=call,
        rows=rows,
    )
    return rows, context
