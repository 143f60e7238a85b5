"""What plugins have in common that hold important parameters near where they were."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any
from weakref import ReferenceType, ref

import torch
from avalanche.benchmarks import OnlineCLExperience
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor, nn

from avalanche_ext.parameters import ParameterSelection, Patterns, are_others
from avalanche_ext.penalty import QuadraticPenalty
from avalanche_ext.penalty_node import BackwardPass, Named
from avalanche_ext.plugins.boundaries import Boundaries, Boundary
from avalanche_ext.plugins.divergence import check_parameters
from avalanche_ext.plugins.penalty_health import PenaltyHealth, StepFigures
from avalanche_ext.settings import TellsSettings, settings_of

_OVERPOWERING = 1e3  # times the task's gradient: nothing else counts
_INERT = 1e-4  # of the task's gradient: no penalty so small changes what is learnt


class ImportancePlugin(SupervisedPlugin[Any], TellsSettings, ABC):
    """Adds a quadratic penalty to the loss and renews it where an experience ends.

    :param include: patterns of the parameters' names, see
        :class:`~avalanche_ext.parameters.ParameterSelection`.
    :param exclude: patterns of names that are left out.
    :param boundary: where an experience ends, see
        :data:`~avalanche_ext.plugins.boundaries.Boundary`.
    """

    strength_name: str
    """The argument that sets the strength, for messages."""

    def __init__(
        self, include: Patterns | None, exclude: Patterns | None, boundary: Boundary
    ) -> None:
        super().__init__()
        self.selection = ParameterSelection(include, exclude)
        self.quadratic = QuadraticPenalty()
        """Importances and anchors by name."""
        self.consolidations = 0
        """How many times importances were taken."""
        self.boundaries = Boundaries(boundary)
        self._figures = StepFigures()
        self._mass_lost: float | None = None
        self._calls = 0  # of before_backward in this experience
        self._used = False  # whether penalty() was called in it, to be trained with
        self._told: set[str] = set()
        self._checked: Any = None  # the selection that fits what is kept
        self._trained: Named | None = None  # the parameters that were last
        self._trainer: ReferenceType[Any] | None = None  # who trained with this last

    def _shared_settings(self) -> dict[str, Any]:
        """The settings that all such plugins have, in one form of each."""
        return settings_of(
            {
                "include": self.selection.include,
                "exclude": self.selection.exclude or None,
                "boundary": self.boundaries.boundary,
            }
        )

    @property
    @abstractmethod
    def strength(self) -> float:
        """What ``Σ F (θ − θ*)²`` is multiplied by."""

    @property
    def _asked(self) -> float:
        """The strength that was asked for."""
        return self.strength

    @property
    @abstractmethod
    def is_off(self) -> bool:
        """Whether the strength is zero for good, so that nothing is to be done."""

    @property
    def health(self) -> PenaltyHealth:
        """What the penalty is like, and what it does to training: figures of the steps
        of this experience, or of the last one that had any."""
        return PenaltyHealth(
            self.consolidations,
            self.strength,
            self.strength / self._asked if self._asked else 1.0,
            self.quadratic.nonzero_share(),
            self._mass_lost,
            self._figures.penalty_over_loss,
            self._figures.gradient_ratio,
        )

    # In any loop

    def penalty(self, model: nn.Module) -> Tensor:
        """The penalty at the model's parameters, to be added to the loss of a step.

        Call it once a step, after the forward pass and before the backward pass; of
        several that add up their gradients before a step, add it to the loss of the last
        one, at whose end the step's gradient is complete. Add it as it is: what
        multiplies the sum, such as a gradient scaler, is seen, and Synaptic Intelligence
        takes a factor of the penalty alone for such a one; its strength is an argument.
        Without gradients (``torch.no_grad``) it is a value to look at, and no step.

        :raises ValueError: where what is kept is of another model.
        """
        return self._penalty(model, None)

    def _penalty(self, model: nn.Module, loss: Tensor | None) -> Tensor:
        if self.is_off:
            zero = next(model.parameters()).detach().new_zeros(())
            return zero.requires_grad_(torch.is_grad_enabled())
        parameters = self.selection.of(model)
        if self._checked is not parameters:
            self.quadratic.check_model(model)
            self._checked = parameters
        if not torch.is_grad_enabled():
            return self.quadratic(parameters, self.strength)  # to be looked at: no step
        if loss is None:
            self._is_trained(parameters)
        active = bool(self.quadratic.importance) and self.strength != 0
        looked_at = active and self._figures.begin()
        value = self._value(parameters, looked_at)
        if looked_at and loss is not None:
            self._figures.add_losses(value, loss)
        return value

    def _is_trained(self, parameters: Named) -> None:
        """In a loop nothing else tells that another run has begun."""
        self._used = True
        before, self._trained = self._trained, parameters
        if before is None or before is parameters or not self.consolidations:
            return
        if are_others(before, parameters):
            warnings.warn(
                f"this {type(self).__name__} holds another model's parameters, those of "
                "this one are not where its last experience left them: make a new plugin "
                "for each run (each seed)",
                stacklevel=4,
            )

    def _value(self, parameters: Named, looked_at: bool) -> Tensor:
        """The penalty, with what is to be done at the end of the backward pass."""
        done = self._look if looked_at else None
        return self.quadratic(parameters, self.strength, done)

    def _look(self, found: BackwardPass) -> None:
        ratio = self._figures.add_gradients(found, self.selection.selected)
        if not ratio <= _OVERPOWERING:
            self._tell(
                "overpowering",
                f"the penalty of {type(self).__name__} pulls {ratio:.1e} times as hard as "
                f"the rest of the loss: little is learnt so, and with a large learning rate "
                f"training diverges. Lower {self._lower()}",
            )

    # In Avalanche

    def before_training(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Say so where importances of another run are about to be used."""
        last = None if self._trainer is None else self._trainer()
        other = self._trainer is not None and last is not strategy
        if other and self.consolidations and not self.is_off:
            warnings.warn(
                f"this {type(self).__name__} goes on with the importances of another "
                f"run, in this {type(strategy).__name__}: make a new plugin for each "
                "run (each seed)",
                stacklevel=2,
            )
        self._trainer = ref(strategy)

    def before_train_dataset_adaptation(
        self, strategy: Any, *args: Any, **kwargs: Any
    ) -> None:
        """See whether another experience has ended by this, before the model grows."""
        if self.is_off:
            return
        left = self.boundaries.begins(strategy.experience)
        if left is not None:
            self._consolidate(strategy, left)

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Count anew whether penalties are asked for."""
        self._calls = 0

    def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Add the penalty to the loss."""
        self._calls += 1
        if not self.is_off:
            loss = strategy.loss
            penalty = self._penalty(strategy.model, loss)
            strategy.loss = loss + penalty.to(loss.device)

    def after_training_iteration(
        self, strategy: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Renew the penalty where so many iterations are an experience."""
        if not self.is_off and self.boundaries.step():
            self._consolidate(strategy, None)

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Renew the penalty where an experience has ended."""
        if self.is_off:
            return
        if not self._calls and len(strategy.dataloader):
            self._tell(
                "calls",
                f"{type(strategy).__name__} never calls before_backward, so no penalty is "
                f"added to the loss and {type(self).__name__} has no effect: use a "
                "strategy with the full set of callbacks",
            )
        self._look_at_boundary(strategy)
        ended = self.boundaries.ends(strategy.experience)
        if ended is not None:
            self._consolidate(strategy, ended)

    def _look_at_boundary(self, strategy: Any) -> None:
        """Say so where iterations are counted up to a number that is not reached."""
        every, several = self.boundaries.every, strategy.clock.train_exp_counter > 0
        if every is None or self.consolidations or not several:
            return
        if not isinstance(strategy.experience, OnlineCLExperience):
            self._tell(
                "boundary",
                f"boundary={every!r} iterations were not reached by "
                f"{type(self).__name__} in several experiences of together "
                f"{self.boundaries.position}, so that nothing is held yet: give fewer, or "
                "'experience'",
            )

    @abstractmethod
    def _consolidate(self, strategy: Any, experience: Any) -> None:
        """Renew importances and anchors.

        :param experience: that has ended; ``None`` at a boundary by iterations.
        """

    @abstractmethod
    def _why_zero(self) -> str:
        """Cause and remedy of importances that are all zero."""

    def _experience_ends(self, parameters: Named) -> None:
        """Before importances are taken: see whether the penalty did something.

        :raises TrainingDiverged: for parameters that are no numbers, which no importance
            can be taken of.
        """
        # Nothing is known of what was before, in a strategy or a loaded state.
        in_loop = self._trainer is None and self._trained is not None
        self._trained = parameters
        check_parameters(parameters, type(self).__name__, self._lower())
        ratio = self._figures.gradient_ratio if self._figures.seen else None
        if not self.quadratic.nonzero_share():
            return  # which was told when they were taken
        if in_loop and not self._used and self.quadratic.is_left(parameters):
            self._tell(
                "not asked",
                f"parameters were trained since the last update() of "
                f"{type(self).__name__}, and penalty() was not called: add "
                "penalty(model) to the loss of each step",
            )
        if ratio == 0:
            self._tell(
                "still",
                f"{type(self).__name__} held parameters that had not moved: experiences "
                "are so short that each ends where the last one did; give boundary= "
                "a larger number of iterations, or 'origin' on an online stream",
            )
        elif ratio is not None and ratio < _INERT:
            self._tell(
                "inert",
                f"the penalty of {type(self).__name__} does next to nothing: its gradient "
                f"was {ratio:.1e} times as long as that of the rest of the loss, with "
                f"{self.strength_name}={self._strength_said()} and a mean importance of "
                f"{self.quadratic.mean_importance():.1e}: {self._remedy()}",
            )

    def _experience_ended(self) -> None:
        """After importances were taken: see whether there are any."""
        self.consolidations += 1
        self._used = False
        self._figures.end()
        if not self.quadratic.nonzero_share():
            self._tell("zero", self._why_zero())

    @abstractmethod
    def _strength_said(self) -> str:
        """The strength as the user gave it."""

    def _lower(self) -> str:
        """What to lower where the penalty is too much for training."""
        return f"the learning rate, or {self.strength_name}={self._strength_said()}"

    @abstractmethod
    def _remedy(self) -> str:
        """What to do about a penalty that does nothing."""

    def _tell(self, what: str, text: str) -> None:
        """Warn, once."""
        if what not in self._told:
            self._told.add(what)
            warnings.warn(text, stacklevel=2)

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that training goes on bit for bit; figures of steps that
        :attr:`health` tells begin anew."""
        return {
            "method": type(self).__name__,
            "penalty": self.quadratic.state_dict(),
            "consolidations": self.consolidations,
            "boundaries": self.boundaries.state_dict(),
            "mass_lost": self._mass_lost,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave. The strength and other settings are
        this plugin's own.

        :raises ValueError: for the state of something else, or a part of one. Whether
            its parameters are those of the model is seen when training begins.
        """
        self._check_state(state)
        self.quadratic.load_state_dict(state["penalty"])
        self.consolidations = int(state["consolidations"])
        self.boundaries.load_state_dict(state["boundaries"])
        self._mass_lost = state["mass_lost"]
        self._checked = self._trained = None

    def _check_state(self, state: Any) -> None:
        """Refuse what was not made by :meth:`state_dict` of such a plugin."""
        mapping = isinstance(state, Mapping)
        method = state.get("method", "no plugin") if mapping else type(state).__name__
        if method != type(self).__name__:
            raise ValueError(
                f"the state is of {method}, this plugin is of {type(self).__name__}: give "
                "what its state_dict() returned"
            )
        missing = sorted(self.state_dict().keys() - state.keys())
        if missing:
            raise ValueError(
                f"the state of {type(self).__name__} lacks {', '.join(missing)}: give "
                "all of what its state_dict() returned"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Without the model's parameters and the strategy."""
        return {**self.__dict__, "_checked": None, "_trained": None, "_trainer": None}
