"""Which row must leave so that the mean of the others stays nearest to a given one."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array: TypeAlias = npt.NDArray[np.float32]


class MeanMatching:
    """Rows of a class of which one leaves, again and again, as further rows arrive.

    The class holds rows with sum ``S`` and ``T`` is the sum of the ``N`` rows of it that
    were offered so far. Of the rows ``x_j`` compared, that leaves which minimises
    ``‖S − x_j − k T/N‖²``, where ``k`` rows stay.

    With all vectors taken relative to one, ``c = T/N`` at the start, the norm is
    ``‖x_j‖² − 2 x_j·(S − k T/N)`` up to a constant, and ``S`` and ``T`` change by rows
    that are here. So one matrix product of the rows compared with ``S``, ``c`` and the
    rows that arrive, and one more for each row that leaves, tell all.

    :param x: rows that may leave, shape ``(k, d)``.
    :param arriving: rows of the class in the order in which they will arrive, shape
        ``(m, d)``.
    :param held: ``S``, shape ``(d,)``, float64.
    :param rows: number of rows in ``held``.
    :param offered: ``T``, shape ``(d,)``, float64.
    :param seen: ``N``.
    """

    def __init__(
        self,
        x: Tensor,
        arriving: Tensor,
        held: Tensor,
        rows: int,
        offered: Tensor,
        seen: int,
    ) -> None:
        centre = offered / max(1, seen)
        self._x = torch.cat((x, arriving)) if len(arriving) else x
        self._rows, self._seen = rows, seen
        self.stored = len(x)
        """Number of rows that may leave, before those that arrive."""
        excess = held - rows * centre
        others = torch.stack((centre, excess)).to(x)
        self._centre = others[0]
        products = _array(self._x @ torch.cat((others, arriving)).t())
        self._at_centre = products[:, 0]  # x·c
        self._middle = float(centre.square().sum())  # c·c
        norms = _array(self._x.square().sum(1))
        self._norms = norms - 2 * self._at_centre + self._middle
        self._excess = products[:, 1] - float(self._centre.dot(others[1]))  # x·S
        self._offered = np.zeros_like(self._excess)  # x·T
        at_centre = self._at_centre[self.stored :]
        self._arrivals = products[:, 2:] - self._at_centre[:, None] - at_centre
        self._arrivals += self._middle
        self._here = np.zeros(len(self._x), dtype=bool)
        self._here[: self.stored] = True

    def arrive(self, number: int) -> None:
        """A row of those that arrive was offered: it counts in ``T`` and ``N``."""
        self._seen += 1
        self._offered += self._arrivals[:, number]

    def join(self, number: int) -> None:
        """It is one of the rows of the class now, compared at ``stored + number``."""
        self._rows += 1
        self._excess += self._arrivals[:, number]
        self._here[self.stored + number] = True

    def leave(self) -> int:
        """The place of the row that leaves; of equal ones the first."""
        share = (self._rows - 1) / self._seen
        scores = self._norms - 2 * (self._excess - share * self._offered)
        scores[~self._here] = np.inf
        place = int(scores.argmin())
        self._rows -= 1
        self._here[place] = False
        self._excess -= self._products(place)
        return place

    def row(self, place: int) -> Tensor:
        """The row at a place."""
        return self._x[place]

    def _products(self, place: int) -> Array:
        """``x·x_place`` of all rows."""
        if place >= self.stored:
            column: Array = self._arrivals[:, place - self.stored]
            return column
        raw = _array(self._x @ self._x[place])
        products: Array = raw - self._at_centre - self._at_centre[place] + self._middle
        return products


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.cpu().numpy()
    return array
