"""What else is in a strategy that rehearses: what cannot be told apart is refused."""

from collections.abc import Sequence
from typing import Any

from avalanche.benchmarks.utils.data_loader import ReplayDataLoader
from avalanche.training.plugins import ReplayPlugin


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
    weighted = [r for r in rehearsals if r.loss_weights is not None]
    if len(weighted) > 1:
        raise ValueError(
            f"{len(weighted)} rehearsal plugins of one strategy have loss_weights, "
            f"{' and '.join(str(r.loss_weights) for r in weighted)}: give them to one, "
            "whose weights are of its memory's rows and of all other rows"
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
