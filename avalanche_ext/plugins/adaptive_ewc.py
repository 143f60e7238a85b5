"""Elastic weight consolidation with a Fisher information that is what it says."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avalanche_ext.arguments import check_choice, is_number, whole_number
from avalanche_ext.gradients import Criterion, FisherLabels, fisher_of_batches
from avalanche_ext.gradients.problem import takes_task_labels
from avalanche_ext.gradients.stream import Batch
from avalanche_ext.parameters import Patterns
from avalanche_ext.penalty import mean_above_zero
from avalanche_ext.plugins.boundaries import Boundary
from avalanche_ext.plugins.descent import Descent, Steepness
from avalanche_ext.plugins.divergence import check_fisher
from avalanche_ext.plugins.experience_rows import (
    StepRows,
    evaluation_batches,
    given_batches,
)
from avalanche_ext.plugins.importance import ImportancePlugin
from avalanche_ext.plugins.memory_loss import own_criterion
from avalanche_ext.settings import settings_of
from avalanche_ext.storage.items import has_task_items
from avalanche_ext.storage.seeds import given_or_derived
from avalanche_ext.threshold import ThresholdUnit, mass_lost_said, thresholded
from avalanche_ext.undisturbed import device_of, undisturbed

Accumulation = Literal["sum", "ema", "separate"]
"""How the Fisher informations of several experiences become one."""

_EMA = 0.95
_NO_CLASSES = ("MSE", "L1", "SmoothL1", "Huber", "BCE", "BCEWithLogits", "PoissonNLL")
_LOWERED = 10.0  # times what can be followed: more than the usual 1 was asked in vain
_LOST = 0.01  # of the Fisher information: what a threshold may take without a word


class AdaptiveEWCPlugin(ImportancePlugin):
    """Penalty ``λ/2 · Σ_i F_i (θ_i − θ*_i)²`` with the diagonal Fisher information ``F``.

    ``F_new`` is taken at the end of each experience: the mean over its rows of squared
    gradients of single rows (:func:`~avalanche_ext.gradients.diagonal_fisher`), of the
    model in evaluation mode on rows under their evaluation transforms. So ``λ`` means
    the same whatever the batch size. With ``accumulation``

    * ``"sum"``: ``F ← decay · F + F_new``, anchored at the last experience's end (online
      EWC; ``decay`` 1 unless given);
    * ``"ema"``: ``F ← decay · F + (1 − decay) · F_new``, the first one taken whole,
      anchored likewise (the running Fisher; ``decay`` 0.95 unless given);
    * ``"separate"``: ``Σ_k F_k (θ − θ_k)²``, an anchor for each experience, at the cost
      of one (:meth:`~avalanche_ext.penalty.QuadraticPenalty.fold`).

    In a loop of your own:

    >>> model = nn.Linear(4, 3)
    >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
    >>> ewc = AdaptiveEWCPlugin(10.0, seed=0)
    >>> for _ in range(2):  # experiences
    ...     batches = [(torch.randn(8, 4), torch.arange(8) % 3) for _ in range(5)]
    ...     for x, y in batches:
    ...         optimizer.zero_grad()
    ...         loss = F.cross_entropy(model(x), y) + ewc.penalty(model)
    ...         loss.backward()
    ...         optimizer.step()
    ...     ewc.update(model, batches)
    >>> ewc.health.consolidations
    2

    J. Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, PNAS
    2017; online EWC: J. Schwarz et al., Progress & compress, ICML 2018; one penalty for
    many: F. Huszár, Note on the quadratic penalties in elastic weight consolidation,
    PNAS 2018. Unlike these, no prior precision is added to ``F``.

    :param ewc_lambda: ``λ ≥ 0``; 0 is plain training, bit for bit.
    :param accumulation: see above.
    :param decay: from 0 to 1, for ``"sum"`` and ``"ema"``.
    :param threshold: entries of ``F_new`` below ``threshold`` times their mean are set
        to zero.
    :param threshold_unit: ``"absolute"`` sets those below ``threshold`` itself to zero.
    :param num_samples: rows of an experience that ``F_new`` is the mean of, drawn
        without replacement (:meth:`update` takes the first ones of the batches it is
        given); ``None`` for all.
    :param labels: ``"exact"`` is the expectation over all classes, ``"sampled"`` has one
        label a row, drawn from the model, ``"empirical"`` the rows' own under the
        strategy's criterion; ``"weighted"`` is for figures that were published with it,
        see :func:`~avalanche_ext.gradients.diagonal_fisher`.
    :param balance: ``True`` divides ``λ`` by the mean of ``F`` over its non-zero entries,
        ``"each"`` divides each ``F_new`` by its own, so that one ``λ`` serves other
        benchmarks, labels and widths: 1 is a good one. With either, ``λ`` is lowered
        where it is too much for gradient descent (``torch.optim.SGD``) at its learning
        rate ``η``: to ``1 / (η · max F)``, at which a step brings the most important
        entry back to its anchor; in a loop of your own where :meth:`penalty` is given
        the optimizer.
    :param include: patterns of names of the parameters that are held; ``None`` for all.
    :param exclude: patterns of names that are not. Frozen parameters never are.
    :param boundary: where an experience ends: ``"origin"``, ``"experience"`` or a number
        of iterations, see :data:`~avalanche_ext.plugins.boundaries.Boundary`. With a
        number ``F_new`` is of rows of these iterations, as they were trained on.
    :param seed: of rows and labels that are drawn; ``None`` derives one from torch's
        global generator.
    :raises ValueError: for values outside what is said here.
    """

    strength_name = "ewc_lambda"

    def __init__(
        self,
        ewc_lambda: float,
        *,
        accumulation: Accumulation = "sum",
        decay: float | None = None,
        threshold: float = 0.0,
        threshold_unit: ThresholdUnit = "mean",
        num_samples: int | None = 1000,
        labels: FisherLabels = "exact",
        balance: bool | Literal["each"] = False,
        include: Patterns | None = None,
        exclude: Patterns | None = None,
        boundary: Boundary = "origin",
        seed: int | None = None,
    ) -> None:
        told = settings_of(locals(), but=("seed",))
        super().__init__(include, exclude, boundary)
        self.ewc_lambda = _from_zero("ewc_lambda", ewc_lambda)
        check_choice("accumulation", accumulation, get_args(Accumulation))
        if decay is not None and accumulation == "separate":
            raise ValueError(
                f"decay={decay!r} with accumulation='separate', which weighs all "
                "experiences alike: leave it out, or use accumulation='sum' or 'ema'"
            )
        if decay is not None and not (is_number(decay) and 0 <= decay <= 1):
            raise ValueError(f"decay must be a number from 0 to 1, got {decay!r}")
        self.accumulation = accumulation
        self.decay = (
            (_EMA if accumulation == "ema" else 1.0) if decay is None else float(decay)
        )
        self._settings = {**told, "decay": self.decay, **self._shared_settings()}
        self.threshold = _from_zero("threshold", threshold)
        check_choice("threshold_unit", threshold_unit, get_args(ThresholdUnit))
        self.threshold_unit = threshold_unit
        if num_samples is not None:
            num_samples = whole_number("num_samples", num_samples, "rows", least=1)
        self.num_samples = num_samples
        check_choice("labels", labels, get_args(FisherLabels))
        self.labels = labels
        if balance != "each" and not isinstance(balance, bool):
            raise ValueError(f"balance must be True, False or 'each', got {balance!r}")
        self.balance = balance
        self.seed = 0 if self.is_off and seed is None else given_or_derived(seed)
        self._scale = 1.0  # what λ is divided by
        self._rows_taken = 0  # of the newest F
        self._descent = Descent()  # of Σ F (θ − θ*)²
        every = self.boundaries.every
        self._rows = None if every is None else StepRows(every, num_samples)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.ewc_lambda}, "
            f"accumulation={self.accumulation!r}, decay={self.decay}, "
            f"labels={self.labels!r}, num_samples={self.num_samples}, "
            f"balance={self.balance!r}, consolidations={self.consolidations})"
        )

    @property
    def is_off(self) -> bool:
        """Whether ``λ`` is 0."""
        return self.ewc_lambda == 0

    @property
    def strength(self) -> float:
        """``λ/2``, balanced where that was asked for."""
        found = self._descent.found
        if self.balance and found is not None and found.step:
            return min(self._asked, 1 / found.step)
        return self._asked

    @property
    def _asked(self) -> float:
        return self.ewc_lambda / 2 / self._scale

    def penalty(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
    ) -> Tensor:
        """``λ/2 · Σ_i F_i (θ_i − θ*_i)²``, to be added to the loss of a step, as is said
        at :meth:`~avalanche_ext.plugins.importance.ImportancePlugin.penalty`.

        :param optimizer: of the loop. It is read, not changed: with ``balance`` ``λ`` is
            lowered for it, and a fixed ``λ`` at which it would diverge is told.
        :raises ValueError: where what is kept is of another model.
        """
        if optimizer is not None:
            self._follow(optimizer, model)
        return super().penalty(model)

    def update(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        *,
        criterion: Criterion = F.cross_entropy,
    ) -> None:
        """Take the Fisher information at the end of an experience, and anchor there.

        :param batches: of the experience, ``[x, y, …]`` each, with task labels last for
            Avalanche's multi-task models; the first ``num_samples`` rows are used.
        :param criterion: of single rows, for empirical labels.
        :raises ValueError: without rows, for what are no such batches, where empirical
            labels have no targets, or for a Fisher information that is not finite.
        """
        given = given_batches(batches, takes_task_labels(model))
        self._take(model, given, criterion)

    def _take(
        self, model: nn.Module, batches: Iterable[Batch], criterion: Criterion
    ) -> None:
        if self.is_off:
            return
        parameters = self.selection.of(model)
        self.quadratic.check_model(model)
        self._experience_ends(parameters)
        generator = torch.Generator(next(iter(parameters.values())).device)
        generator.manual_seed((self.seed + self.consolidations) % 2**63)
        with undisturbed(model):  # also a transform may draw numbers
            fisher, self._rows_taken = fisher_of_batches(
                model,
                batches,
                labels=self.labels,
                criterion=criterion,
                most=self.num_samples,
                generator=generator,
                parameters=list(parameters),
            )
        check_fisher(fisher)
        fisher = self._above_threshold(fisher)
        if self.balance == "each":
            mean = mean_above_zero(fisher) or 1.0
            fisher = {name: values / mean for name, values in fisher.items()}
        if self.accumulation == "separate":
            self.quadratic.fold(parameters, fisher)
        elif self.accumulation == "sum":
            self.quadratic.accumulate(parameters, fisher, keep=self.decay)
        else:
            weight = 1 - self.decay if self.consolidations else 1.0
            self.quadratic.accumulate(
                parameters, fisher, keep=self.decay, weight=weight
            )
        if self.balance is True:
            self._scale = self.quadratic.mean_importance() or 1.0
        self._descent.renew(self.quadratic.largest_curvatures())
        self._experience_ended()

    def _above_threshold(self, fisher: dict[str, Tensor]) -> dict[str, Tensor]:
        kept, lost = thresholded(fisher, self.threshold, self.threshold_unit)
        self._mass_lost = lost
        if lost == 1:
            self._told.add("zero")  # which this is the cause of
        if lost > _LOST:
            said = f"threshold={self.threshold:g} ({self.threshold_unit})"
            what = "silenced" if lost == 1 else "lost"
            self._tell(what, f"{said} {mass_lost_said(fisher, lost)}")
        return kept

    # In Avalanche

    def before_training(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse labels of classes where the loss is not one of classes."""
        super().before_training(strategy, *args, **kwargs)
        name = type(own_criterion(strategy)).__name__
        if self.labels != "empirical" and name in {f"{n}Loss" for n in _NO_CLASSES}:
            raise ValueError(
                f"labels={self.labels!r} are classes by the softmax of the model's "
                f"output, and the criterion is {name}: use labels='empirical'"
            )

    def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Add the penalty to the loss, as strong as the optimizer can follow."""
        self._follow(strategy.optimizer, strategy.model)
        super().before_backward(strategy, *args, **kwargs)

    def _follow(self, optimizer: Any, model: nn.Module) -> None:
        """See whether the optimizer can follow the penalty, when one of them has changed."""
        if self.is_off or not self._descent.is_due(optimizer):
            return
        found = self._descent.look(optimizer, self.selection.of(model))
        if found is None:
            return
        step, danger = self._asked * found.step, self._asked * found.danger
        if self.balance and self.ewc_lambda > 1 and step > _LOWERED:
            self._tell(
                "lowered",
                f"ewc_lambda={self.ewc_lambda:g} is lowered to {self.ewc_lambda / step:.2g} "
                "or less, which is all that gradient descent at this learning rate can "
                "follow: larger ones change nothing; lower the learning rate for more",
            )
        elif not self.balance and danger > 1:
            self._tell(
                "unstable",
                f"ewc_lambda={self.ewc_lambda:g} is too much for gradient descent at this "
                f"learning rate: {danger:.1f} times what diverges. Use "
                f"{self.ewc_lambda / step:.2g} or less, balance=True, which sees to it, "
                "or Adam",
            )

    def before_training_iteration(
        self, strategy: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep rows where so many iterations are an experience."""
        if self._rows is not None and not self.is_off:
            self._rows.offer(self.boundaries.position, strategy.mbatch)

    def _consolidate(self, strategy: Any, experience: Any) -> None:
        criterion = own_criterion(strategy)
        batches: Iterable[Batch]
        if experience is None:
            assert self._rows is not None
            batches = self._rows.taken(has_task_items(strategy.experience.dataset))
        else:
            seed = (self.seed + 7919 * self.consolidations) % 2**63
            batches = evaluation_batches(
                experience.dataset,
                self.num_samples,
                torch.Generator().manual_seed(seed),
                device_of(strategy.model),
            )
        self._take(strategy.model, batches, criterion)

    def _why_zero(self) -> str:
        more = "" if self.labels == "exact" else ", or use labels='exact'"
        return (
            f"the Fisher information ({self.labels} labels, {self._rows_taken} rows) is "
            f"zero for all parameters, so that {type(self).__name__} has no effect: the "
            "model is so sure of its outputs that no gradient is left, or has one output "
            "alone, of which the softmax is always 1. Train for less long or with weight "
            f"decay{more}; for a loss that is not one of classes use labels='empirical', "
            "and in a loop of your own update(..., criterion=...)"
        )

    def _strength_said(self) -> str:
        return f"{self.ewc_lambda:g}"

    def _lower(self) -> str:
        if not self.balance or self._descent.asked:
            return super()._lower()
        return (
            f"{super()._lower()}; penalty(model, optimizer) lowers it to what gradient "
            "descent can follow"
        )

    def _remedy(self) -> str:
        if self.balance is False:
            return "raise it, by powers of ten, or use balance=True"
        return "raise it, by powers of ten"

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that training goes on bit for bit."""
        steep = self._descent.found
        return {
            **super().state_dict(),
            "accumulation": self.accumulation,
            "balance": self.balance,
            "scale": self._scale,
            "steepness": None if steep is None else list(steep),
            "seed": self.seed,
            "rows": [] if self._rows is None else self._rows.batches,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        :raises ValueError: for the state of something else, or one that was accumulated
            or balanced in another way.
        """
        super().load_state_dict(state)
        self._scale, self.seed = float(state["scale"]), int(state["seed"])
        self._descent.renew(self.quadratic.largest_curvatures())
        steep = state["steepness"]
        self._descent.found = None if steep is None else Steepness(*steep)
        if self._rows is not None:
            self._rows.batches = [list(batch) for batch in state["rows"]]

    def _check_state(self, state: Any) -> None:
        super()._check_state(state)
        for name in ("accumulation", "balance"):
            if state[name] != getattr(self, name):
                raise ValueError(
                    f"the state has {name}={state[name]!r}, this plugin "
                    f"{getattr(self, name)!r}: make it with the same"
                )


def _from_zero(name: str, value: Any) -> float:
    if not is_number(value) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number of 0 or more, got {value!r}")
    return float(value)
