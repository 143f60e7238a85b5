"""Finds what an admission compares rows by, where it needs it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from avalanche_ext.storage.policy import Admission, Compared, Groups, Vectors
from avalanche_ext.storage.rows import Rows, flat, index_tensor, part, take
from avalanche_ext.storage.scored import Scored
from avalanche_ext.storage.scorer import Scorer
from avalanche_ext.storage.value import Value

Read = Callable[[Tensor], dict[str, Rows]]
"""The columns of the rows of a batch at given positions."""

MOST = 2048
"""Rows stored whose values are compared when rows arrive: of more, some, so that the cost
of a batch does not grow with the memory."""


class Comparing:
    """Values and vectors of rows, for the policy of a memory.

    :param policy: what asks.
    :param scorer: of the rows.
    :param value: of a row.
    """

    def __init__(self, policy: Admission, scorer: Scorer, value: Value) -> None:
        self.policy, self.scorer, self.value = policy, scorer, value
        self.table = scorer.scores.table
        if policy.needs_values:
            scorer.scores.use(*value.criteria)

    def stored(self) -> Compared:
        """Of the rows that are stored."""
        values, vectors = None, None
        if self.policy.needs_values:
            values = self._values()
        if self.policy.needs_vectors:
            vectors = self._vectors(part(self.table.column("x"), 0, 0))
        return Compared(values, None, vectors)

    def arriving(
        self,
        read: Read,
        groups: Groups,
        scored: Scored | None,
        size: int,
        draw: torch.Generator,
    ) -> tuple[Compared, Scored | None]:
        """Of the rows that are stored, of more than :data:`MOST` those that the policy
        chooses, and of those that arrive.

        :param groups: of the rows that arrive, as the policy is told them.
        :param scored: what is known of these rows.
        :param size: the largest number of rows stored.
        :return: and what is known of those that arrive now.
        """
        n, stored = len(groups), len(self.table)
        values, vectors, slots = None, None, None
        if self.policy.needs_values and stored + n > size:
            self.scorer.settle()  # rows that arrive are compared with those stored
            if scored is None:
                scored = self.scorer.score(read(torch.arange(n)))
            slots = self.policy.to_compare(groups, stored, size, MOST, draw)
            values = self._values(scored, n, slots)
        if self.policy.needs_vectors:
            vectors = self._vectors(read(torch.arange(n))["x"])
        return Compared(values, slots, vectors), scored

    def _values(
        self, incoming: Scored | None = None, n: int = 0, slots: Tensor | None = None
    ) -> Tensor:
        self.scorer.settle()
        return self.value.of(self.scorer.scores, incoming, n, slots)

    def _vectors(self, incoming: Rows) -> Vectors:
        def stored(slots: Sequence[int]) -> Tensor:
            index = index_tensor(slots).to(self.table.device)
            return flat(take(self.table.column("x"), index))

        arriving = flat(incoming).to(self.table.device)
        return Vectors(arriving, stored, self.table.forms)
