"""Samplings by name: which of its rows a memory replays."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from avalanche_ext.storage.coreset import Coreset
from avalanche_ext.storage.priority import Priority
from avalanche_ext.storage.softmax import Softmax
from avalanche_ext.storage.uniform import Uniform

Sampling: TypeAlias = Uniform | Softmax | Priority | Coreset

MIXED = "mixed"
"""Sampling, and score, by the weighted mean of all criteria."""

SAMPLINGS = ("uniform", MIXED, "priority", "coreset")
"""Samplings by name, besides those named after a criterion."""


def make_sampling(
    sampling: str | Sampling,
    criteria: Sequence[str],
    temperature: float | None = None,
    *,
    priority: str = "loss",
) -> Sampling:
    """The sampling of that name, with its default settings:
    :class:`~avalanche_ext.storage.uniform.Uniform`,
    :class:`~avalanche_ext.storage.softmax.Softmax` of ``"mixed"`` or of a criterion,
    :class:`~avalanche_ext.storage.priority.Priority` or
    :class:`~avalanche_ext.storage.coreset.Coreset`. Such an object stays as it is.

    >>> make_sampling("loss", ["loss"], temperature=0.5)
    Softmax(name='loss', temperature=0.5, replacement=False)

    :param criteria: names of criteria that there are.
    :param temperature: of a softmax sampling; ``None``: its own.
    :param priority: the score that ``"priority"`` draws by.
    :raises ValueError: for an unknown name, or a temperature of a sampling that has
        none.
    :raises TypeError: for what is neither a name nor a sampling.
    """
    asked = sampling if isinstance(sampling, str) else None
    allowed = tuple(dict.fromkeys((*SAMPLINGS, *criteria)))
    if isinstance(sampling, str):
        sampling = _by_name(sampling, allowed, priority)
    elif not isinstance(sampling, Sampling):
        raise TypeError(
            f"unknown sampling {sampling!r}: give one of {allowed}, or a "
            "Softmax, Priority or Coreset"
        )
    if temperature is None:
        return sampling
    if not isinstance(sampling, Softmax):
        raise ValueError(
            f"temperature={temperature} belongs to samplings by the softmax of scores, "
            f"got {asked or sampling.name!r}: leave it out"
        )
    return replace(sampling, temperature=temperature)


def _by_name(name: str, allowed: Sequence[str], priority: str) -> Sampling:
    if name == "uniform":
        return Uniform()
    if name == "priority":
        return Priority(priority)
    if name == "coreset":
        return Coreset()
    if name in allowed:
        return Softmax(name)
    raise ValueError(f"unknown sampling {name!r}: choose one of {allowed}")
