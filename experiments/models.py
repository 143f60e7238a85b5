"""The models by name; the networks themselves are in ``networks.py``."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Task(NamedTuple):
    """What a model must fit.

    :param shape: shape of one input.
    :param outputs: outputs of a head.
    :param heads: heads, one a task; 0 for a single head without task labels.
    """

    shape: tuple[int, ...]
    outputs: int
    heads: int


def mlp(task: Task, hidden: Sequence[int], init: str) -> Any:
    """Fully connected layers with ReLU, of the sizes given by --hidden."""
    from experiments import networks

    model: Any
    if task.heads:
        model = networks.MultiHeadMLP(task.shape, hidden, task.outputs, task.heads)
    else:
        model = networks.MLP(task.shape, hidden, task.outputs)
    if init == "xavier":
        networks.xavier(model)
    return model


MODELS: dict[str, Callable[..., Any]] = {"mlp": mlp}
"""Name → function of (task, hidden, init)."""

INITS = ("xavier", "default")
"""Xavier-uniform weights with zero biases, or PyTorch's own."""


def summary(model: str) -> str:
    """The first line of a model's text."""
    return (MODELS[model].__doc__ or "").splitlines()[0].rstrip(".")
