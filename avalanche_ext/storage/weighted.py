"""Draws of rows by weights, without replacement and with it.

The weight of a row is ``w_i = exp(preference_i / temperature)``. It is never formed:
its logarithm neither overflows nor vanishes, whatever the temperature. A row of
preference +∞ comes before all others and one of −∞ after them; rows that are alike
in this have equal chances.

Everything is computed in float64 where the preferences are; the generator must be
one of that device.
"""

import math

import torch
from torch import Generator, Tensor

_TINY = 1e-300  # keeps log u finite; far below what a uniform number resolves
_RESOLVED = 1e9  # spread of log-weights up to which noise of order 1 is kept by a sum


def successive(
    preference: Tensor,
    n: int,
    generator: Generator,
    *,
    temperature: float = 1.0,
    draws: int = 1,
) -> Tensor:
    """``draws`` independent draws of ``n`` rows without replacement.

    Each next row is drawn with probability ``w_i / Σ w_j``, the sum over the rows not
    drawn yet. All at once, as a race: row ``i`` arrives at time ``t_i = e_i / w_i``,
    ``e_i`` from the standard exponential distribution, and the first ``n`` are drawn,
    in the order of arrival. With Gumbel noise ``−log e_i`` this is the Gumbel top-n
    of ``log w_i``.

    J. I. Yellott, The relationship between Luce's choice axiom, Thurstone's theory of
    comparative judgment, and the double exponential distribution, J. Math. Psychol.
    15(2), 1977; P. S. Efraimidis, P. G. Spirakis, Weighted random sampling with a
    reservoir, Inf. Process. Lett. 97(5), 2006.

    >>> successive(
    ...     torch.tensor([0.0, 1.0, -torch.inf]), 2, torch.Generator(), temperature=1e-9
    ... )
    tensor([[1, 0]])

    :param preference: float64 without NaN, shape ``(stored,)``.
    :return: indices, shape ``(draws, n)``.
    :raises ValueError: when more rows are asked for than there are.
    """
    return _race(preference, n, generator, temperature, draws, False)[0]


def successive_with_inclusion(
    preference: Tensor,
    n: int,
    generator: Generator,
    *,
    temperature: float = 1.0,
    draws: int = 1,
) -> tuple[Tensor, Tensor]:
    """:func:`successive`, and the probability with which each row drawn was.

    Given the time ``τ`` at which the first row *not* drawn arrives, row ``i`` is
    among the drawn with probability ``q_i = P(t_i < τ) = 1 − exp(−w_i τ)``. Then
    ``Σ f_i / q_i`` over the rows drawn is an unbiased estimate of ``Σ f_i`` over all.
    When nothing is left out, ``q_i = 1``.

    W. Kool, H. van Hoof, M. Welling, Stochastic beams and where to find them, ICML
    2019 (``−log τ`` is its threshold κ); N. Duffield, C. Lund, M. Thorup, Priority
    sampling for estimation of arbitrary subset sums, J. ACM 54(6), 2007.

    :return: indices and probabilities, shape ``(draws, n)`` each.
    :raises ValueError: when more rows are asked for than there are.
    """
    return _race(preference, n, generator, temperature, draws, True)


def with_replacement(probability: Tensor, n: int, generator: Generator) -> Tensor:
    """``n`` independent rows, each of ``probability``, shape ``(n,)``."""
    sums = probability.cumsum(0)
    point = torch.rand(
        n, generator=generator, dtype=sums.dtype, device=generator.device
    )
    return torch.searchsorted(sums, point * sums[-1], right=True)


def probabilities(preference: Tensor, temperature: float = 1.0) -> Tensor:
    """Of each row: to be the first drawn, ``w_i / Σ_j w_j``, shape ``(stored,)``."""
    if not len(preference):
        return preference
    high = preference.max()
    if high.isinf():
        best = preference == high
        return best.to(preference.dtype) / best.sum()
    return torch.softmax((preference - high) / temperature, dim=0)


def _race(
    preference: Tensor,
    n: int,
    generator: Generator,
    temperature: float,
    draws: int,
    inclusion: bool,
) -> tuple[Tensor, Tensor]:
    stored = len(preference)
    if n > stored:
        raise ValueError(f"{n} rows asked for without replacement of {stored}")
    if not n:
        none = preference.new_empty((draws, 0))
        return none.long(), none
    low, high = torch.stack(torch.aminmax(preference)).tolist()
    if math.isfinite(low) and math.isfinite(high):
        return _heat(preference, low, high, n, generator, temperature, draws, inclusion)
    indices, chances = [], []
    for alike in (
        preference == torch.inf,
        preference.isfinite(),
        preference == -torch.inf,
    ):
        rows = alike.nonzero().squeeze(1)
        taken = min(n, len(rows))
        if taken:
            values = preference[rows].nan_to_num_(posinf=0.0, neginf=0.0)
            low, high = torch.stack(torch.aminmax(values)).tolist()
            index, chance = _heat(
                values, low, high, taken, generator, temperature, draws, inclusion
            )
            indices.append(rows[index])
            chances.append(chance)
            n -= taken
    return torch.cat(indices, dim=1), torch.cat(chances, dim=1)


def _heat(
    preference: Tensor,
    low: float,
    high: float,
    n: int,
    generator: Generator,
    temperature: float,
    draws: int,
    inclusion: bool,
) -> tuple[Tensor, Tensor]:
    """A race among rows of finite preference from ``low`` to ``high``."""
    clock = _log_exponentials(draws, len(preference), generator)
    finishers = min(len(preference), n + inclusion)
    if high - low <= _RESOLVED * temperature:
        arrival = clock + (high - preference).div_(temperature)
        order = arrival.topk(finishers, dim=1, largest=False).indices
    else:
        # The noise is lost beside the preferences, except among equal ones.
        arrival = (high - preference) + temperature * clock
        by_clock = clock.argsort(dim=1)
        by_arrival = arrival.gather(1, by_clock).argsort(dim=1, stable=True)
        order = by_clock.gather(1, by_arrival[:, :finishers])
    index = order[:, :n]
    if not inclusion or finishers == n:
        return index, torch.ones_like(index, dtype=clock.dtype)
    next_one = order[:, n:]
    ahead = (preference[index] - preference[next_one]) / temperature
    rate_by_time = (ahead + clock.gather(1, next_one)).exp_()
    return index, torch.expm1(rate_by_time.neg_()).neg_()


def _log_exponentials(draws: int, stored: int, generator: Generator) -> Tensor:
    """Logarithms of standard exponential numbers, shape ``(draws, stored)``.

    By way of uniform ones, which torch draws several times faster on a CPU.
    """
    numbers = torch.empty((draws, stored), dtype=torch.float64, device=generator.device)
    numbers.uniform_(_TINY, 1.0, generator=generator)
    return numbers.log_().neg_().log_()
