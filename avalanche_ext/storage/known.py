"""What is known of a memory's scores now, found without a trace."""

from copy import copy, deepcopy
from typing import Any

import torch
from torch import Tensor

from avalanche_ext.storage.sampling import MIXED
from avalanche_ext.storage.scored import column_of
from avalanche_ext.storage.scores import Scores
from avalanche_ext.storage.slots import moves
from avalanche_ext.storage.table import ExemplarTable


def known_scores(scores: Scores, *more: str) -> dict[str, Tensor]:
    """Raw scores of the rows that are not stale, by criterion, in the order of slots.

    Of the criteria whose scores are columns, of the live ones that the mixed score
    reads, and of the mixed score itself where all its parts are there: it is normalised
    over these rows alone. Nothing is scored and nothing changes, not even distances
    that wait to be brought up to date; they cost a copy of the features.

    :param more: further criteria that are in use, such as that of a sampling.
    :return: shape ``(len(table) − number of stale rows,)`` each.
    """
    names = [name for name in scores.names if _is_column(scores, name)]
    parts = [part.name for part in scores.mixed.used if _is_there(scores, part)]
    names = list(dict.fromkeys((*names, *parts, *more)))
    if len(parts) == len(scores.mixed.used) and MIXED not in names:
        names.append(MIXED)
    length = len(scores.table)
    stale = scores.stale.nonzero()[:, 0].tolist()
    if len(stale) == length:
        return {name: torch.zeros(0) for name in names}
    seen = copy(scores)
    seen.nearest = deepcopy(scores.nearest)
    if not stale:
        found = [values.clone() for values in seen.of_all(names)]
        return dict(zip(names, found, strict=True))
    # The rows left are in the order that removing the others gives them.
    order = torch.arange(length - len(stale))
    for old, new in moves(stale, length).items():
        order[new] = old
    seen.table = _of_rows(scores.table, order)
    if seen.nearest is not None:
        seen.nearest.remove([slot for slot in stale if slot < len(seen.nearest)])
    back = order.argsort()
    found = [values[back.to(values.device)] for values in seen.of_all(names)]
    return dict(zip(names, found, strict=True))


def _is_column(scores: Scores, name: str) -> bool:
    return column_of(name) in scores.table.columns


def _is_there(scores: Scores, criterion: Any) -> bool:
    if _is_column(scores, criterion.name):
        return True
    if not getattr(criterion, "live", False) or "drawn" not in scores.table.columns:
        return False
    compares = getattr(criterion, "compares_features", False)
    return not compares or scores.nearest is not None


def _of_rows(table: ExemplarTable, slots: Tensor) -> ExemplarTable:
    """Some rows of a table, without their inputs, which may be larger than memory."""
    rows = ExemplarTable(len(slots), device=table.device)
    rows.recast(table.gather(slots, [n for n in table.columns if n != "x"]))
    return rows
