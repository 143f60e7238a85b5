"""A minibatch that memory rows have joined, and which of its rows they are."""

from collections.abc import Sequence
from typing import Any

from avalanche_ext.storage.rows import Rows, join


class RehearsedBatch(list[Any]):
    """A minibatch ``[x, y, …]``: current rows first, then those of each memory.

    It goes from one rehearsal plugin to the next, so that each knows the current rows.

    >>> import torch
    >>> batch = RehearsedBatch([torch.zeros(3, 2), torch.zeros(3)])
    >>> batch.append_rows([torch.ones(1, 2), torch.ones(1)])
    >>> batch[1].tolist(), batch.layout, len(batch.incoming[1])
    ([0.0, 0.0, 0.0, 1.0], [3, 1], 3)

    :param incoming: the minibatch of the current rows alone, as it came.
    """

    def __init__(self, incoming: list[Any]) -> None:
        super().__init__(incoming)
        self.incoming = incoming
        self.layout = [len(incoming[1])]
        """Number of current rows, then of those of each memory that was asked."""

    def append_rows(self, rows: Sequence[Rows] | None) -> None:
        """Append the rows of one more memory, item by item.

        :param rows: one entry an item; ``None`` where the memory gave nothing.
        :raises ValueError: when they differ in form from the current rows.
        """
        before = sum(self.layout)
        if rows is not None:
            self[:] = [join(a, b) for a, b in zip(self, rows, strict=True)]
        self.layout.append(len(self[1]) - before)
