"""The models by name; the networks themselves are in ``networks.py``."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from experiments.errors import UserError


class Task(NamedTuple):
    """What a model must fit.

    :param shape: shape of one input.
    :param outputs: outputs of a head.
    :param heads: heads, one a task; 0 for a single head without task labels.
    :param seen: whether only outputs of classes seen so far are active.
    """

    shape: tuple[int, ...]
    outputs: int
    heads: int
    seen: bool = False


def mlp(task: Task, hidden: Sequence[int], init: str) -> Any:
    """Fully connected layers with ReLU, of the sizes given by --hidden."""
    from experiments import networks

    return _with_head(networks.layers(task.shape, hidden), task, init)


def cnn(task: Task, hidden: Sequence[int], init: str) -> Any:
    """Two convolutions with max-pooling, then fully connected layers of --hidden."""
    from experiments import networks

    return _with_head(networks.convolutions(task.shape, hidden), task, init)


def resnet18(task: Task, hidden: Sequence[int], init: str) -> Any:
    """ResNet-18 with 20 base filters, for small images; no --hidden layers."""
    from experiments import networks

    return _with_head(networks.residual_blocks(task.shape), task, init)


MODELS: dict[str, Callable[..., Any]] = {"mlp": mlp, "cnn": cnn, "resnet18": resnet18}
"""Name → function of (task, hidden, init)."""

HIDDEN: dict[str, tuple[int, ...]] = {"mlp": (100, 100), "cnn": (100,), "resnet18": ()}
"""Name → widths of the hidden layers unless the user says otherwise."""

INITS = ("xavier", "xavier-zero-head", "truncated-normal", "default")
"""Of linear layers: Xavier-uniform weights with zero biases, the same with heads of
zeros, weights of sd 0.1 whatever the width with biases of 0.1, or PyTorch's own.
Convolutions and batch norm have PyTorch's own always."""


def default_init(model: str) -> str:
    """The initial weights unless the user says otherwise: those of the literature."""
    return "xavier" if model == "mlp" else "default"


def check_inputs(model: str, shape: Sequence[int]) -> None:
    """Refuse inputs that a model cannot take.

    :param shape: of one input.
    :raises UserError: for convolutions of what is no image, or too small a one.
    """
    if model == "mlp":
        return
    least = 4 if model == "cnn" else 1
    if len(shape) != 3 or min(shape[1:]) < least:
        size = f" of {least}×{least} or more" if least > 1 else ""
        raise UserError(
            f"--model {model} takes images{size} and the inputs have shape "
            f"{tuple(shape)}: use --model mlp"
        )


def summary(model: str) -> str:
    """The first line of a model's text."""
    return (MODELS[model].__doc__ or "").splitlines()[0].rstrip(".")


def _with_head(features: tuple[Any, int], task: Task, init: str) -> Any:
    from experiments import networks

    model: Any
    if task.heads:
        model = networks.MultiHead(*features, task.outputs, task.heads)
    else:
        model = networks.SingleHead(*features, task.outputs, task.seen)
    if init.startswith("xavier"):
        networks.xavier(model)
    if init == "xavier-zero-head":
        networks.zero(model.classifier)
    if init == "truncated-normal":
        networks.truncated_normal(model)
    return model
