"""The criteria of a memory: those it was given, their names and their parts."""

from collections.abc import Iterator, Mapping, Sequence

from avalanche_ext.storage.criteria import (
    CRITERIA,
    Criterion,
    WeightedCriterion,
    make_criteria,
)
from avalanche_ext.storage.sampling import MIXED, SAMPLINGS

DEFAULT = ("forgetting",)
"""Criteria of the mixed score where none are given."""


def mixed_score(
    criteria: Sequence[str | Criterion] | None,
    weights: Mapping[str, float] | None = None,
) -> WeightedCriterion:
    """The weighted mean of the criteria given.

    :param criteria: by name or as objects; ``None``: :data:`DEFAULT`.
    :param weights: by criterion's name; 1 where none is given.
    :raises ValueError: for what is no list, and for unknown or equal names.
    :raises TypeError: for what is no criterion.
    """
    criteria = DEFAULT if criteria is None else criteria
    if isinstance(criteria, str) or not isinstance(criteria, Sequence):
        one = criteria if criteria in CRITERIA else "loss"
        raise ValueError(
            f"criteria must be a list of names or criteria, got {criteria!r}: give "
            f"{[one]}, say"
        )
    return WeightedCriterion(make_criteria(criteria), weights, name=MIXED)


def priority_score(criteria: Sequence[str | Criterion] | None) -> str:
    """What sampling ``"priority"`` draws by: the criterion that was given, the mixed
    score of several, the loss where none was."""
    if criteria is None:
        return "loss"
    return make_criteria(criteria)[0].name if len(criteria) == 1 else MIXED


def by_name(mixed: WeightedCriterion) -> dict[str, Criterion]:
    """The mixed score and all that it is made of.

    :raises ValueError: for a name that means something else, or several things.
    """
    known: dict[str, Criterion] = {MIXED: mixed}
    for part in (p for c in mixed.criteria for p in parts(c)):
        name = part.name
        if name in SAMPLINGS:
            raise ValueError(
                f"a criterion is named {name!r}, as a sampling is: give it another name, "
                "name=…"
            )
        if name in CRITERIA and not isinstance(part, type(make_criteria([name])[0])):
            raise ValueError(
                f"a {type(part).__name__} is named {name!r}, as another criterion is: "
                "give it another name, name=…"
            )
        if known.setdefault(name, part) != part:
            raise ValueError(
                f"several criteria are named {name!r}: give each a name of its own, "
                "name=…"
            )
    return known


def parts(criterion: Criterion) -> Iterator[Criterion]:
    """A criterion, and those that it is combined from."""
    yield criterion
    if isinstance(criterion, WeightedCriterion):
        for part in criterion.criteria:
            yield from parts(part)


def parts_used(criterion: Criterion) -> tuple[Criterion, ...]:
    """What is scored of a criterion: its parts of a weight above 0."""
    return criterion.used if isinstance(criterion, WeightedCriterion) else (criterion,)
