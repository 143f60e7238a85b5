"""Random draws of rows, many at a time where that is possible."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avalanche_ext.storage.uniform import uniform

_AT_A_TIME = 128


class Draws:
    """The draws of one memory, from a generator of their own.

    >>> Draws(seed=0).uniform(stored=2, size=5).tolist()
    [0, 1]
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        """What all draws are made with."""
        self._ahead: list[Tensor] = []  # draws not handed out yet, the next one last
        self._ahead_of = (0, 0)  # (rows stored, rows a draw) that they were made for

    def uniform(self, stored: int, size: int, *, full: bool = False) -> Tensor:
        """``size`` of ``stored`` rows without replacement, or all of them in order.

        :param full: whether the number of rows will stay, so that it pays to make
            draws ahead.
        """
        if size >= stored:
            return torch.arange(stored)
        if self._ahead_of != (stored, size) or not self._ahead:
            draws = _AT_A_TIME if full else 1
            self._ahead = list(uniform(stored, size, self.generator, draws).unbind())
            self._ahead.reverse()
            self._ahead_of = (stored, size)
        return self._ahead.pop()

    def state_dict(self) -> dict[str, Any]:
        """The generator's state and the draws made ahead."""
        return {
            "drawing": self.generator.get_state(),
            "ahead": torch.stack(self._ahead) if self._ahead else torch.zeros(0, 0),
            "ahead_of": list(self._ahead_of),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict``, or one that holds its entries among others."""
        self.generator.set_state(state["drawing"])
        self._ahead = list(state["ahead"].unbind()) if len(state["ahead"]) else []
        self._ahead_of = tuple(state["ahead_of"])
