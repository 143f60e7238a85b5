"""Whether a published figure is reproduced, and how a cell comes to its verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.spread import mean_and_sd
from experiments.table.protocol import Published

Verdict = Literal[
    "reproduced",
    "above",
    "missed",
    "inconclusive",
    "incomplete",
    "not run",
]
PASSED: tuple[Verdict, ...] = ("reproduced", "above")
JUDGED: tuple[Verdict, ...] = (*PASSED, "missed")
FLOOR = 1.0
"""A difference of so many points is none, however small both ± are."""

FLOOR_WITHOUT_SPREAD = 2.0
"""The same where no ± is published."""

ENOUGH = 0.95
"""A table is reproduced when so many of its judged values are."""

_ROUNDING = 1e-9


def tolerance(published: Published, values: Sequence[float]) -> float:
    """How far a mean may be from the published one.

    ``max(2·√(se_published² + se_ours²), 1.0)`` points, where the standard error of the
    published mean is not known ``max(2·se_ours, 2.0)``.

    :param values: ours, in %, two or more.
    """
    theirs = published.standard_error
    ours = float(mean_and_sd(values)[1]) / math.sqrt(len(values))
    if theirs is None:
        return max(2 * ours, FLOOR_WITHOUT_SPREAD)
    return max(2 * math.hypot(theirs, ours), FLOOR)


def judge(published: Published, values: Sequence[float]) -> Verdict:
    """The verdict on one published figure of which more is better.

    Within the tolerance it is reproduced, beyond it on the better side "above".
    A miss is inconclusive where it depends on something recalled: on the mean, or on a
    ± without which the difference would be no miss. So is a single seed.

    :param values: ours, in %.
    """
    if len(values) < 2:
        return "inconclusive"
    difference = float(mean_and_sd(values)[0]) - published.mean
    allowed = tolerance(published, values)
    if abs(difference) <= allowed + _ROUNDING:
        return "reproduced"
    if difference > 0:
        return "above"
    recalled_spread = published.spread_certainty == "recalled"
    if published.standard_error is not None and recalled_spread:
        allowed = max(allowed, FLOOR_WITHOUT_SPREAD)
    if published.certainty == "recalled" or -difference <= allowed + _ROUNDING:
        return "inconclusive"
    return "missed"


@dataclass(frozen=True)
class Round:
    """One quantity over some seeds that were declared beforehand.

    :param values: in %, of those seeds that have a result.
    :param seeds: those declared.
    """

    values: tuple[float, ...]
    seeds: range

    @property
    def complete(self) -> bool:
        """Whether every seed has a value."""
        return len(self.values) == len(self.seeds)


@dataclass(frozen=True)
class Comparison:
    """A published figure beside ours.

    :param first: the seeds declared.
    :param again: the same number of seeds after them, run where a figure of the cell
        was missed.
    :param verdict: that of ``first``; where that was a miss and ``again`` is complete,
        that of ``again``.
    """

    metric: str
    published: Published
    first: Round
    again: Round
    verdict: Verdict

    @property
    def missed_first(self) -> bool:
        """Whether the seeds declared missed the figure, whatever came after."""
        return (
            self.first.complete and judge(self.published, self.first.values) == "missed"
        )


def compare(
    metric: str, published: Published, first: Round, again: Round
) -> Comparison:
    """The verdict over both rounds of a cell."""

    def verdict(there: Round) -> Verdict:
        if not there.values:
            return "not run"
        return judge(published, there.values) if there.complete else "incomplete"

    decided = verdict(first)
    if decided == "missed" and again.complete:
        decided = verdict(again)
    return Comparison(metric, published, first, again, decided)
