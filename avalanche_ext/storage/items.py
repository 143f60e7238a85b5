"""The items of a minibatch by name: ``[x, y]``, ``[x, y, …]`` or ``[x, y, …, task]``.

Avalanche appends task labels to the items of a data set that has them, and its
strategies read the last item of a minibatch as the task label (``mb_task_id``) of an
experience that has them; of others they read ``x`` and ``y`` alone. So the last item
is the task label where the data set says so, and an item like any other elsewhere.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def has_task_items(dataset: Any) -> bool:
    """Whether the last item of each row is its task label."""
    attribute = getattr(dataset, "targets_task_labels", None)
    return attribute is not None and bool(attribute.use_in_getitem)


def item_names(items: int, tasks: bool) -> tuple[str, ...]:
    """The column of each item.

    >>> item_names(4, tasks=True)
    ('x', 'y', 'item2', 'task')
    """
    if items < 3:
        return ("x", "y")[:items]
    last = items - 1 if tasks else items
    return ("x", "y", *(f"item{i}" for i in range(2, last)), *("task",) * tasks)


def check_task_item(batch: Sequence[Any]) -> None:
    """Refuse a minibatch of three items or more whose last one are no task labels.

    :raises ValueError: naming what is there instead.
    """
    if len(batch) < 3:
        return
    task, n = batch[-1], len(batch[1])
    if isinstance(task, Tensor):
        if task.shape == (n,) and not task.is_floating_point():
            return
        found = f"{task.dtype} of shape {tuple(task.shape)}"
    else:
        found = type(task).__name__
    raise ValueError(
        f"the data set has task labels, which Avalanche takes from the last item of a "
        f"minibatch, one whole number a row; got {found}: make the task labels the "
        "last attribute that items are given (use_in_getitem=True)"
    )
