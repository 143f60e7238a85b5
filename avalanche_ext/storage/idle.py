"""Options of a memory that nothing looks at: what to say of them."""

from collections.abc import Sequence

from avalanche_ext.storage.sampling import MIXED, Sampling
from avalanche_ext.storage.scored import column_of
from avalanche_ext.storage.scores import Scores


def idle_criteria(
    given: Sequence[str], scores: Scores, sampling: Sampling, admission: str
) -> str | None:
    """What to say of criteria that were given, and that neither draws nor admission read;
    ``None`` where one of them is read.

    :param given: their names.
    :param admission: one that compares no values.
    """
    used = sampling.reads == "scores" and sampling.name in (MIXED, *given)
    kept = any(column_of(name) in scores.facts for name in given)
    if not given or used or kept:
        return None
    return (
        f"criteria {list(given)} have no effect: sampling {sampling.name!r} and admission "
        f"{admission!r} look at none of them: give sampling='mixed', or admission="
        "'score', or leave them out"
    )


def idle_sampling(sampling: Sampling) -> str | None:
    """What to say of a sampling where another draws the rows; ``None`` of a uniform one."""
    if sampling.reads == "nothing":
        return None
    return (
        f"sampling {sampling.name!r} has no effect: nobody draws by it, since Avalanche's "
        "plugins take the rows of memory.buffer, all alike: use RehearsalPlugin(memory), "
        "or leave it out"
    )
