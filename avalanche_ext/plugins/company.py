"""What else is in a strategy that rehearses, and whose its memory was before."""

import warnings
from collections.abc import Sequence
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from avalanche.benchmarks.utils.data_loader import ReplayDataLoader
from avalanche.training.plugins import ReplayPlugin

from avalanche_ext.storage.buffer import MultiStrategyBuffer

_trained_with: WeakKeyDictionary[MultiStrategyBuffer, ReferenceType[Any]] = (
    WeakKeyDictionary()
)
"""The strategy that trained last with a memory: no part of either, nor of a pickle."""


def check_company(rehearsals: Sequence[Any], strategy: Any) -> None:
    """Refuse what rehearsal plugins cannot tell apart or cannot share.

    :param rehearsals: those of the strategy, in order.
    :raises ValueError: for Avalanche's replay, a memory that two of them feed, or loss
        weights of two of them.
    """
    for plugin in strategy.plugins:
        if isinstance(plugin, ReplayPlugin):
            raise _unknown_rows(type(plugin).__name__)
    memories = [id(rehearsal.buffer) for rehearsal in rehearsals]
    if len(set(memories)) < len(memories):
        raise ValueError(
            "two rehearsal plugins of one strategy have the same memory, which would be "
            "offered each row twice: give each a memory of its own"
        )
    weighing = [r for r in rehearsals if r.weighs_losses]
    if len(weighing) > 1:
        raise ValueError(
            f"{len(weighing)} rehearsal plugins of one strategy weigh losses, by "
            "loss_weights or by sampling 'priority': let one do it, whose weights are of "
            "its memory's rows and of all other rows"
        )


def check_loader(loader: Any) -> None:
    """Refuse a loader whose batches hold memory rows that nobody can tell.

    :raises ValueError: for a ``ReplayDataLoader``, or its resident counterpart.
    """
    original = getattr(getattr(loader, "order", None), "loader", loader)
    if isinstance(original, ReplayDataLoader):
        raise _unknown_rows("a plugin with a ReplayDataLoader")


def _unknown_rows(who: str) -> ValueError:
    return ValueError(
        f"{who} puts memory rows into the minibatches without saying which, so that "
        "RehearsalPlugin would take them for new ones: use one of the two; several "
        "RehearsalPlugins go together"
    )


def tell_reuse(buffer: MultiStrategyBuffer, strategy: Any) -> None:
    """Warn of a memory that comes from another run, and note that it is in this one.

    Silent for rows that were loaded with a checkpoint, or added before any training.
    """
    last = _trained_with.get(buffer)
    _trained_with[buffer] = ref(strategy)
    if last is None or not buffer.seen:
        return
    if strategy.clock.train_iterations == 0 or last() is not strategy:
        warnings.warn(
            f"this memory goes on with {len(buffer)} rows of another run, in this "
            f"{type(strategy).__name__}: make a new plugin, with a new memory, for each "
            "run (each seed)",
            stacklevel=2,
        )


def tell_idle(buffer: MultiStrategyBuffer) -> None:
    """Warn of criteria that nothing reads, before a memory's first row."""
    if buffer.idle_criteria and not buffer.seen:
        warnings.warn(buffer.idle_criteria, stacklevel=2)


def is_alone(experience: Any) -> bool:
    """Whether an experience is known to be the only one of its stream."""
    try:
        return len(experience.origin_stream) == 1
    except (AssertionError, AttributeError, TypeError):
        # Of no stream (Avalanche asserts one), or of one that is made as it goes.
        return False
