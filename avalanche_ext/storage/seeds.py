"""Seeds, and where they come from when the caller gives none."""

from numbers import Integral
from typing import Any

import torch


def derived_seed() -> int:
    """A seed drawn from torch's global generator, so that its seed is enough."""
    return int(torch.randint(2**62, ()).item())


def given_or_derived(seed: Any) -> int:
    """The seed that was given, or :func:`derived_seed`.

    :param seed: what a generator of torch takes, or ``None``.
    :raises ValueError: for anything else.
    """
    if seed is None:
        return derived_seed()
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not whole or not -(2**63) <= seed < 2**64:
        raise ValueError(
            "seed must be a whole number from -2**63 to 2**64 - 1, or None for one from "
            f"torch's global generator, got {seed!r}"
        )
    return int(seed)
