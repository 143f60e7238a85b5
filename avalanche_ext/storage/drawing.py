"""What a memory replays: draws of its rows, each of them counted."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avalanche_ext.storage.draws import Draws
from avalanche_ext.storage.effective import SampleSizeWatch, Weighted, effective_size
from avalanche_ext.storage.known import known_scores
from avalanche_ext.storage.sampling import Sampling
from avalanche_ext.storage.scorer import Scorer
from avalanche_ext.storage.uniform import Draw, Uniform

_UNCOUNTED = 256  # draws that wait to be counted in the table


class Drawing:
    """Draws rows of a table by a sampling, and counts how often each was drawn.

    :param scorer: of the rows.
    :param sampling: what to replay.
    :param seed: of the draws.
    """

    def __init__(self, scorer: Scorer, sampling: Sampling, seed: int) -> None:
        self.scorer, self.sampling = scorer, sampling
        self._scores = scorer.scores
        self._draws = Draws(seed)
        self._used: list[Tensor] = []  # draws not yet counted in the uses column
        self.watch = (
            SampleSizeWatch(sampling) if isinstance(sampling, Weighted) else None
        )
        """Tells a sampling that is almost uniform or almost greedy."""
        self.need(sampling)

    @property
    def generator(self) -> torch.Generator:
        """What all draws are made with."""
        return self._draws.generator

    def need(self, sampling: Sampling) -> None:
        """Keep what a sampling reads."""
        if sampling.reads == "scores":
            self._scores.use(sampling.name)
        elif sampling.reads == "features":
            self._scores.use(comparing=sampling.name)

    def draw(self, n: int, sampling: Sampling | None, full: bool) -> Draw:
        """Slots of ``n`` rows and their importance weights, counted as used.

        :param sampling: another than :attr:`sampling`, which scores were asked for.
        :param full: whether the number of rows will stay: uniform draws are then made
            many at a time.
        """
        sampling = sampling or self.sampling
        stored = len(self._scores.table)
        if isinstance(sampling, Uniform) or n >= stored:
            index = self._draws.uniform(stored, n, full=full)
            draw = Draw(index, torch.ones(len(index)))
        else:
            self.scorer.settle()
            read = self._read_by(sampling)
            draw = sampling.draw(n, read, self.generator)
            if self.watch is not None and sampling is self.sampling:
                self.watch.drawn(read)
        self._scores.counters.draws += 1
        self._used.append(draw.index)
        if len(self._used) > _UNCOUNTED:
            self.count_uses()
        return draw

    def _read_by(self, sampling: Sampling) -> Tensor:
        if sampling.reads == "features":
            assert self._scores.nearest is not None
            return self._scores.nearest.features
        return self.scores(sampling.name)

    def scores(self, name: str) -> Tensor:
        """Raw scores of each row by a criterion, or mixed, all of them known."""
        self._scores.use(name)
        self.scorer.settle()
        self.count_uses()
        return self._scores.of(name)

    def count_uses(self) -> None:
        """Bring the uses of all rows up to date."""
        if self._used:
            index = torch.cat(self._used)
            self._used.clear()
            table = self._scores.table
            if len(table):
                uses = table.column("uses")
                index = index.to(uses.device)
                uses.index_add_(0, index, torch.ones_like(index, dtype=uses.dtype))

    @property
    def effective_sample_size(self) -> float | None:
        """How many rows :attr:`sampling` really chooses from, by the scores known now;
        ``None`` where there are no probabilities, or no scores."""
        stored, stale = len(self._scores.table), self._scores.stale
        if isinstance(self.sampling, Uniform):
            return float(stored)
        if self.watch is None or (stored and stale.all()):
            return None
        self.count_uses()
        scores = known_scores(self._scores, self.sampling.name)[self.sampling.name]
        return effective_size(self.watch.sampling.probabilities(scores))

    def state_dict(self) -> dict[str, Any]:
        """The generator's state and the draws made ahead."""
        return self._draws.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict``, or one that holds its entries among others."""
        self._draws.load_state_dict(state)
        self._used = []
