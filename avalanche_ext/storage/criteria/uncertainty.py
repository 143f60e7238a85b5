"""A criterion from how unsure the model is of a row."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from avalanche_ext.arguments import whole_number
from avalanche_ext.storage.criteria.context import ScoredRows, ScoringContext, task_of
from avalanche_ext.storage.criteria.dropout import dropout_outputs, has_dropout


def class_probabilities(outputs: Tensor) -> Tensor:
    """``softmax`` over the second dimension of logits, shape ``(n, classes, …)``.

    Heads that a model has masked or padded count as it gives them, as in its loss.

    :raises ValueError: for outputs without two classes or more.
    """
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"outputs of shape {tuple(outputs.shape)} are no logits of classes, shape "
            "(n, classes): give what makes probabilities of them, probabilities=…"
        )
    return outputs.softmax(1)


@dataclass
class UncertaintyCriterion:
    """The entropy of the mean prediction over passes with dropout, in nats.

    ``−Σ_c p̄_c ln p̄_c`` with ``p̄ = 1/K Σ_k softmax(f_k(x))`` over ``K`` passes that
    differ in what the dropout layers drop: 0 for a model that is sure, ``ln C`` for one
    that knows nothing of ``C`` classes. Outputs of several places (pixels, tokens) give
    the mean of their entropies. Everything but the dropout layers is in evaluation mode;
    batch norm uses its running statistics.

    All passes are one, over repeated rows (see
    :func:`~avalanche_ext.storage.criteria.dropout.dropout_outputs`), 1,024 repeated rows
    at a time. Random numbers are those of the context's generator: with one, torch's
    global state is left alone.

    With ``passes=0``, or a model without dropout, it is the entropy of the plain
    prediction, from one pass that other criteria share; :attr:`stochastic` tells.

    Y. Gal, Z. Ghahramani, Dropout as a Bayesian approximation, ICML 2016.

    >>> model = torch.nn.Linear(3, 4, bias=False)
    >>> rows = {"x": torch.zeros(2, 3), "y": torch.zeros(2)}
    >>> criterion = UncertaintyCriterion(passes=0)
    >>> criterion.score(rows, ScoringContext(model=model))
    tensor([1.3863, 1.3863])

    :param passes: ``K``.
    :param probabilities: makes probabilities, shape ``(n, classes, …)``, of the model's
        outputs.
    :param name: what options, columns and errors call it.
    :raises ValueError: for a negative number of passes.
    """

    passes: int = 10
    name: str = "uncertainty"
    probabilities: Callable[[Tensor], Tensor] = class_probabilities
    reads: ClassVar[tuple[str, ...]] = ("outputs",)
    stochastic: bool | None = field(default=None, init=False, compare=False)
    """Whether the last scores came from passes that differ; ``None`` before any."""

    def __post_init__(self) -> None:
        self.passes = whole_number("passes", self.passes, "forward passes", least=0)

    def score(self, rows: ScoredRows, context: ScoringContext) -> Tensor:
        """See :class:`~avalanche_ext.storage.criteria.Criterion`.

        :raises ValueError: without a model, or for outputs that are no logits.
        """
        model = context.need_model(self.name)
        self.stochastic = bool(self.passes) and has_dropout(model)
        if not self.stochastic:
            return entropies(self.probabilities(context.outputs(rows)))
        outputs, self.stochastic = dropout_outputs(
            model,
            rows["x"],
            task_of(rows),
            passes=self.passes,
            seed=context.seed(),
            forward=context.call,
        )
        count, n = outputs.shape[:2]
        probabilities = self.probabilities(outputs.flatten(0, 1))
        return entropies(probabilities.view(count, n, *probabilities.shape[1:]).mean(0))


def entropies(probabilities: Tensor) -> Tensor:
    """``−Σ_c p_c ln p_c`` of each row in nats, the mean over further dimensions.

    >>> entropies(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([0.0000, 0.6931])

    :param probabilities: shape ``(n, classes, …)``.
    :return: shape ``(n,)``.
    """
    each: Tensor = torch.special.entr(probabilities).sum(1)
    return each if each.ndim == 1 else each.flatten(1).mean(1)
