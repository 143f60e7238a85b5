"""Whether the rows of a memory are from before their batch transform or from after."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from avalanche_ext.gradients import forward_rows
from avalanche_ext.storage.rows import Rows
from avalanche_ext.storage.table import ExemplarTable
from avalanche_ext.storage.transforms import BatchTransform, fingerprint

Side = Literal["before", "after"]
"""The side of the batch transform from which a row is kept."""


class StoredForm:
    """The side from which the rows of one memory are kept, and their transform.

    Rows are kept from before the transform as long as all have the same one. When
    another comes (each task of permuted MNIST has its own), those held are transformed
    once, and from then on rows are kept as the model takes them.

    A state holds the transform's fingerprint only; the transform of loaded rows is
    unknown until it is met again.

    >>> form = StoredForm()
    >>> form.settle(None, ExemplarTable(3))
    'before'
    """

    def __init__(self) -> None:
        self.transform: BatchTransform | None = None
        """What makes the model's input of the rows held; ``None``: they are it."""
        self._settled = False  # rows of several transforms: kept from after them
        self._loaded: str | None = None  # fingerprint of the transform of loaded rows

    @property
    def unknown(self) -> bool:
        """Whether rows were loaded that wait for their transform to be met again."""
        return self._loaded is not None

    def settle(self, transform: BatchTransform | None, table: ExemplarTable) -> Side:
        """From which side to keep rows of ``transform`` in ``table``.

        Takes the transform over as that of the rows held, or, when it is another one,
        makes the model's input of them.

        :param transform: of the rows to come; ``None``: they are the model's input.
        :raises ValueError: for rows loaded from a state, which does not hold their
            transform, when this is another one.
        """
        if self._settled:
            return "after"
        if transform is self.transform and self._loaded is None:
            return "before"
        mark = fingerprint(transform)
        if self._loaded is not None and mark != self._loaded:
            raise ValueError(
                "the rows of the loaded memory were stored from before another "
                f"transform than {transform}: load it where that one is in use, or "
                "give RehearsalPlugin the transform that makes inputs of them"
            )
        if self._loaded is not None or not len(table):
            self.transform, self._loaded = transform, None
        if mark == fingerprint(self.transform):
            self.transform = transform  # alike, and from now on the same object
            return "before"
        if self.transform is not None:
            table.recast({"x": self.transform(table.column("x"))})
        self.transform, self._settled = None, True
        return "after"

    def call(self, model: nn.Module, x: Rows, task: Tensor | None) -> Any:
        """The model's output for rows of the side that is kept."""
        return forward_rows(
            model, x if self.transform is None else self.transform(x), task
        )

    def state_dict(self) -> dict[str, Any]:
        """The side, and the fingerprint of the transform."""
        return {
            "settled": self._settled,
            "before": self._loaded or fingerprint(self.transform),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict``, or one that holds its entries among others."""
        self._settled = state["settled"]
        self.transform, self._loaded = None, state["before"]
