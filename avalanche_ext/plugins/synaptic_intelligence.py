"""Synaptic Intelligence: importance as what each parameter did for the loss."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from avalanche_ext.arguments import check_choice, is_number
from avalanche_ext.parameters import Patterns, grown
from avalanche_ext.path_integral import PathIntegral
from avalanche_ext.penalty_node import BackwardPass, Named
from avalanche_ext.plugins.boundaries import Boundary
from avalanche_ext.plugins.importance import ImportancePlugin
from avalanche_ext.settings import settings_of

Path = Literal["gradient", "squares"]
"""``"gradient"``: ``−g · Δθ`` with the gradient without the penalty; ``"squares"``:
``η g²`` with the whole gradient and the learning rate, as in published code."""

_TINY = 1e-6  # below it, parameters that hardly moved decide everything


class SynapticIntelligencePlugin(ImportancePlugin):
    """Penalty ``c · Σ_i Ω_i (θ_i − θ*_i)²`` with the path integral of the loss.

    At every step ``ω_i ← ω_i − g_i Δθ_i`` with the gradient ``g`` of the loss without
    the penalty and whatever change ``Δθ`` the optimizer made; at the end of an experience
    ``Ω_i ← relu(Ω_i + ω_i / ((θ_i − θ_start,i)² + ξ))``, ``θ* ← θ`` and ``ω ← 0``.

    In a loop of your own:

    >>> model = nn.Linear(4, 3)
    >>> optimizer = torch.optim.Adam(model.parameters(), 0.01)
    >>> si = SynapticIntelligencePlugin(1.0)
    >>> for _ in range(2):  # experiences
    ...     for _ in range(20):
    ...         x, y = torch.randn(8, 4), torch.arange(8) % 3
    ...         optimizer.zero_grad()
    ...         loss = nn.functional.cross_entropy(model(x), y) + si.penalty(model)
    ...         loss.backward()
    ...         optimizer.step()
    ...     si.update(model)
    >>> si.health.consolidations
    2

    F. Zenke, B. Poole, S. Ganguli, Continual learning through synaptic intelligence,
    ICML 2017. The relu is that of the authors' code, not of the paper. Upstream's plugin
    of this name follows D. Maltoni and V. Lomonaco (2019), whose ``λ`` is ``2c``.

    :param si_lambda: ``c ≥ 0``, or one for each experience, the last one for all that
        follow. 0 for all is plain training, bit for bit.
    :param eps: ``ξ > 0``.
    :param excluded_parameters: patterns of names that are not held, upstream's name for
        ``exclude``.
    :param device: upstream's; what is kept lives where the parameters are.
    :param include: patterns of names of the parameters that are held; ``None`` for all.
    :param exclude: patterns of names that are not. Frozen parameters never are.
    :param boundary: where an experience ends: ``"origin"``, ``"experience"`` or a number
        of iterations, see :data:`~avalanche_ext.plugins.boundaries.Boundary`.
    :param path: ``"squares"`` takes ``η g²`` for ``−g Δθ``, ``g`` with the penalty; it is
        for figures that were published with it, and for Avalanche's strategies alone.
    :param clip_value: before each update gradients are clipped to ``±clip_value``, which
        such figures were trained with; ``None`` for none.
    :raises ValueError: for values outside what is said here.
    """

    strength_name = "si_lambda"

    def __init__(
        self,
        si_lambda: float | Sequence[float],
        eps: float = 0.1,
        excluded_parameters: Patterns | None = None,
        device: Any = "as_strategy",
        *,
        include: Patterns | None = None,
        exclude: Patterns | None = None,
        boundary: Boundary = "origin",
        path: Path = "gradient",
        clip_value: float | None = None,
    ) -> None:
        if excluded_parameters is not None and exclude is not None:
            raise ValueError(
                "excluded_parameters and exclude are two names of one thing: give one"
            )
        left_out = excluded_parameters if exclude is None else exclude
        super().__init__(include, left_out, boundary)
        self.si_lambda = _strengths(si_lambda)
        if not is_number(eps) or not 0 < eps < math.inf:
            raise ValueError(f"eps must be a number above 0, got {eps!r}: 0.1 is usual")
        if eps <= _TINY:
            warnings.warn(
                f"eps={eps:g} divides by next to nothing where a parameter hardly moved, "
                "so that such parameters get the largest importances (upstream's default "
                "is 1e-7): the paper's values lie between 1e-3 and 1, 0.1 is the default "
                "here",
                stacklevel=2,
            )
        self.eps = float(eps)
        check_choice("path", path, get_args(Path))
        if clip_value is not None and not (is_number(clip_value) and clip_value > 0):
            raise ValueError(
                f"clip_value must be a number above 0, or None, got {clip_value!r}"
            )
        self.device = device
        self.path = path
        self.clip_value = clip_value
        self.integral = PathIntegral()
        """``ω`` of this experience."""
        self._settings = {
            **self._shared_settings(),
            **settings_of(
                {
                    "si_lambda": self.si_lambda,
                    "eps": self.eps,
                    "path": path,
                    "clip_value": clip_value,
                }
            ),
        }

    def __repr__(self) -> str:
        shown: Any = self.si_lambda[0] if len(self.si_lambda) == 1 else self.si_lambda
        return (
            f"{type(self).__name__}({shown}, eps={self.eps}, path={self.path!r}, "
            f"consolidations={self.consolidations})"
        )

    @property
    def is_off(self) -> bool:
        """Whether ``c`` is 0 in all experiences."""
        return not any(self.si_lambda)

    @property
    def strength(self) -> float:
        """``c`` of this experience."""
        return self.si_lambda[min(self.consolidations, len(self.si_lambda) - 1)]

    def update(self, model: nn.Module) -> None:
        """Take the importances at the end of an experience, and anchor there.

        :raises ValueError: where what is kept is of another model.
        """
        if self.is_off:
            return
        parameters = self.selection.of(model)
        self.quadratic.check_model(model)
        self._experience_ends(parameters)
        self.integral.advance(parameters)
        found = self.integral.importance(parameters, self.eps)
        lost = total = 0.0
        renewed = {}
        for name, new in found.items():
            before = self.quadratic.importance.get(name)
            if before is not None:
                new = new + grown(before, new)
            renewed[name] = new.clamp(min=0)
            lost += float((renewed[name] - new).sum(dtype=torch.float64))
            total += float(new.abs().sum(dtype=torch.float64))
        self.quadratic.renew(parameters, renewed)
        self._mass_lost = lost / total if total else 0.0
        self.integral.restart()
        self._experience_ended()

    def _value(self, parameters: Named, looked_at: bool) -> Tensor:
        if self.path == "squares":
            self.integral.advance(parameters)
            return super()._value(parameters, looked_at)
        done = self._look_and_record if looked_at else self.integral.record
        steps = self.integral.begin(parameters)
        value = self.quadratic(parameters, self.strength, done, steps)
        for step in steps.values():
            step.advance()  # of parameters of which no importance is kept yet
        return value

    def _look_and_record(self, found: BackwardPass) -> None:
        self._look(found)  # before the slope takes the place of the penalty's gradient
        self.integral.record(found)

    # In Avalanche

    def before_training(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Say so where upstream's ``device`` would have meant another one."""
        super().before_training(strategy, *args, **kwargs)
        if self.device != "as_strategy" and (
            torch.device(self.device).type != torch.device(strategy.device).type
        ):
            self._tell(
                "device",
                f"device={self.device!r} has no effect: importances live where the "
                f"parameters are, on {strategy.device}; leave it out",
            )

    def after_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Clip and square gradients where published code did."""
        if self.is_off:
            return
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(strategy.model.parameters(), self.clip_value)
        if self.path == "squares":
            rates = {
                id(parameter): float(group["lr"])
                for group in strategy.optimizer.param_groups
                for parameter in group["params"]
            }
            self.integral.add_squares(self.selection.selected, rates)

    def _consolidate(self, strategy: Any, experience: Any) -> None:
        self.update(strategy.model)

    def _why_zero(self) -> str:
        return (
            f"the importances of {type(self).__name__} are all zero, so that it has no "
            "effect: no backward pass of a loss with its penalty changed a parameter in "
            "a way that lowered the loss; see that the parameters it holds are trained, "
            "by a strategy that calls backward() on strategy.loss, or in a loop of your "
            "own that adds penalty(model) to the loss and calls backward()"
        )

    def _strength_said(self) -> str:
        return f"{self.strength:g}"

    def _remedy(self) -> str:
        return "raise it, by powers of ten"

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that training goes on bit for bit."""
        return {**super().state_dict(), "integral": self.integral.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        :raises ValueError: for the state of something else.
        """
        super().load_state_dict(state)
        self.integral.load_state_dict(state["integral"])


def _strengths(given: Any) -> tuple[float, ...]:
    listed = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if not listed or not all(is_number(c) and 0 <= c < math.inf for c in listed):
        raise ValueError(
            "si_lambda must be a number of 0 or more, or a list of such numbers, one an "
            f"experience, got {given!r}"
        )
    return tuple(map(float, listed))
