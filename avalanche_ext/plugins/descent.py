"""What gradient descent makes of a penalty that is too steep for its learning rate."""

from typing import Any

from torch.optim import SGD

UNSTABLE = 2.0
"""Learning rate times curvature above which plain gradient descent diverges: each step
goes to the other side of the minimum, and farther out."""


def descent_rate(optimizer: Any) -> float | None:
    """The largest learning rate of gradient descent, also with momentum; ``None`` of other
    optimizers, which scale gradients by themselves."""
    if not isinstance(optimizer, SGD):
        return None
    return max(float(group["lr"]) for group in optimizer.param_groups)
