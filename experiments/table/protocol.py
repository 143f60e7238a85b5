"""A published table: how each of its cells is run, and what was published of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from experiments.errors import unknown
from experiments.methods import METHODS

CERTAINTIES = {
    "repo": "read in the authors' or the framework's own repository",
    "copy": "read in a transcription of the paper's table",
    "recalled": "not checked against the source",
}
METRICS = {
    "average_accuracy": "accuracy",
    "average_accuracy_task_known": "task known",
    "backward_transfer": "backward transfer",
}
"""Fields of a result that a table may give; more is better in each."""

TO_COME = (
    *("gem", "agem", "der", "derpp", "gss"),
    *("mir", "mer", "meta", "la-maml", "c-maml"),
)
"""Methods that a protocol may name before there is one."""


@dataclass(frozen=True)
class Published:
    """A figure of a paper, in %.

    :param spread: its ±, None where none is known.
    :param is_sem: whether that is a standard error instead of a standard deviation.
    :param seeds: how many runs it is of, None where that is not known.
    :param certainty: of the mean, one of ``CERTAINTIES``.
    :param spread_certainty: of the ±.
    """

    mean: float
    spread: float | None
    is_sem: bool
    seeds: int | None
    source: str
    certainty: str
    spread_certainty: str

    @property
    def standard_error(self) -> float | None:
        """Of the mean; None where it is not known."""
        if self.spread is None or self.is_sem:
            return self.spread
        return self.spread / math.sqrt(self.seeds) if self.seeds else None


@dataclass(frozen=True)
class Cell:
    """A row of a table: one configuration, and what was published of it.

    :param method: ours; None where we have no such thing.
    :param options: options of a run, those of the whole table included.
    :param settings: the method's own options.
    :param seeds: how many seeds of ours decide.
    :param published: by metric.
    :param strength: strengths as published, where ``settings`` hold them converted.
    :param counted: whether it is a row of the published table; if not, its figures are
        shown beside those of such a row, and left out of the conclusion.
    """

    name: str
    label: str
    method: str | None
    options: dict[str, Any]
    settings: dict[str, Any]
    seeds: int
    published: dict[str, Published]
    strength: dict[str, Any]
    note: str
    counted: bool

    @property
    def implemented(self) -> bool:
        """Whether there is the method."""
        return self.method in METHODS


@dataclass(frozen=True)
class Protocol:
    """A table; see :func:`experiments.table.reading.read`."""

    name: str
    title: str
    setting: str
    note: str
    cells: dict[str, Cell]

    @property
    def sources(self) -> list[str]:
        """Where its figures are from."""
        found = [p.source for c in self.cells.values() for p in c.published.values()]
        return list(dict.fromkeys(found))

    def chosen(self, names: Iterable[str]) -> list[Cell]:
        """Cells by name, in the table's order; all of them where none is named.

        :raises UserError: for a name that is not a cell of this table.
        """
        wanted = list(names) or list(self.cells)
        for name in wanted:
            if name not in self.cells:
                raise unknown(f"cell of {self.name}", name, self.cells)
        return [cell for name, cell in self.cells.items() if name in wanted]
