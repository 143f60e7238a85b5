"""What is known of rows by the criteria, and what a memory counts."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

STALE = -1
"""What column ``"scored"`` holds of a row whose scores are not known."""


class Scored(NamedTuple):
    """What is known of some rows."""

    columns: dict[str, Tensor]
    """Raw scores, and what criteria remember, by column, shape ``(n,)``."""
    features: Tensor | None
    """Shape ``(n, d)``, where they are kept."""

    def take(self, rows: Tensor | slice) -> "Scored":
        """What is known of some of the rows."""
        features = None if self.features is None else self.features[rows]
        return Scored({name: c[rows] for name, c in self.columns.items()}, features)


@dataclass
class Counters:
    """What a memory counts."""

    seen: int = 0
    """Rows offered so far."""
    draws: int = 0
    """Draws made so far."""


def column_of(name: str) -> str:
    """The column that holds a criterion's scores."""
    return f"score_{name}"
