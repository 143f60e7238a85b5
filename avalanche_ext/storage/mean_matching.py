"""Which row must leave so that the mean of the others stays nearest to a given one."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]


class MeanMatching:
    """Rows of a class of which one leaves, again and again, as further rows arrive.

    The class holds rows with sum ``S``, and ``T`` is the sum of the ``N`` rows of it that
    were offered so far. Of the rows ``x_j`` compared, that leaves which minimises
    ``‖S − x_j − k T/N‖²``, where ``k`` rows stay.

    With all vectors taken relative to one near the mean, ``c``, the norm is
    ``‖x_j‖² − 2 x_j·(S − k T/N)`` up to a constant, and ``S`` and ``T`` change by rows
    that are here. So one matrix product of the rows with those that arrive, ``S`` and
    ``T`` tells all, and one more for each row that leaves. In float32: without ``c``, rows
    far from zero would lose the distances that decide. In numpy, whose calls cost less
    than what they do here.

    :param x: rows that may leave, shape ``(k, d)``.
    :param others: ``c``, rows of the class in the order in which they will arrive, then
        ``S − rows · c`` and ``T − N c``, shape ``(m + 3, d)``. Both arrays are used up.
    :param rows: of the class.
    :param seen: ``N``.
    """

    def __init__(self, x: Array, others: Array, rows: int, seen: int) -> None:
        self._centre, others = others[0], others[1:]
        self._x, self._arriving = x, others[:-2]
        self._x -= self._centre
        self._arriving -= self._centre
        self._rows, self._seen = rows, seen
        self.stored = stored = len(x)
        """Number of rows that may leave, before those that arrive."""
        products = np.concatenate((x @ others.T, self._arriving @ others.T))
        self._arrivals = products[:, :-2]
        self._excess, self._offered = products[:, -2], products[:, -1]  # with S, T
        self._norms = np.concatenate(
            (np.vecdot(x, x), self._arrivals[stored:].diagonal())
        )
        self.present = stored
        """Number of rows of which one may leave now."""
        self._absent = np.zeros_like(self._norms)
        self._absent[stored:] = np.inf
        self._left: int | None = None  # the last row that left, still in S

    def arrive(self, number: int) -> None:
        """A row of those that arrive was offered: it counts in ``T`` and ``N``."""
        self._seen += 1
        self._offered += self._arrivals[:, number]

    def join(self, number: int) -> None:
        """It is one of the rows of the class now, compared at ``stored + number``."""
        self._rows += 1
        self.present += 1
        self._excess += self._arrivals[:, number]
        self._absent[self.stored + number] = 0

    def leave(self) -> int:
        """The place of the row that leaves; of equal ones the first."""
        if self._left is not None:
            self._excess -= self._products(self._left)
        self._rows -= 1
        self.present -= 1
        scores = self._offered * (self._rows / self._seen)
        scores -= self._excess
        scores *= 2
        scores += self._norms
        scores += self._absent
        self._left = place = int(scores.argmin())
        self._absent[place] = np.inf
        return place

    def row(self, place: int) -> npt.NDArray[np.float64]:
        """The row at a place."""
        if place < self.stored:
            near = self._x[place]
        else:
            near = self._arriving[place - self.stored]
        found: npt.NDArray[np.float64] = near.astype(np.float64) + self._centre
        return found

    def _products(self, place: int) -> Array:
        """Of all rows with that at a place, relative to ``c``."""
        products: Array
        if place >= self.stored:
            products = self._arrivals[:, place - self.stored]
        else:
            row = self._x[place]
            products = np.concatenate((self._x @ row, self._arriving @ row))
        return products
