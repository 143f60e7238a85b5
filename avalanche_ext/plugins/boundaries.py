"""Where one experience ends and what it was, also on online streams."""

import warnings
from collections.abc import Mapping
from typing import Any, Literal

from avalanche.benchmarks import OnlineCLExperience

from avalanche_ext.arguments import whole_number

Boundary = Literal["origin", "experience"] | int
"""``"origin"``: the experience; on online streams the one that sub-experiences were
split from, which must be known (``access_task_boundaries=True``). ``"experience"``: each
experience that is trained on, also a sub-experience. A number: every so many training
iterations, whatever the experience."""


class Boundaries:
    """Says when an experience has ended, by a stated choice.

    :param boundary: the choice.
    :raises ValueError: for anything else.
    """

    def __init__(self, boundary: Boundary) -> None:
        if boundary not in ("origin", "experience"):
            if isinstance(boundary, str):
                raise ValueError(
                    f"boundary={boundary!r}: choose 'origin', 'experience', or a number "
                    "of training iterations"
                )
            boundary = whole_number("boundary", boundary, "iterations", least=1)
        self.boundary = boundary
        self._origin: Any = None  # whose sub-experiences are being trained on
        self._number: int | None = None  # its place in the stream
        self._parts = 0  # how many of them were
        self._steps = 0  # since the last boundary

    @property
    def every(self) -> int | None:
        """Iterations from one boundary to the next, where they are counted."""
        return self.boundary if isinstance(self.boundary, int) else None

    def begins(self, experience: Any) -> Any:
        """An experience begins.

        :return: the origin that has ended by this, unless :meth:`ends` said so before;
            ``None`` where there is none.
        :raises ValueError: where it is a part of one that is hidden.
        """
        if self.boundary != "origin":
            return None
        origin = None
        if isinstance(experience, OnlineCLExperience):
            if not experience.access_task_boundaries:
                raise ValueError(
                    "boundary='origin' needs to know which experience a sub-experience "
                    "is of, and this stream hides it: split it with "
                    "access_task_boundaries=True, or give boundary= a number of training "
                    "iterations"
                )
            origin = experience.origin_experience
        if origin is self._origin:
            return None
        number = getattr(origin, "current_experience", None)
        if self._origin is None and self._parts and number == self._number:
            self._origin = origin  # in a loaded state it was only known by its number
            return None
        if self._origin is None and self._parts:
            warnings.warn(
                f"the state was saved in the middle of experience {self._number}, and "
                f"training goes on with another, {number}: no importances are taken of "
                "that one; go on with the rest of it first",
                stacklevel=2,
            )
        left, self._origin, self._number = self._origin, origin, number
        ended, self._parts = left if self._parts else None, 0
        return ended

    def ends(self, experience: Any) -> Any:
        """An experience has been trained on.

        :return: what has ended by this, the experience or its origin; else ``None``.
        """
        if self.every is not None:
            return None
        if self.boundary == "experience" or self._origin is None:
            return experience
        self._parts += 1
        # Upstream marks no last one where the sizes divide evenly.
        last = self._parts == getattr(experience, "sub_stream_length", None)
        if not last and not getattr(experience, "is_last_subexp", False):
            return None
        ended, self._origin, self._parts = self._origin, None, 0
        return ended

    def step(self) -> bool:
        """A training iteration has ended.

        :return: whether so many have that this is a boundary.
        """
        if self.every is None:
            return False
        self._steps = (self._steps + 1) % self.every
        return self._steps == 0

    @property
    def position(self) -> int:
        """Iterations since the last boundary, where they are counted."""
        return self._steps

    def state_dict(self) -> dict[str, Any]:
        """Where training is between two boundaries."""
        return {"steps": self._steps, "parts": self._parts, "number": self._number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._origin, self._number = None, state["number"]
        self._steps, self._parts = int(state["steps"]), int(state["parts"])

    def __getstate__(self) -> dict[str, Any]:
        """Without an experience, which holds its data."""
        return {**self.__dict__, "_origin": None}
