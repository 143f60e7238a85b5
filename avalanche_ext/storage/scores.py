"""What the criteria say of each row of a memory, and the features they compare."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Generator, Tensor

from avalanche_ext.storage.criteria import (
    CRITERIA,
    Criterion,
    ScoringContext,
    WeightedCriterion,
    make_criteria,
)
from avalanche_ext.storage.criteria.context import Remembering, stored_slots
from avalanche_ext.storage.named import by_name, mixed_score, parts_used, priority_score
from avalanche_ext.storage.nearest import NearestDistance
from avalanche_ext.storage.normalise import checked_scores, normalise, weighted_mean
from avalanche_ext.storage.rows import Rows
from avalanche_ext.storage.sampling import Sampling, make_sampling
from avalanche_ext.storage.scored import STALE, Counters, Scored, column_of
from avalanche_ext.storage.table import ExemplarTable

_NOTHING = ScoringContext()


class Scores:
    """Scores of the rows of a table, by criterion.

    Criteria that need a model are columns of the table, ``score_<name>``, as they were
    when the row was scored last; column ``"scored"`` holds how many rows the memory had
    seen then, −1 where scores are not known. Criteria with an attribute ``live``, which
    read what is stored (age, access, diversity), are evaluated when asked for. Nothing is
    scored, and no column kept, before :meth:`use` says that a criterion is needed.

    :param table: of the rows.
    :param criteria: of the mixed score, by name or as objects; ``None``: forgetting.
    :param weights: of the mixed score, by criterion's name; 1 where none is given.
    :param counters: of the memory.
    :param seed: of criteria that are random.
    :raises ValueError: for unknown or equal names, or weights refused by
        :func:`~avalanche_ext.storage.normalise.check_weights`.
    :raises TypeError: for what is no criterion.
    """

    def __init__(
        self,
        table: ExemplarTable,
        criteria: Sequence[str | Criterion] | None,
        weights: Mapping[str, float] | None = None,
        *,
        counters: Counters,
        seed: int,
    ) -> None:
        self.table = table
        self.counters = counters
        self.mixed = mixed_score(criteria, weights)
        self._priority = priority_score(criteria)
        self.nearest: NearestDistance | None = None
        """Features of the rows, where a criterion or a sampling compares them."""
        self._comparing = "features"  # who needs them first, for errors
        self.generator = Generator().manual_seed(seed)
        self._known = by_name(self.mixed)
        self._kept: dict[str, Criterion] = {}  # as columns
        self.any_stale = False
        """Whether there are rows whose scores are not known."""

    @property
    def names(self) -> tuple[str, ...]:
        """Scores that can be asked for."""
        return (*dict.fromkeys((*self._known, *CRITERIA)),)

    def sampling(
        self, sampling: str | Sampling, temperature: float | None = None
    ) -> Sampling:
        """:func:`~avalanche_ext.storage.sampling.make_sampling` of these scores."""
        return make_sampling(sampling, self.names, temperature, priority=self._priority)

    @property
    def active(self) -> bool:
        """Whether rows are scored, or their features kept."""
        return bool(self._kept) or self.nearest is not None

    @property
    def compares(self) -> bool:
        """Whether scores that are kept depend on the features of other rows."""
        kept = self._kept.values()
        return any(getattr(c, "compares_features", False) for c in kept)

    @property
    def facts(self) -> tuple[str, ...]:
        """Columns that the table has for scores."""
        return ("scored", *self._columns) if self.active else ()

    @property
    def reserved(self) -> set[str]:
        """Columns that the table has, or may have, besides those of scores."""
        known = (*self._known.values(), *make_criteria(CRITERIA))
        remembered = (getattr(criterion, "remembers", None) for criterion in known)
        return {"scored", *filter(None, remembered)}

    @property
    def _columns(self) -> list[str]:
        """Columns of what is known of rows."""
        remembered = [getattr(c, "remembers", None) for c in self._kept.values()]
        return [*map(column_of, self._kept), *filter(None, remembered)]

    @property
    def reads(self) -> frozenset[str]:
        """Quantities of a model's passes that the criteria kept read."""
        wanted = {"features"} if self.nearest is not None else set()
        for criterion in self._kept.values():
            wanted.update(getattr(criterion, "reads", ("outputs", "losses")))
        return frozenset(wanted)

    def use(self, *names: str, comparing: str = "") -> None:
        """From now on these scores are needed; rows that are there become stale.

        :param comparing: a sampling that needs features, by name.
        """
        before = self.facts, self.nearest is None
        for part in (p for name in names for p in parts_used(self._criterion(name))):
            if getattr(part, "compares_features", False):
                comparing = part.name
            if not getattr(part, "live", False):
                self._kept.setdefault(part.name, part)
        if comparing and self.nearest is None:
            self.nearest, self._comparing = NearestDistance(), comparing
        if (self.facts, self.nearest is None) != before and self.table.columns:
            self._forget_scores()

    # Scores of rows that are not stored, or stored anew

    def score(self, rows: dict[str, Rows], context: ScoringContext) -> Scored:
        """Score rows, and find their features, which are kept of rows with an index.

        :raises ValueError: for NaN scores, naming criterion and rows, or where a
            criterion needs what the context has not.
        """
        context.stored, context.generator = self.nearest, self.generator
        slots = stored_slots(rows)
        features = None
        if self.nearest is not None:
            features = self.features(rows, context)
            kept = slots >= 0
            if kept.any():
                self.place(slots[kept], features[kept.to(features.device)])
        columns = {}
        for name, criterion in self._kept.items():
            context.asking = name
            remembered = getattr(criterion, "remembers", None)
            if remembered is not None and remembered not in rows:
                rows[remembered] = self._remembered(remembered, slots)
            scores = criterion.score(rows, context)
            columns[column_of(name)] = checked_scores(scores, name, slots).float()
            if remembered is not None:
                kept_of = cast(Remembering, criterion).remember(rows, context)
                columns[remembered] = kept_of.float()
        return Scored(columns, features)

    def _remembered(self, column: str, slots: Tensor) -> Tensor:
        """What a criterion remembers of the rows at these slots, NaN at −1."""
        if column not in self.table.columns or not len(self.table):
            return torch.full((len(slots),), torch.nan, device=self.table.device)
        values = self.table.column(column)
        slots = slots.to(values.device)
        found: Tensor = values[slots.clamp(min=0)]
        return found.masked_fill_(slots < 0, torch.nan)

    def features(self, rows: Mapping[str, Rows], context: ScoringContext) -> Tensor:
        """The features of rows.

        :raises ValueError: without a model, naming who compares them.
        """
        context.asking = self._comparing
        return context.features(rows)

    def columns(self, n: int, scored: Scored | None) -> dict[str, Rows]:
        """Columns of ``n`` rows that are written; ``None``: their scores are stale."""
        if not self.active:
            return {}
        self.any_stale |= scored is None
        columns: dict[str, Rows] = {
            "scored": torch.full((n,), STALE if scored is None else self.counters.seen),
        }
        for name in self._columns:
            columns[name] = (
                torch.full((n,), torch.nan) if scored is None else scored.columns[name]
            )
        return columns

    def _forget_scores(self) -> None:
        """All rows are stale; what criteria remember of them stays."""
        there = set(self.table.columns) - {"scored"}
        columns = self.columns(len(self.table), None)
        self.table.recast({n: c for n, c in columns.items() if n not in there})

    def written(self, slots: Tensor, scored: Scored | None) -> None:
        """Rows were written at ``slots``; ``None``: their features are not known yet."""
        if self.nearest is None:
            return
        features = None if scored is None else scored.features
        if features is None:
            if not len(self.nearest):
                return  # all rows are stale
            width = self.nearest.features.shape[1]
            features = self.nearest.features.new_zeros(len(slots), width)
        self.place(slots, features)

    def place(self, slots: Tensor, features: Tensor) -> None:
        """Keep the features of the rows at ``slots``."""
        assert self.nearest is not None
        if len(self.nearest) < len(self.table) - len(slots):
            # Stale rows: these zeros are replaced before any are compared.
            missing = set(range(len(self.nearest), len(self.table)))
            behind = torch.tensor(sorted(missing - set(slots.tolist())))
            zeros = features.new_zeros(len(behind), features.shape[1])
            slots = torch.cat((slots, behind.to(slots)))
            features = torch.cat((features, zeros))
        self.nearest.write(slots, features)

    def removed(self, slots: list[int]) -> None:
        """Rows were removed from ``slots``, and the last ones moved into the holes."""
        if self.nearest is not None and len(self.nearest):
            self.nearest.remove(slots)

    def note(self, slots: Tensor, scored: Scored) -> None:
        """Take over new scores of the rows at ``slots``."""
        values = {name: scored.columns[name] for name in self._columns}
        values["scored"] = torch.full((len(slots),), self.counters.seen)
        self.table.set(slots, values)
        if self.any_stale:
            self.any_stale = bool(self.stale.any())

    @property
    def stale(self) -> Tensor:
        """Of each row: whether its scores are not known, shape ``(len(table),)``."""
        if not self.active or not len(self.table):
            return torch.zeros(len(self.table), dtype=torch.bool)
        unknown: Tensor = self.table.column("scored") == STALE
        return unknown

    # Scores of stored rows

    def of(self, name: str) -> Tensor:
        """Raw scores of each stored row by a criterion, shape ``(len(table),)``.

        Those of :attr:`mixed` and of other weighted criteria are on [0, 1].
        """
        return self.of_all([name])[0]

    def of_all(
        self,
        names: Sequence[str],
        incoming: Scored | None = None,
        n: int = 0,
        slots: Tensor | None = None,
    ) -> list[Tensor]:
        """Scores of each stored row, then of ``n`` that arrive, by each criterion.

        :param slots: of the rows stored that are asked about; ``None``: all.
        """
        found = [self._criterion(name) for name in names]
        live = (getattr(p, "live", False) for c in found for p in parts_used(c))
        if slots is not None:
            slots = slots.to(self.table.device)
        if self.nearest is None and not any(live):
            return [self._of(c, {}, _NOTHING, incoming, slots) for c in found]
        table, counters = self.table, self.counters
        new = torch.arange(n, device=table.device)
        rows: dict[str, Tensor] = {
            "arrival": counters.seen + 1 + new,
            "uses": torch.zeros_like(new),
            "drawn": torch.full_like(new, counters.draws),
            "index": torch.full_like(new, -1),
        }
        if len(table):
            index = torch.arange(len(table), device=table.device)
            stored = {"index": index if slots is None else slots}
            for name in ("arrival", "uses", "drawn"):
                stored[name] = _at(table.column(name), slots)
            rows = {name: torch.cat((stored[name], rows[name])) for name in rows}
        context = ScoringContext(
            stored=self.nearest,
            table=table,
            seen=counters.seen + n,
            draws=counters.draws,
        )
        if self.nearest is not None and incoming is not None:
            assert incoming.features is not None
            features = incoming.features
            if len(self.nearest):
                held = _at(self.nearest.features, slots)
                features = torch.cat((held, features.to(held)))
            context.know(rows, features=features)
        return [self._of(c, rows, context, incoming, slots) for c in found]

    def _of(
        self,
        criterion: Criterion,
        rows: Mapping[str, Rows],
        context: ScoringContext,
        incoming: Scored | None,
        slots: Tensor | None,
    ) -> Tensor:
        if isinstance(criterion, WeightedCriterion):
            used = {name: w for name, w in criterion.weights.items() if w}
            parts = {
                part.name: self._of(part, rows, context, incoming, slots)
                for part in criterion.criteria
                if part.name in used
            }
            if len(parts) == 1:
                ((name, scores),) = parts.items()
                return normalise(scores, name)
            return weighted_mean(parts, used)
        if criterion.name not in self._kept:
            return criterion.score(rows, context)
        stored: Tensor = torch.zeros(0)
        if len(self.table):
            stored = _at(self.table.column(column_of(criterion.name)), slots)
        if incoming is None:
            return stored
        arriving = incoming.columns[column_of(criterion.name)]
        return torch.cat((stored, arriving.to(stored)))

    def _criterion(self, name: str) -> Criterion:
        if name not in self._known:
            self._known[name] = make_criteria([name])[0]
        return self._known[name]

    # State

    def state_dict(self) -> dict[str, Any]:
        """What is kept beside the table's columns."""
        return {
            "kept": list(self._kept),
            "nearest": None if self.nearest is None else self.nearest.state_dict(),
            "scoring": self.generator.get_state(),
        }

    def check_state(self, state: Mapping[str, Any] | None) -> None:
        """Whether a ``state_dict`` can be loaded.

        :raises ValueError: for the state of a memory with other criteria.
        """
        unknown = sorted(set(() if state is None else state["kept"]) - set(self.names))
        if unknown:
            raise ValueError(
                f"the state has scores of {unknown}, criteria that this memory has not: "
                "make it with the same criteria"
            )

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Take over a ``state_dict``; the table's rows are loaded already.

        Rows of a state without the scores needed here (``None``: without any) are stale.
        """
        held = [] if state is None else state["kept"]
        needed, features = set(self._kept), self.nearest is not None
        self._kept |= {name: self._criterion(name) for name in held}
        nearest = None if state is None else state["nearest"]
        if state is not None:
            self.generator.set_state(state["scoring"])
        if features or nearest is not None:
            self.nearest = NearestDistance()
        if needed - set(held) or (features and nearest is None) or state is None:
            if self.active and self.table.columns:
                self._forget_scores()
            return
        if nearest is not None and self.nearest is not None:
            self.nearest.load_state_dict(nearest)
        self.any_stale = bool(self.stale.any())


def _at(column: Tensor, slots: Tensor | None) -> Tensor:
    return column if slots is None else column[slots]
