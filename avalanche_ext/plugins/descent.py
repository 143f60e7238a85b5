"""What gradient descent makes of a penalty that is too steep for its learning rate."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn
from torch.optim import SGD


class Steepness(NamedTuple):
    """Of a quadratic penalty, under gradient descent."""

    step: float
    """The part of the way to its anchor that a step brings the entry that goes farthest:
    its learning rate times its curvature."""
    danger: float
    """The same, as a share of that at which it would diverge: each step goes to the other
    side of the minimum, and farther out."""


class Descent:
    """The steepness of one penalty for an optimizer, found anew when either changes."""

    def __init__(self) -> None:
        self.found: Steepness | None = None
        """At the last learning rates above 0; ``None`` where none was asked for, or of an
        optimizer that scales gradients by itself."""
        self.asked = False
        """Whether an optimizer was ever seen."""
        self._curvature: dict[str, float] = {}
        self._rates: Any = None  # for which it was found

    def renew(self, curvature: Mapping[str, float]) -> None:
        """The penalty has changed.

        :param curvature: by name, the largest among the parameter's entries.
        """
        self._curvature, self._rates = dict(curvature), None

    def is_due(self, optimizer: Any) -> bool:
        """Whether the penalty or a learning rate has changed since the last look; notes
        that there is an optimizer."""
        self.asked = True
        return bool(self._curvature) and self._rates != _rates(optimizer)

    def look(
        self, optimizer: Any, parameters: Mapping[str, nn.Parameter]
    ) -> Steepness | None:
        """See how steep it is now; ``None`` as from :func:`steepness`."""
        self._rates = _rates(optimizer)
        known = {n: c for n, c in self._curvature.items() if n in parameters}
        found = steepness(optimizer, parameters, known)
        if found is None or found.step:  # at a rate of 0 what was found before holds
            self.found = found
        return found


def _rates(optimizer: Any) -> list[tuple[float, Any]]:
    return [(float(g["lr"]), g.get("momentum")) for g in optimizer.param_groups]


def steepness(
    optimizer: Any,
    parameters: Mapping[str, nn.Parameter],
    curvature: Mapping[str, float],
) -> Steepness | None:
    """How steep a penalty is for an optimizer.

    A quadratic of curvature ``c`` is descended by steps of rate ``η`` while ``η c`` is below
    2, below ``2 (1 + β)`` with momentum ``β``, and ``2 (1 + β) / (1 + 2β)`` with Nesterov's.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> named = {"weight": layer.weight}
    >>> steepness(SGD(layer.parameters(), 0.1, momentum=0.5), named, {"weight": 15.0})
    Steepness(step=1.5, danger=0.5)

    :param optimizer: as it is now; each group has its own rate.
    :param parameters: by name; those of no group are not moved.
    :param curvature: by name, the largest ``c`` among the parameter's entries.
    :return: ``None`` of other optimizers, which scale gradients by themselves.
    """
    if not isinstance(optimizer, SGD):
        return None
    found = Steepness(0.0, 0.0)
    of = {id(parameters[name]): value for name, value in curvature.items()}
    for group in optimizer.param_groups:
        beta = float(group["momentum"])
        most = 2 * (1 + beta) / (1 + 2 * beta if group["nesterov"] else 1.0)
        largest = max((of.get(id(p), 0.0) for p in group["params"]), default=0.0)
        step = float(group["lr"]) * largest
        found = Steepness(max(found.step, step), max(found.danger, step / most))
    return found
