"""Scores of criteria on one scale, and their weighted mean."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from avalanche_ext.arguments import is_number

_NAMED = 5  # rows that an error names


def normalise(scores: Tensor, criterion: str, *, keep_infinite: bool = False) -> Tensor:
    """Scores on [0, 1] over the rows at hand.

    ``(s_i − min s) / (max s − min s)``, minimum and maximum over the finite scores;
    +∞ gives 1 and −∞ gives 0. Equal finite scores give equal ones, 0.5: a criterion
    that cannot tell rows apart is for none of them and against none.

    >>> normalise(torch.tensor([3.0, 1.0, 2.0]), "loss").tolist()
    [1.0, 0.0, 0.5]

    :param scores: shape ``(n,)``, any real dtype.
    :param criterion: whose scores they are, for errors.
    :param keep_infinite: leave ±∞ as they are, for a draw that takes +∞ before every
        finite score.
    :return: float64, shape ``(n,)``; ``scores`` is left as it is.
    :raises ValueError: for NaN, naming criterion and rows, or another shape.
    """
    exact = checked_scores(scores, criterion)
    if not len(exact):
        return exact
    low, high = torch.stack(torch.aminmax(exact)).tolist()
    if math.isfinite(low) and math.isfinite(high):
        return _spread(exact, low, high)
    finite = exact.isfinite()
    spread = exact.clone()
    if finite.any():
        low, high = torch.stack(torch.aminmax(exact[finite])).tolist()
        spread[finite] = _spread(exact[finite], low, high)
    if keep_infinite:
        return spread
    return spread.nan_to_num_(posinf=1.0, neginf=0.0)


def weighted_mean(
    scores: Mapping[str, Tensor], weights: Mapping[str, float] | None = None
) -> Tensor:
    """The mean of several criteria, each normalised first.

    ``Σ_c w_c normalise(s_c)_i / Σ_c w_c``. An infinite score counts as 1 or 0 here,
    so that one criterion cannot overrule all others. What draws by the mean
    normalises it again.

    >>> weighted_mean(
    ...     {"loss": torch.tensor([0.0, 4.0]), "age": torch.tensor([9.0, 1.0])},
    ...     {"loss": 3, "age": 1},
    ... ).tolist()
    [0.25, 0.75]

    :param scores: raw scores by criterion, shape ``(n,)`` each.
    :param weights: by criterion; ``None``: all alike. A criterion of weight 0 is not
        looked at.
    :return: float64, shape ``(n,)``.
    :raises ValueError: for NaN or other shapes, or weights refused by
        :func:`check_weights`.
    """
    weights = dict.fromkeys(scores, 1.0) if weights is None else weights
    check_weights(weights, scores)
    used = {name: weight for name, weight in weights.items() if weight}
    lengths = {name: len(scores[name]) for name in used}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            f"criteria scored different numbers of rows, {lengths}: give each the same "
            "rows"
        )
    largest = max(used.values())
    total = math.fsum(w / largest for w in used.values())
    parts = [normalise(scores[n], n).mul_(w / largest / total) for n, w in used.items()]
    mean = parts[0]
    for part in parts[1:]:
        mean.add_(part)
    return mean


def check_weights(weights: Mapping[str, float], criteria: Iterable[str]) -> None:
    """Whether ``weights`` can combine ``criteria``.

    :raises ValueError: when names differ, a weight is negative or no number, or none
        is above 0.
    """
    names = sorted(criteria)
    if not names:
        raise ValueError("no criteria to combine: name at least one")
    if sorted(weights) != names:
        raise ValueError(
            f"weights are given for {sorted(weights)}, the criteria are {names}: give "
            "one weight for each"
        )
    refused = {
        n for n, w in weights.items() if not is_number(w) or not 0 <= w < math.inf
    }
    if refused or not any(weights.values()):
        raise ValueError(
            f"weights of criteria must be numbers from 0 on, at least one above 0, got "
            f"{dict(weights)}: leave out or set to 0 the criteria that shall not count"
        )


def checked_scores(
    scores: Tensor, criterion: str, slots: Tensor | None = None
) -> Tensor:
    """``scores`` in float64, where they are.

    :param slots: of the rows, by which errors name them, −1 for rows that have none;
        ``None``: they are named by their place in ``scores``.
    :raises ValueError: for NaN, naming criterion and rows, or another shape.
    """
    n = None if slots is None else len(slots)
    kind = tuple(scores.shape) if isinstance(scores, Tensor) else repr(scores)
    if not isinstance(kind, tuple) or len(kind) != 1 or n not in (None, *kind):
        raise ValueError(
            f"criterion {criterion!r} must give one score a row, a tensor of shape "
            f"({'n' if n is None else n},), got {kind}"
        )
    exact = scores.detach().to(torch.float64)
    missing = exact.isnan()
    if missing.any():
        remedy = "look for inputs or losses not finite"
        refuse_rows(criterion, missing, "NaN", remedy, slots)
    return exact


def refuse_rows(
    criterion: str, rows: Tensor, what: str, remedy: str, slots: Tensor | None = None
) -> None:
    """Raise for the rows marked in ``rows``.

    :param slots: as those of :func:`checked_scores`.
    :raises ValueError: always.
    """
    index = rows.nonzero().flatten().tolist()
    held = [-1] * len(rows) if slots is None else slots.tolist()
    named = _listed(dict.fromkeys(held[i] for i in index if held[i] >= 0))
    arriving = _listed(i for i in index if held[i] < 0)
    if named and arriving:
        named = f"{named} of those stored; row {arriving} of those that arrive"
    raise ValueError(
        f"criterion {criterion!r} scored {len(index)} of {len(rows)} rows {what} "
        f"(row {named or arriving}): {remedy}"
    )


def _listed(rows: Iterable[int]) -> str:
    all_rows = list(rows)
    more = ", …" if all_rows[_NAMED:] else ""
    return ", ".join(map(str, all_rows[:_NAMED])) + more


def _spread(scores: Tensor, low: float, high: float) -> Tensor:
    if low == high:
        return torch.full_like(scores, 0.5)
    if math.isinf(high - low):  # halves of them are apart by what can be represented
        return _spread(scores / 2, low / 2, high / 2)
    return (scores - low).div_(high - low)
