"""A model, how it is called, which of its parameters are asked for; and the state in
which gradients of single rows are defined."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avalanche_ext.gradients.rows import apply
from avalanche_ext.undisturbed import undisturbed

Forward = Callable[[nn.Module, Any, Tensor | None], Any]
Parameters = Literal["all", "last"] | Collection[str]
Shapes = tuple[tuple[str, torch.Size, bool], ...]


def forward_rows(model: nn.Module, x: Any, task: Tensor | None) -> Any:
    """``model(x, task)`` for Avalanche's multi-task modules, else ``model(x)``.

    :param task: task label of each row, shape ``(n,)``.
    """
    return model(x, task) if takes_task_labels(model) else model(x)


def takes_task_labels(module: nn.Module) -> bool:
    """Whether it is a multi-task module of Avalanche's, called with task labels."""
    # By name, so that this package does not need Avalanche.
    return any(kind.__name__ == "MultiTaskModule" for kind in type(module).__mro__)


@dataclass(frozen=True)
class Problem:
    """What gradients are taken of.

    :param parameters: trainable parameters that are asked for, by name.
    :param last: only those of the last layer with parameters.
    :param shapes: of all parameters of the model, and whether they are trainable.
    """

    model: nn.Module
    forward: Forward
    parameters: dict[str, nn.Parameter]
    last: bool
    shapes: Shapes

    @property
    def device(self) -> torch.device:
        """Of the parameters; the model's input belongs there."""
        return next(iter(self.parameters.values())).device

    def output(self, x: Any, task: Tensor | None) -> Any:
        """The model's output for these rows."""
        return self.forward(self.model, x, task)

    def zeros(self, *shape: int) -> Tensor:
        """Zeros of the parameters' type, on their device."""
        return next(iter(self.parameters.values())).new_zeros(shape)

    def place(self, batch: Any) -> Any:
        """The batch on the model's device, apart from any computation it came from."""
        device = self.device

        def move(values: Tensor) -> Tensor:
            if values.is_inference():
                values = values.clone()  # autograd refuses to save what is not
            return values.detach().to(device)

        return apply(batch, move)


def problem_of(
    model: nn.Module, forward: Forward = forward_rows, parameters: Parameters = "all"
) -> Problem:
    """The problem of these parameters; those that are frozen are left out.

    :param parameters: ``"all"``, ``"last"`` or names of parameters of the model.
    :raises ValueError: for names that are no parameters, or if none is trainable.
    """
    named = dict(model.named_parameters())
    if isinstance(parameters, str):
        if parameters not in ("all", "last"):
            raise ValueError(
                f"parameters={parameters!r}; it must be 'all', 'last' or a list of "
                "names of parameters"
            )
        asked = named
    else:
        unknown = sorted(set(parameters) - set(named))
        if unknown:
            raise ValueError(
                f"{unknown} are not parameters of {type(model).__name__}; its names "
                "are those of model.named_parameters()"
            )
        asked = {name: named[name] for name in named if name in set(parameters)}
    trainable = {name: p for name, p in asked.items() if p.requires_grad}
    if not trainable:
        raise ValueError(
            f"none of the {len(asked)} parameters asked for is trainable: set "
            "requires_grad, or ask for others"
        )
    shapes = tuple((name, p.shape, p.requires_grad) for name, p in named.items())
    return Problem(model, forward, trainable, parameters == "last", shapes)


@contextmanager
def differentiable(problem: Problem) -> Iterator[None]:
    """:func:`~avalanche_ext.undisturbed.undisturbed`, but with gradients on.

    Without evaluation mode, in which batch norm uses its running statistics and dropout
    is off, the gradient of one row is not defined.
    """
    with undisturbed(problem.model), torch.enable_grad():
        yield
