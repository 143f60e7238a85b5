"""Seeds where the caller gives none."""

import torch


def derived_seed() -> int:
    """A seed drawn from torch's global generator, so that its seed is enough."""
    return int(torch.randint(2**62, ()).item())
