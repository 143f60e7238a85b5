"""The path integral of Synaptic Intelligence: how much each parameter lowered the loss."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avalanche_ext import compiled
from avalanche_ext.parameters import grown
from avalanche_ext.penalty import BackwardPass, Named, is_one, scratch


class PathIntegral:
    """``ω ← ω − g · Δθ`` at each step, by parameter.

    ``g`` is the gradient of the loss without the penalty, recorded at the end of the
    backward pass (:meth:`record`), ``Δθ`` what the optimizer made of it, seen when the
    next step begins (:meth:`advance`). So it does not matter what else clips or projects
    gradients, nor which optimizer there is. With small steps of gradient descent on the
    whole data ``Σ ω`` is what the loss has decreased by.
    """

    def __init__(self) -> None:
        self.integral: dict[str, Tensor] = {}
        """``ω`` since the last :meth:`restart`."""
        self.start: dict[str, Tensor] = {}
        """``θ`` at that time."""
        self._last: dict[str, Tensor] = {}  # θ where the step that is under way began
        self._slope: dict[str, Tensor] = {}  # −g there
        self._pending = False
        self._steps: _Steps | None = None

    def advance(self, parameters: Named) -> None:
        """Finish the step that is under way, and begin another at the parameters' values.

        Parameters that are new, or the new entries of one that has grown, begin here.
        """
        steps = self._steps
        if steps is not None and steps.parameters is not parameters:
            self._finish(steps)  # where they were, as they were
            steps = None
        if steps is None:
            steps = self._steps = self._ready(parameters)
        self._finish(steps)

    def _finish(self, steps: "_Steps") -> None:
        for advance in steps.advances:
            advance(self._pending)
        self._pending = False

    @property
    def slopes(self) -> dict[str, Tensor]:
        """Where :meth:`record` expects the penalty's own gradient, by parameter."""
        return self._slope

    def record(self, found: BackwardPass) -> None:
        """Take the gradient of the losses other than the penalty, of ``found``'s pass.

        It is ``grad / scale`` minus the penalty's own gradient; entries that overflow
        under loss scaling count as 0, since then no step is made.
        """
        steps = self._steps
        assert steps is not None, "advance() comes first"
        if all(parameter.grad is None for parameter in steps.parameters.values()):
            return  # a pass that leaves no gradient is not that of a step
        held = {id(gradient) for _, gradient in found.gradients}
        one = is_one(found.scale)
        for name, parameter in steps.parameters.items():
            gradient, slope = parameter.grad, self._slope[name]
            if id(slope) not in held:
                slope.zero_()
            if gradient is None:
                # No other loss depends on it; the penalty's own gradient is no part.
                slope.zero_()
                continue
            if gradient.is_sparse:
                gradient = gradient.to_dense()
            if one:
                slope.sub_(gradient)
            else:
                slope.sub_(gradient / found.scale.to(gradient))
                slope.nan_to_num_(0.0, 0.0, 0.0)
        self._pending = True

    def add_squares(self, parameters: Named, rates: Mapping[int, float]) -> None:
        """``ω ← ω + η g²`` with whatever is in ``.grad``: the published code's way, equal
        to the path integral of plain gradient descent with that gradient alone.

        :param rates: ``η`` by the ``id`` of the parameter.
        """
        for name, parameter in parameters.items():
            gradient, rate = parameter.grad, rates.get(id(parameter), 0.0)
            if gradient is not None and name in self.integral:
                if gradient.is_sparse:
                    gradient = gradient.to_dense()
                self.integral[name].addcmul_(gradient, gradient, value=rate)
        self._pending = False

    def importance(self, parameters: Named, eps: float) -> dict[str, Tensor]:
        """``ω / ((θ − θ_start)² + eps)`` by parameter."""
        return {
            name: self.integral[name]
            / (parameter.detach() - self.start[name]).square_().add_(eps)
            for name, parameter in parameters.items()
            if name in self.integral
        }

    def total(self) -> float:
        """``Σ ω`` of all parameters."""
        return float(sum(v.sum(dtype=torch.float64) for v in self.integral.values()))

    def restart(self) -> None:
        """Begin anew, wherever the parameters are when the next step begins."""
        self.integral, self.start, self._last, self._slope = {}, {}, {}, {}
        self._pending, self._steps = False, None

    def _ready(self, parameters: Named) -> "_Steps":
        shared: dict[Any, Tensor] = {}
        largest = max(parameter.numel() for parameter in parameters.values())
        advances = []
        for name, parameter in parameters.items():
            at = parameter.detach()
            _kept(self.start, name, at, at)
            last = _kept(self._last, name, at, at)
            slope = _kept(self._slope, name, at, 0.0)
            integral = _kept(self.integral, name, at, 0.0)
            moved = scratch(last, shared, largest)
            advances.append(_Advance(at, last, slope, integral, moved))
        return _Steps(parameters, advances)

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that training goes on bit for bit."""
        under_way = {"last": self._last, "slope": self._slope} if self._pending else {}
        return {
            "integral": dict(self.integral),
            "start": dict(self.start),
            **{name: dict(values) for name, values in under_way.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        :raises ValueError: for anything else.
        """
        integral, start = state.get("integral"), state.get("start")
        if integral is None or start is None or integral.keys() != start.keys():
            raise ValueError(
                f"the state has the parts {sorted(state)}, and it must have an integral "
                "and a start of the same parameters: give what state_dict() returned"
            )
        self.restart()
        self.integral, self.start = _copies(integral), _copies(start)
        self._last = _copies(state.get("last", {}))
        self._slope = _copies(state.get("slope", {}))
        self._pending = "slope" in state

    def __getstate__(self) -> dict[str, Any]:
        """Without views of a model's parameters."""
        return {**self.__dict__, "_steps": None}


class _Steps:
    """What a step needs, made ready for the parameters of a model."""

    def __init__(self, parameters: Named, advances: "list[_Advance]") -> None:
        self.parameters = parameters
        self.advances = advances


class _Advance:
    """``ω ← ω − g · Δθ`` of a parameter.

    :param at: ``θ``, as it is whenever this is called.
    :param last: ``θ`` at the last call.
    :param slope: ``−g`` there.
    :param integral: ``ω``.
    :param moved: memory that is used up in a call.
    """

    def __init__(
        self, at: Tensor, last: Tensor, slope: Tensor, integral: Tensor, moved: Tensor
    ) -> None:
        self._tensors = at, last, slope, integral, moved
        self._arrays = compiled.arrays(at, last, slope, integral)

    def __call__(self, pending: bool) -> None:
        """To where ``θ`` is now.

        :param pending: whether that was a step; it counts for nothing else.
        """
        at, last, slope, integral, moved = self._tensors
        if pending and self._arrays is not None:
            compiled.advance(*self._arrays)
            return
        if pending:
            torch.sub(at, last, out=moved)
            integral.addcmul_(moved, slope)
        last.copy_(at)


def _kept(
    values: dict[str, Tensor], name: str, at: Tensor, fill: Tensor | float
) -> Tensor:
    """The values of a parameter as it is now; what it is new in has ``fill``."""
    if name in values:
        values[name] = grown(values[name], at, fill)
    else:
        kind = torch.promote_types(at.dtype, torch.float32)
        made = torch.empty_like(at, dtype=kind)
        values[name] = (
            made.copy_(fill) if isinstance(fill, Tensor) else made.fill_(fill)
        )
    return values[name]


def _copies(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in values.items()}
