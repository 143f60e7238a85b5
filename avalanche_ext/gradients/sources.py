"""Where in a forward pass each parameter's gradient comes from, and its formula."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from avalanche_ext.gradients.capture import Call, Layer
from avalanche_ext.gradients.factors import Factor
from avalanche_ext.gradients.graph import (
    Node,
    RowOrigins,
    UnknownRows,
    Use,
    between,
    uses,
)
from avalanche_ext.gradients.layers import (
    added_factor,
    bias_factor,
    fits,
    refusal,
    weight_factor,
)
from avalanche_ext.gradients.problem import Problem


@dataclass(frozen=True)
class Source(ABC):
    """Parameters whose gradients follow from one operation's output gradient.

    :param names: of the parameters: the layer's, or one that is added.
    :param edge: where the output's gradient comes in.
    :param origin: which rows of the batch the output has; ``None`` for all in order.
    """

    names: tuple[str, ...]
    edge: GradientEdge
    origin: Tensor | None

    @abstractmethod
    def factors(
        self, delta: Tensor, wanted: Collection[str]
    ) -> Iterator[tuple[str, Factor]]:
        """The rows' gradients for each of ``wanted``.

        :param delta: gradient of the output.
        """

    @abstractmethod
    def rows_first(self, delta: Tensor) -> Tensor:
        """``delta`` in the shape of the output."""


@dataclass(frozen=True)
class LayerSource(Source):
    """A layer's weight and bias."""

    layer: Layer
    call: Call

    def factors(
        self, delta: Tensor, wanted: Collection[str]
    ) -> Iterator[tuple[str, Factor]]:
        """See :class:`Source`."""
        delta = self.rows_first(delta)
        module, call = self.layer.module, self.call
        for role, name in self.layer.names.items():
            if name not in wanted:
                continue
            if role == "bias":
                yield name, bias_factor(module, delta)
            else:
                yield name, weight_factor(module, call.inputs, delta, call.training)

    def rows_first(self, delta: Tensor) -> Tensor:
        """See :class:`Source`."""
        return delta.reshape(self.call.shape)


@dataclass(frozen=True)
class AddedSource(Source):
    """A parameter that is added: a bias or a position's embedding.

    :param shape: of the parameter.
    :param factor: by which it is multiplied.
    """

    shape: torch.Size
    factor: float

    def factors(
        self, delta: Tensor, wanted: Collection[str]
    ) -> Iterator[tuple[str, Factor]]:
        """See :class:`Source`."""
        if self.names[0] in wanted:
            scaled = delta if self.factor == 1 else delta * self.factor
            yield self.names[0], added_factor(scaled, self.shape)

    def rows_first(self, delta: Tensor) -> Tensor:
        """See :class:`Source`."""
        return delta


@dataclass(frozen=True)
class Survey:
    """What one forward pass tells.

    :param sources: of the parameters that have a formula.
    :param refused: why others have none.
    """

    sources: list[Source]
    refused: dict[str, str]


def survey(
    problem: Problem, layers: Collection[Layer], root: Node | None, rows: int
) -> Survey:
    """How the gradients of ``root`` for the rows of a batch can be computed.

    :param layers: that hold the parameters, with their calls in the forward pass.
    :param root: operation that all losses were made from.
    """
    used = uses(root)
    origins = RowOrigins(rows)
    sources: list[Source] = []
    refused: dict[str, str] = {}
    settled: set[str] = set()
    for layer in layers:
        mine = [
            name
            for name in layer.names.values()
            if name not in settled and id(problem.parameters[name]) in used
        ]
        if not mine:
            continue
        found, why = _of_layer(problem, layer, mine, used, origins)
        if found is not None:
            settled.update(found.names)
            if found.call.shape[0]:  # no row may reach a head
                sources.append(found)
        for name in mine:
            if name in settled:
                continue
            parameter = problem.parameters[name]
            added = _added(name, parameter.shape, used[id(parameter)], origins)
            if added is not None:
                sources.append(added)
                settled.add(name)
            else:
                refused[name] = why
    return Survey(sources, {n: why for n, why in refused.items() if n not in settled})


def _of_layer(
    problem: Problem,
    layer: Layer,
    names: list[str],
    used: dict[int, list[Use]],
    origins: RowOrigins,
) -> tuple[LayerSource | None, str]:
    """The source of those of a layer's parameters that it alone uses, once."""
    why = refusal(layer.module)
    if why is not None:
        return None, why
    if len(layer.calls) != 1:
        return None, f"its layer is called {len(layer.calls)} times"
    call = layer.calls[0]
    if not fits(layer.module, call.inputs, call.shape):
        return None, "the first dimension of its layer's input is not that of rows"
    try:
        origin = origins.of(call.source, call.shape[0])
    except UnknownRows as unknown:
        return None, f"its layer's rows are not those of the batch ({unknown})"
    inside = between(call.edge.node, call.source)
    single = []
    for role, name in layer.names.items():
        key = id(problem.parameters[name])
        if name not in names or len(used[key]) > 1 or key not in inside:
            continue
        if role == "weight" and call.inputs._version != call.version:
            continue
        single.append(name)
    if not single:
        return None, "it is used elsewhere, or its layer's input is changed in place"
    why = "it is used more than once, or its layer's input is changed in place"
    return LayerSource(tuple(single), call.edge, origin, layer, call), why


def _added(
    name: str, shape: torch.Size, used: list[Use], origins: RowOrigins
) -> AddedSource | None:
    if len(used) > 1 or used[0].node.name() != "AddBackward0":
        return None
    node, place = used[0].node, used[0].place
    total = torch.Size(node._input_metadata[0].shape)
    if not total or len(shape) > len(total):
        return None
    if len(shape) == len(total) and shape[0] != 1:
        return None
    try:
        origin = origins.of(node, total[0])
    except UnknownRows:
        return None
    factor = 1.0 if place == 0 else float(node._saved_alpha)
    return AddedSource((name,), GradientEdge(node, 0), origin, shape, factor)
