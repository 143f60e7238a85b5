"""Training that has diverged, found before importances are taken of it."""

from collections.abc import Mapping

from torch import Tensor


class TrainingDiverged(ValueError):
    """Parameters, or squares of their gradients, are not finite any more."""


def check_parameters(parameters: Mapping[str, Tensor], method: str, lower: str) -> None:
    """Refuse parameters that are no numbers, which no importance can be taken of.

    :param method: that takes importances.
    :param lower: what to lower, in words.
    :raises TrainingDiverged: naming the first one.
    """
    if name := _not_finite(parameters):
        raise TrainingDiverged(
            f"training has diverged: {name} is not finite, so that {method} cannot take "
            f"importances; lower {lower}"
        )


def check_fisher(fisher: Mapping[str, Tensor]) -> None:
    """Refuse a Fisher information that is not finite, of parameters that are.

    :raises TrainingDiverged: naming the first parameter.
    """
    if name := _not_finite(fisher):
        raise TrainingDiverged(
            f"the Fisher information of {name} is not finite, though the parameters are: "
            "see that the experience's rows are numbers, and that the loss has not grown "
            "so large that squares of its gradients overflow; nothing was taken over"
        )


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    for name, values in tensors.items():
        if not bool(values.detach().isfinite().all()):
            return name
    return None
