"""Criteria from the loss of a row and from its gradient."""

import weakref
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from avalanche_ext.gradients import (
    Inspection,
    inspect_gradients,
    losses_and_gradient_norms,
)
from avalanche_ext.gradients.problem import problem_of
from avalanche_ext.storage.criteria.context import ScoredRows, ScoringContext, task_of
from avalanche_ext.storage.rows import count


@dataclass(frozen=True)
class LossCriterion:
    """The loss of each row, ``L(x_i, y_i)``: the supervised counterpart of a temporal
    difference error.

    The model is in evaluation mode; for the unit and for criteria with weights see
    :func:`~avalanche_ext.gradients.per_sample_losses`. Rows with wrong labels score high.

    T. Schaul et al., Prioritized experience replay, ICLR 2016.

    >>> import torch
    >>> rows = {"x": torch.zeros(2, 3), "y": torch.tensor([0, 1])}
    >>> model = nn.Linear(3, 4, bias=False)
    >>> context = ScoringContext(model=model, loss=nn.CrossEntropyLoss())
    >>> LossCriterion().score(rows, context)
    tensor([1.3863, 1.3863])

    :param name: what options, columns and errors call it.
    """

    name: str = "loss"
    reads: ClassVar[tuple[str, ...]] = ("losses",)

    def score(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """See :class:`~avalanche_ext.storage.criteria.Criterion`.

        :raises ValueError: without a model or a loss function.
        """
        if context.known(rows, "losses") is None:
            context.need_model(self.name)
            context.need_loss(self.name)
        return context.losses(rows)


@dataclass
class GradientCriterion:
    """The norm of each row's gradient, ``‖∇_θ L(x_i, y_i)‖₂``: how much the row would
    change the model.

    The model is in evaluation mode. It is inspected when it is first met and whenever it
    grows, which costs a few passes over a few rows.

    :param parameters: ``"all"``, or ``"last"``: those of the last layer with parameters
        alone, at little more than the cost of a forward pass.
    :param name: what options, columns and errors call it.

    A. Katharopoulos, F. Fleuret, Not all samples are created equal: deep learning with
    importance sampling, ICML 2018.

    >>> import torch
    >>> model = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> rows = {"x": torch.tensor([[3.0, 4.0], [0.0, 1.0]]), "y": torch.ones(2, 1)}
    >>> context = ScoringContext(model=model, loss=nn.MSELoss())
    >>> GradientCriterion().score(rows, context)
    tensor([10.,  2.])
    """

    parameters: Literal["all", "last"] = "all"
    name: str = "gradient"
    _inspected: tuple[weakref.ref[nn.Module], Inspection] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.parameters not in ("all", "last"):
            raise ValueError(
                f"parameters must be 'all' or 'last', got {self.parameters!r}"
            )

    @property
    def reads(self) -> tuple[str, ...]:
        """The quantity of the context that is this score."""
        return (
            "gradient_norms" if self.parameters == "all" else "last_gradient_norms",
        )

    def score(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """See :class:`~avalanche_ext.storage.criteria.Criterion`.

        :raises ValueError: without a model or a loss function, or if no parameter is
            trainable.
        """
        (quantity,) = self.reads
        known = context.known(rows, quantity)
        if known is not None:
            found: Tensor = known
            return found
        model, loss = context.need_model(self.name), context.need_loss(self.name)
        task = task_of(rows)
        losses, norms = losses_and_gradient_norms(
            model,
            loss,
            rows["x"],
            rows["y"],
            task,
            parameters=self.parameters,
            forward=context.call,
            inspection=self._inspection(model, rows["x"], task, context),
        )
        told = {"losses": losses} if context.known(rows, "losses") is None else {}
        context.know(rows, **{quantity: norms}, **told)
        return norms

    def _inspection(
        self, model: nn.Module, x: Any, task: Tensor | None, context: ScoringContext
    ) -> Inspection | None:
        if not count(x):
            return None
        if self._inspected is not None:
            met, inspection = self._inspected
            problem = problem_of(model, context.call, self.parameters)
            if met() is model and inspection.fits(problem):
                return inspection
        inspection = inspect_gradients(
            model, x, task, parameters=self.parameters, forward=context.call
        )
        self._inspected = (weakref.ref(model), inspection)
        return inspection

    def __getstate__(self) -> dict[str, Any]:
        """Without the inspection, which is of one model in one process."""
        return {**self.__dict__, "_inspected": None}
