"""Looking at a model without leaving a trace on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, full precision; all as before at the end.

    In evaluation mode a row's output depends on this row alone (batch norm on running
    statistics, dropout off) and no buffer changes. Each module's own ``training`` is
    restored, also after an error, and so are the global random states of the host and
    of the model's device, should the model draw numbers all the same.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    >>> _ = model[0].eval()
    >>> with undisturbed(model):
    ...     model.training, model(torch.ones(1, 2)).requires_grad
    (False, False)
    >>> model.training, model[0].training, model[1].training
    (True, False, True)
    """
    training = [module for module in model.modules() if module.training]
    device = device_of(model)
    states = _random_states(device)
    for module in training:
        module.training = False
    try:
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            yield
    finally:
        for module in training:
            module.training = True
        for source, state in states:
            source.set_rng_state(state)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter or buffer lives; the host without any."""
    return next(chain(model.parameters(), model.buffers(), [torch.zeros(0)])).device


def _random_states(device: torch.device) -> list[tuple[Any, Any]]:
    sources = [torch]
    if device.type != "cpu":
        sources.append(torch.get_device_module(device))
    return [(source, source.get_rng_state()) for source in sources]
