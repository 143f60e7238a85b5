"""What the autograd graph tells: where parameters are used, and which rows came where.

A formula for a layer is exact only if its parameter is used once, by that layer, and
if it is known which row of the batch each row of its input belongs to.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

Node = Any  # torch.autograd.graph.Node, whose attributes depend on the operation

_SELECTIONS = ("IndexBackward0", "IndexSelectBackward0")
# Rows that were taken out are written back into a whole batch.
_RETURNS = ("IndexPutBackward0", "torch::autograd::CopySlices", "IndexCopyBackward0")


@dataclass(frozen=True)
class Use:
    """One use of a parameter: the operation, and the place among its operands."""

    node: Node
    place: int


def uses(root: Node | None) -> dict[int, list[Use]]:
    """Each parameter's uses in the computation of ``root``, by the parameter's id.

    :raises RuntimeError: for reentrant checkpointing, which hides uses.
    """
    found: dict[int, list[Use]] = {}
    met = {root}
    todo = [root] if root is not None else []
    while todo:
        node = todo.pop()
        if node.name() == "CheckpointFunctionBackward":
            raise RuntimeError(
                "the model uses reentrant checkpointing, through which gradients of "
                "single rows cannot be taken; use checkpoint(…, use_reentrant=False)"
            )
        for place, (before, _) in enumerate(node.next_functions):
            if before is None:
                continue
            if hasattr(before, "variable"):
                found.setdefault(id(before.variable), []).append(Use(node, place))
            elif before not in met:
                met.add(before)
                todo.append(before)
    return found


def between(last: Node, first: Node | None) -> set[int]:
    """Ids of the parameters that ``last`` was made of after ``first``."""
    found = set()
    met = {last, first}
    todo = [last]
    while todo:
        for before, _ in todo.pop().next_functions:
            if before is None or before in met:
                continue
            met.add(before)
            if hasattr(before, "variable"):
                found.add(id(before.variable))
            else:
                todo.append(before)
    return found


class UnknownRows(Exception):
    """It cannot be said which rows of the batch these are."""


# Rows of the batch by their index; all of them; none, since made of parameters alone as
# far as the graph shows; or why that is not known.
Origin = Tensor | Literal["all", "none"] | UnknownRows


@dataclass
class RowOrigins:
    """Which rows of a batch of ``rows`` a value consists of, along its first dimension.

    Rows that are taken out, ``x[mask]``, ``x[index]`` or ``x.index_select(0, index)``,
    as a model with a head a task does, are followed through later operations. Nodes
    are remembered, so that all modules of a model together cost one walk.
    """

    rows: int
    _known: dict[Node, Origin] = field(default_factory=dict)

    def of(self, node: Node | None, length: int) -> Tensor | None:
        """Index of the rows, shape ``(length,)``, or ``None`` for all rows in order.

        :param node: that made the value; ``None`` where it depends on no parameter.
        :param length: size of its first dimension.
        :raises UnknownRows:
        """
        origin: Origin = "all" if node is None else self._origin(node)
        if isinstance(origin, UnknownRows):
            raise origin
        if length != (len(origin) if isinstance(origin, Tensor) else self.rows):
            raise UnknownRows(f"{length} rows in place of {self.rows}")
        return origin if isinstance(origin, Tensor) else None

    def _origin(self, node: Node) -> Origin:
        todo = [node]
        while todo:
            node = todo[-1]
            before = [
                inner
                for inner, _ in node.next_functions
                if inner is not None and not hasattr(inner, "variable")
            ]
            missing = [inner for inner in before if inner not in self._known]
            if missing and node.name() not in _RETURNS:
                todo += missing
                continue
            todo.pop()
            if node.name() in _RETURNS:
                self._known[node] = "all"
            else:
                self._known[node] = self._made_of(
                    node, [self._known[n] for n in before]
                )
        return self._known[node]

    def _made_of(self, node: Node, before: list[Origin]) -> Origin:
        origins = {id(o): o for o in before if not isinstance(o, str) or o != "none"}
        origin: Origin = next(iter(origins.values()), "none")
        index = _selection(node)
        if index is None:
            return origin if len(origins) < 2 else UnknownRows("of several selections")
        if not isinstance(origin, str) or node._saved_self_sym_sizes[0] != self.rows:
            return UnknownRows("selected twice")
        if index.dtype is torch.bool:
            index = index.nonzero()
            if index.shape[1] != 1:
                return UnknownRows("selected by elements")
            return index[:, 0]
        if index.dim() != 1:
            return UnknownRows("selected by a table")
        index = torch.where(index < 0, index + self.rows, index)
        if bool((index.bincount() > 1).any()):
            return UnknownRows("selected with repetitions")
        return index


def _selection(node: Node) -> Tensor | None:
    """By what the node takes rows; ``None`` where it does not."""
    name = node.name()
    if name not in _SELECTIONS:
        return None
    if name == "IndexSelectBackward0":
        index = node._saved_index if node._saved_dim == 0 else None
    else:
        index = node._saved_indices[0]
    return index if isinstance(index, Tensor) else None
