"""Numbers read off an accuracy matrix: average accuracy, forgetting, transfer.

The matrix has one row for each training experience, in order of training, and
one column for each evaluated experience: ``matrix[t][i]`` is ``a_{t,i}``, the
accuracy on experience i after training experience t, a fraction of one, or None
where it was not measured. ``trained[t]`` is the experience that row t was
trained on. ``T`` is the last row that holds a value.
"""

from collections.abc import Sequence
from typing import Literal, get_args

__all__ = [
    "Definition",
    "average_accuracy",
    "backward_transfer",
    "check_definition",
    "experience_forgetting",
    "forgetting",
    "mean_or_none",
]

Definition = Literal["max", "first"]
Column = Sequence["float | None"]
Matrix = Sequence[Column]


def check_definition(definition: str) -> None:
    """Refuse a definition of forgetting that does not exist.

    :raises ValueError: naming the value and those allowed.
    """
    allowed = get_args(Definition)
    if definition not in allowed:
        raise ValueError(
            f"unknown definition of forgetting {definition!r}: use one of "
            + ", ".join(repr(name) for name in allowed)
        )


def mean_or_none(values: Column) -> float | None:
    """Mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def experience_forgetting(
    column: Column,
    trained: Sequence[int | None],
    experience: int,
    definition: Definition = "max",
) -> float | None:
    """How much of one experience was lost by the last row of its column.

    - ``"max"``: ``f_i = max_{l<T} a_{l,i} - a_{T,i}``, what was once known minus
      what is known now (Chaudhry et al. 2018, "Riemannian Walk for Incremental
      Learning"). All earlier rows count, those before experience i was trained
      too, as in the paper.
    - ``"first"``: ``a_{i,i} - a_{T,i}``, Avalanche's own definition: the accuracy
      right after experience i was trained (for the last time before T, where it
      was trained more than once) minus the one now. Backward transfer is its
      negative. It misses what was gained in between and then lost: 0.5, 0.9, 0.6
      is a forgetting of -0.1, while ``"max"`` says 0.3.

    :param column: ``a_{0,i} ... a_{T,i}``; the last one is the accuracy now.
    :param trained: the experience that each row was trained on, None if unknown.
    :param experience: i.
    :param definition: ``"max"`` or ``"first"``.
    :return: the forgetting; None where it is undefined: experience i not trained
        before T, being the one just trained, or not measured at the rows needed.
    :raises ValueError: for an unknown definition.
    """
    check_definition(definition)
    last = len(column) - 1
    if last < 0 or column[last] is None or trained[last] == experience:
        return None
    visits = [t for t in range(last) if trained[t] == experience]
    if not visits:
        return None
    if definition == "max":
        past = [value for value in column[:last] if value is not None]
        reference = max(past) if past else None
    else:
        reference = column[visits[-1]]
    now = column[last]
    return None if reference is None or now is None else reference - now


def average_accuracy(matrix: Matrix) -> float | None:
    """``1/n sum_i a_{T,i}`` over the n experiences measured in the last row.

    Every experience weighs the same, whatever its number of samples. Experiences
    that were not trained yet count where they were measured, so this is the usual
    average accuracy when T is the end of the stream.

    :return: None without any measurement.
    """
    measured = _measured(matrix)
    return mean_or_none(measured[-1]) if measured else None


def forgetting(
    matrix: Matrix,
    trained: Sequence[int | None],
    definition: Definition = "max",
) -> list[float | None]:
    """:func:`experience_forgetting` of every column at the last measured row."""
    check_definition(definition)
    measured = _measured(matrix)
    if not measured:
        return []
    columns = zip(*measured, strict=True)
    return [
        experience_forgetting(column, trained[: len(measured)], i, definition)
        for i, column in enumerate(columns)
    ]


def backward_transfer(
    matrix: Matrix, trained: Sequence[int | None]
) -> list[float | None]:
    """``a_{T,i} - a_{i,i}`` for every experience i trained before T.

    Its mean over those i is the backward transfer of Lopez-Paz & Ranzato (2017,
    "Gradient Episodic Memory for Continual Learning"): positive where later
    training helped.
    """
    return [
        None if lost is None else -lost
        for lost in forgetting(matrix, trained, definition="first")
    ]


def _measured(matrix: Matrix) -> Matrix:
    """The matrix without its last rows that hold no value."""
    end = len(matrix)
    while end and all(value is None for value in matrix[end - 1]):
        end -= 1
    return matrix[:end]
