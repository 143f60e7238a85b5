"""Both importance regularisers, and a small network for a loop of one's own."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from avalanche_ext import AdaptiveEWCPlugin, SynapticIntelligencePlugin

X = torch.linspace(-1, 1, 48).view(8, 6).sin()
Y = torch.arange(8) % 2

MAKERS: dict[str, Callable[..., Any]] = {
    "ewc": lambda strength=1.0, **k: AdaptiveEWCPlugin(strength, **k),
    "si": lambda strength=1.0, **k: SynapticIntelligencePlugin(strength, **k),
}
both = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def network(outputs: int = 2) -> nn.Sequential:
    """For the rows of ``X``, the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.Linear(4, outputs))


def renew(plugin: Any, model: nn.Module) -> None:
    """The end of an experience."""
    if isinstance(plugin, AdaptiveEWCPlugin):
        plugin.update(model, [(X, Y)])
    else:
        plugin.update(model)
