"""What a criterion is, and what it may look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from avalanche_ext.features import outputs_and_features
from avalanche_ext.gradients import Criterion as Loss
from avalanche_ext.gradients import Forward, forward_rows, per_sample_losses
from avalanche_ext.storage.nearest import NearestDistance
from avalanche_ext.storage.rows import Rows, count
from avalanche_ext.storage.seeds import derived_seed
from avalanche_ext.storage.table import ExemplarTable

ScoredRows = Mapping[str, Rows]
"""Rows to score, by column, ``n`` rows each: ``"x"`` as the context's ``call`` takes it,
``"y"``, ``"task"`` where there are task labels, and the further columns or items that came
with them. ``"index"`` says at which slot of the memory each row is, −1 for none; without
it, no row is stored. ``"arrival"``, ``"uses"`` and ``"drawn"`` are there of rows that are
scored as they are stored, neither as they arrive nor in a training step: a criterion of
these is ``live``."""


class Criterion(Protocol):
    """Scores rows: the higher, the more a row is worth keeping and replaying.

    Any object with these two is one. Three more attributes may say what it is like:
    ``live = True``: it needs no model, only the columns ``"arrival"``, ``"uses"``,
    ``"drawn"``, ``"index"`` and the context, so that a memory evaluates it when asked
    instead of keeping its scores. ``compares_features = True``: it needs
    ``context.stored``. ``reads``: the quantities that it asks :meth:`ScoringContext.know`
    for, by default ``("outputs", "losses")``, which a training step then notes.
    ``remembers``: see :class:`Remembering`.

    A criterion that prefers rows the model gets wrong:

    >>> class Mistakes:
    ...     name = "mistakes"
    ...
    ...     def score(self, rows, context):
    ...         predicted = context.outputs(rows).argmax(1)
    ...         return (predicted != rows["y"]).float()
    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = nn.init.eye_(model.weight)
    >>> rows = {"x": torch.eye(2), "y": torch.tensor([0, 0])}
    >>> Mistakes().score(rows, ScoringContext(model=model))
    tensor([0., 1.])
    """

    @property
    def name(self) -> str:
        """What options, columns and errors call it."""

    def score(self, rows: ScoredRows, context: "ScoringContext") -> Tensor:
        """One number a row, shape ``(n,)``, on any device; NaN is refused where scores
        are used, ±∞ comes first or last.

        It may be of any scale: scores are normalised over the rows at hand before they
        are combined or drawn from. The model must be left as it was.
        """


def check_criterion(criterion: Any) -> None:
    """Refuse what is no criterion.

    :raises TypeError: saying what it needs.
    """
    if isinstance(criterion, type):
        name = criterion.__name__
        raise TypeError(f"{name} is a class, no criterion: give {name}()")
    if not isinstance(getattr(criterion, "name", None), str) or not callable(
        getattr(criterion, "score", None)
    ):
        raise TypeError(
            f"{criterion!r} is no criterion: it needs a name and a method "
            "score(rows, context)"
        )


class Remembering(Criterion, Protocol):
    """A criterion that needs to know of a row what it has seen of it before."""

    @property
    def remembers(self) -> str:
        """The column of the memory that keeps it."""

    def remember(self, rows: ScoredRows, context: "ScoringContext") -> Tensor:
        """What to keep from now on, one number a row, shape ``(n,)``.

        It is asked whenever rows are scored; they come with what was kept before in that
        column, NaN where nothing was.
        """


@dataclass
class ScoringContext:
    """What criteria score rows with. What a criterion needs and is not there, is an
    error that names it.

    Passes over the rows last asked about are remembered, so that criteria that are
    combined share them; :meth:`know` adds what a training step found out anyway. So a
    context serves one state of the model: make a new one after each step.

    :param model: under which rows are scored.
    :param loss: the loss function, of ``torch.nn`` say.
    :param stored: features of the memory's rows and their distances.
    :param table: the memory's rows, with every column.
    :param incoming: the batch that arrives, by column.
    :param generator: of all that is random; on the host. ``None`` derives a seed from
        torch's global generator when a number is needed.
    :param seen: rows that the memory was offered so far.
    :param draws: draws that the memory made so far.
    :param layer: whose input features are, by name; ``None``: the last with parameters.
    :param call: how the model is called with rows and their task labels. Where rows are
        stored from before a batch transform, it applies that first, so that no more of
        them are transformed at a time than a pass takes.
    :param asking: the criterion that asks, by name, for errors.
    """

    model: nn.Module | None = None
    loss: Loss | None = None
    stored: NearestDistance | None = None
    table: ExemplarTable | None = None
    incoming: ScoredRows | None = None
    generator: Generator | None = None
    seen: int = 0
    draws: int = 0
    layer: str | None = None
    call: Forward = forward_rows
    asking: str | None = None
    _rows: ScoredRows | None = field(default=None, init=False, repr=False)
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def forward(self, x: Any, task: Tensor | None = None) -> Any:
        """The model's output, in the mode that the model is in."""
        return self.call(self.need_model(self.asking or "forward"), x, task)

    # Quantities of rows

    def outputs(self, rows: ScoredRows) -> Any:
        """The model's output for each row, in evaluation mode, without gradients."""
        self._pass(rows, "outputs")
        return self._known["outputs"]

    def features(self, rows: ScoredRows) -> Tensor:
        """The :func:`~avalanche_ext.features.features` of each row, shape ``(n, d)``."""
        self._pass(rows, "features")
        found: Tensor = self._known["features"]
        return found

    def losses(self, rows: ScoredRows) -> Tensor:
        """The loss of each row, shape ``(n,)``, by the rule of
        :func:`~avalanche_ext.gradients.per_sample_losses`."""
        found: Tensor | None = self.known(rows, "losses")
        if found is None:
            loss = self.need_loss(self.asking or "losses")
            outputs = self.outputs(rows)
            with torch.no_grad():
                found = per_sample_losses(loss, outputs, _like(outputs, rows["y"]))
            self.know(rows, losses=found)
        return found

    def know(self, rows: ScoredRows, **quantities: Any) -> None:
        """Note what is known of ``rows``, so that no pass is made for it.

        :param quantities: ``outputs``, ``features``, ``losses``, ``gradient_norms``,
            ``last_gradient_norms``; ``n`` rows each. Those of a training step are of the
            mode that the model is trained in, with dropout and batch statistics.
        """
        if self._rows is not rows:
            self._rows, self._known = rows, {}
        self._known.update(quantities)

    def known(self, rows: ScoredRows, quantity: str) -> Any:
        """What is known of ``rows``, ``None`` if nothing is."""
        return self._known.get(quantity) if self._rows is rows else None

    # What criteria need

    def need_model(self, criterion: str) -> nn.Module:
        """The model.

        :raises ValueError: without one.
        """
        if self.model is None:
            raise ValueError(
                f"{criterion!r} needs a model, and there is none: give the model, "
                "model=…, or use criteria that do without"
            )
        return self.model

    def need_loss(self, criterion: str) -> Loss:
        """The loss function.

        :raises ValueError: without one.
        """
        if self.loss is None:
            raise ValueError(
                f"{criterion!r} needs the loss function, and there is none: give it, "
                "loss=torch.nn.CrossEntropyLoss() say"
            )
        return self.loss

    def need_stored(self, criterion: str) -> NearestDistance:
        """The stored rows' features.

        :raises ValueError: without them.
        """
        if self.stored is None:
            raise ValueError(
                f"{criterion!r} compares rows with the features stored, and there are "
                "none: give them, stored=NearestDistance()"
            )
        return self.stored

    def seed(self) -> int:
        """A seed for one score's random numbers."""
        if self.generator is None:
            return derived_seed()
        return int(torch.randint(2**62, (), generator=self.generator))

    def _pass(self, rows: ScoredRows, quantity: str) -> None:
        if self.known(rows, quantity) is not None:
            return
        outputs, features = outputs_and_features(
            self.need_model(self.asking or quantity),
            rows["x"],
            task_of(rows),
            layer=self.layer,
            forward=self.call,
        )
        self.know(rows)
        self._known.setdefault("outputs", outputs)  # what was told before stays
        self._known.setdefault("features", features)


def task_of(rows: ScoredRows) -> Tensor | None:
    """Task labels of the rows, where there are any."""
    task = rows.get("task")
    return task if isinstance(task, Tensor) else None


def stored_slots(rows: ScoredRows) -> Tensor:
    """The slot of each row in the memory, shape ``(n,)``, −1 for none."""
    index = rows.get("index")
    if isinstance(index, Tensor):
        return index
    return torch.full((count(rows["x"]),), -1)


def _like(outputs: Any, y: Any) -> Any:
    return y.to(outputs.device) if isinstance(outputs, Tensor) else y
