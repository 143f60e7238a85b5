"""The rows of an experience, as a model sees them in evaluation."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from avalanche_ext.gradients.rows import apply, count_rows, has_rows
from avalanche_ext.gradients.stream import Batch
from avalanche_ext.storage.items import check_task_item, has_task_items
from avalanche_ext.storage.resident import row_source
from avalanche_ext.storage.rows import each

_AT_ONCE = 256  # rows read, transformed and moved to the device together


def evaluation_batches(
    dataset: Any, most: int | None, generator: torch.Generator, device: torch.device
) -> Iterator[Batch]:
    """Batches of an experience's rows under its evaluation transforms.

    :param dataset: of an experience.
    :param most: how many rows, drawn without replacement; ``None`` for all in order.
    :param device: where to make the model's input.
    """
    dataset = dataset.eval()
    source = row_source(dataset)
    tasks = has_task_items(dataset)
    rows = torch.arange(len(source))
    if most is not None and most < len(source):
        rows = torch.randperm(len(source), generator=generator)[:most].sort().values
    for part in torch.split(rows, _AT_ONCE):
        items = source.read(part)
        if source.transform is not None:
            items[0] = source.transform(each(lambda x: x.to(device), items[0]))
        yield batch_of(items, tasks)


def given_batches(batches: Any, tasks: bool) -> Iterator[Batch]:
    """The batches that a user gives.

    :param tasks: whether the last item of each is the task label.
    :raises ValueError: for anything but ``[x, y, …]`` each, with tensors in both, and
        three items at least where the last one is the task label.
    """
    wanted = "give a data loader, or a list of batches [x, y, …]"
    if isinstance(batches, (Tensor, Mapping, str)) or not isinstance(batches, Iterable):
        raise ValueError(
            f"batches must be several, got one {type(batches).__name__}: {wanted}"
        )
    for number, batch in enumerate(batches):
        x, *rest = batch if isinstance(batch, (list, tuple)) and batch else [None]
        if not has_rows(x) or not all(y is None or has_rows(y) for y in rest[:1]):
            raise ValueError(
                f"batch {number} must be [x, y, …] with tensors, got {_kind(batch)}: "
                f"{wanted}"
            )
        if tasks and len(batch) < 3:
            raise ValueError(
                f"batch {number} is {_kind(batch)}, and the model is a multi-task one: "
                "give batches [x, y, …, task] with task labels last"
            )
        yield batch_of(batch, tasks)


def _kind(batch: Any) -> str:
    if isinstance(batch, (list, tuple)):
        return f"[{', '.join(type(part).__name__ for part in batch)}]"
    return f"a {type(batch).__name__}"


def batch_of(items: Any, tasks: bool) -> Batch:
    """Input, target and task label of a minibatch ``[x, y, …]``.

    :param tasks: whether the last item is the task label.
    """
    if tasks:
        check_task_item(items)
    return (
        items[0],
        items[1] if len(items) > 1 else None,
        items[-1] if tasks and len(items) > 2 else None,
    )


class StepRows:
    """Minibatches kept for the end of so many steps: evenly spread over them, and as many
    as hold the rows wanted.

    :param every: steps from one end to the next.
    :param most: rows wanted; ``None`` keeps all minibatches.
    """

    def __init__(self, every: int, most: int | None) -> None:
        self.every, self.most = every, most
        self.batches: list[list[Any]] = []

    def offer(self, step: int, batch: Any) -> None:
        """Keep the minibatch of a step, 0 the first, where it is one of those wanted."""
        wanted = self.every
        if self.most is not None:
            wanted = min(wanted, -(-self.most // max(1, count_rows(batch[0]))))
        place = (step + 1) * wanted // self.every
        if place > step * wanted // self.every:
            self.batches.append([apply(item, Tensor.clone) for item in batch])

    def taken(self, tasks: bool) -> list[Batch]:
        """Those kept so far, which begins anew.

        :param tasks: whether the last item of each is the task label.
        """
        kept, self.batches = self.batches, []
        return [batch_of(batch, tasks) for batch in kept]
