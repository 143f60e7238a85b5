"""What layers met in one forward pass: their inputs, and where gradients come in."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.utils.hooks import RemovableHandle

from avalanche_ext.gradients.graph import Node


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    :param inputs: of the layer.
    :param version: of ``inputs`` then: each change in place raises it.
    :param edge: where the gradient of its output, as it was before any operation in
        place, comes in.
    :param shape: of the output.
    :param source: the operation that made the input, if it depends on parameters.
    :param training: whether the layer was in training mode.
    """

    inputs: Tensor
    version: int
    edge: GradientEdge
    shape: torch.Size
    source: Node | None
    training: bool


@dataclass
class Layer:
    """A module with parameters of its own that are asked for.

    :param names: of these parameters in the model, by their name in the module.
    """

    module: nn.Module
    names: dict[str, str]
    calls: list[Call] = field(default_factory=list)


def layers_of(model: nn.Module, wanted: Mapping[str, nn.Parameter]) -> list[Layer]:
    """The modules that hold the parameters ``wanted``, in the model's order."""
    names = {id(parameter): name for name, parameter in wanted.items()}
    found = []
    for module in model.modules():
        own = {
            role: names[id(parameter)]
            for role, parameter in module._parameters.items()
            if id(parameter) in names
        }
        if own:
            found.append(Layer(module, own))
    return found


@contextmanager
def watching(layers: Collection[Layer]) -> Iterator[list[Layer]]:
    """Note the calls of ``layers`` until the end of the block.

    :return: the layers in the order of their calls, filled as they are called.
    """
    order: list[Layer] = []
    handles: list[RemovableHandle] = []
    try:
        for layer in layers:
            layer.calls.clear()
            handles.append(watch(layer, order))
        yield order
    finally:
        for handle in handles:
            handle.remove()


def watch(layer: Layer, order: list[Layer]) -> RemovableHandle:
    """Note each call of ``layer``, and its place in ``order``."""

    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        inputs = args[0] if args else next(iter(kwargs.values()), None)
        order.append(layer)
        if isinstance(output, Tensor) and isinstance(inputs, Tensor):
            edge = _edge(output)
            if edge is not None:
                layer.calls.append(
                    Call(
                        inputs.detach(),
                        inputs._version,
                        edge,
                        output.shape,
                        inputs.grad_fn,
                        module.training,
                    )
                )

    # First, so that what other hooks make of the output comes after.
    return layer.module.register_forward_hook(note, prepend=True, with_kwargs=True)


def _edge(output: Tensor) -> GradientEdge | None:
    made = output
    base = output._base
    if (
        base is not None
        and base.numel() == output.numel()
        and base.is_contiguous()
        and output.is_contiguous()
    ):
        # A later operation in place on a view rewrites the view's own history.
        made = base
    if made.grad_fn is None:
        return None
    return GradientEdge(made.grad_fn, made.output_nr)
