"""What scores the rows of a memory: the model last met, and its loss function."""

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_ext.gradients import Criterion as Loss
from avalanche_ext.gradients import Forward, forward_rows
from avalanche_ext.storage.criteria import ScoringContext
from avalanche_ext.storage.rows import Rows
from avalanche_ext.storage.scored import Scored
from avalanche_ext.storage.scores import Scores

_ROWS = 1024  # read from the table at a time


class Scorer:
    """Scores rows under the model that was met last.

    It is remembered by a weak reference, so a memory keeps no model alive and saves
    none. Rows are scored in evaluation mode, and the model is left as it was.

    :param scores: where scores are kept.
    :param loss: that is always used; ``None``: that of the strategy met last, and
        cross-entropy outside strategies.
    :param layer: whose input features are; see :func:`~avalanche_ext.features.features`.
    :param call: how a model is called with stored rows.
    :raises TypeError: for a loss that cannot be called, or a layer that is no name.
    """

    def __init__(
        self,
        scores: Scores,
        *,
        loss: Loss | None = None,
        layer: str | None = None,
        call: Forward = forward_rows,
    ) -> None:
        if loss is not None and (not callable(loss) or isinstance(loss, type)):
            raise TypeError(
                f"loss must be a loss function, torch.nn.CrossEntropyLoss() say, got "
                f"{loss!r}"
            )
        if layer is not None and not isinstance(layer, str):
            raise TypeError(f"layer must be the name of one, or None, got {layer!r}")
        self.scores = scores
        self.loss = loss
        self.layer = layer
        self.call = call
        self._model: weakref.ref[nn.Module] | None = None
        self._met_loss: Loss | None = None

    def meet(self, model: nn.Module | None, loss: Loss | None = None) -> None:
        """From now on rows are scored with this model; ``None``: with the one before.

        :raises TypeError: for what is no module.
        """
        if model is not None and (self._model is None or self._model() is not model):
            if not isinstance(model, nn.Module):
                raise TypeError(
                    f"model must be a torch.nn.Module, got {type(model).__name__}"
                )
            self._model = weakref.ref(model)
        if loss is not None:
            self._met_loss = loss

    @property
    def has_model(self) -> bool:
        """Whether the model met last is still there."""
        return self._model is not None and self._model() is not None

    def context(self, call: Forward | None = None) -> ScoringContext:
        """A context for one state of the model.

        :param call: another way to call it, with rows of another form.
        """
        counters = self.scores.counters
        return ScoringContext(
            model=None if self._model is None else self._model(),
            loss=self.loss or self._met_loss or nn.CrossEntropyLoss(),
            table=self.scores.table,
            layer=self.layer,
            seen=counters.seen,
            draws=counters.draws,
            call=call or self.call,
        )

    def score(self, rows: dict[str, Rows]) -> Scored:
        """Score rows of the form that is stored.

        :raises ValueError: for NaN scores, or without a model where one is needed.
        """
        return self.scores.score(rows, self.context())

    def refresh(self, slots: Tensor | None = None) -> None:
        """Score stored rows anew; ``None``: all.

        :raises ValueError: for NaN scores, or without a model where one is needed.
        """
        table = self.scores.table
        if slots is None:
            slots = torch.arange(len(table))
        if not self.scores.active or not len(slots):
            return
        if self.scores.compares:
            self._find_features(slots)
        for some in torch.split(slots, _ROWS):
            self.scores.note(some, self.score({**table.gather(some), "index": some}))

    def _find_features(self, slots: Tensor) -> None:
        """Of all rows that are scored later than others, or stale and not scored now:
        every row is compared with all of them."""
        later = self.scores.stale
        later[slots] = len(slots) > _ROWS
        if not later.any():
            return
        for some in torch.split(later.nonzero()[:, 0], _ROWS):
            rows = self.scores.table.gather(some)
            self.scores.place(some, self.scores.features(rows, self.context()))

    def settle(self) -> None:
        """Score the rows whose scores are not known."""
        if self.scores.any_stale:
            self.refresh(self.scores.stale.nonzero()[:, 0])
            self.scores.any_stale = False  # the last of them may have left

    def __getstate__(self) -> dict[str, Any]:
        """Without the model and the loss of a strategy, which are met again."""
        return {**self.__dict__, "_model": None, "_met_loss": None}
